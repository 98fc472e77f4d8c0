"""The jsonrpc lane and the mcp lane are `Lane`s, with peers that are programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from assent.execution.mcp_tools import definition_digest
from assent.execution.orders import FileOrder, Limits, McpOrder
from assent.testing.conformance.lanes import LaneCase, LaneSuite
from tests.execution.lane_world import processes_with
from tests.execution.mcp_world import mcp_world
from tests.execution.rpc_world import calls, rpc, world

pytestmark = pytest.mark.slow
LIMITS = Limits(wall_ms=50_000, output_bytes_max=16_777_216, grace_ms=200)
FOREIGN = FileOrder(verb="stat", workspace="/tmp", path="x")
DO = definition_digest({"name": "do", "description": "A tool.", "inputSchema": {"type": "object"}})


class TestRpcLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def a_marker(self, marker: str) -> None:
        self.marker = marker

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        async with world() as here:
            begun = here.workspace / "begun.txt"
            yield LaneCase(
                lane=here.rpc,
                good=rpc(here.peer("well", "-", self.marker), *calls("pid"), limits=LIMITS),
                foreign=FOREIGN,
                malformed=rpc(here.peer("well"), limits=LIMITS),
                endless=rpc(here.peer("loud-and-never", "-", self.marker), *calls("x"), limits=LIMITS),
                flood=rpc(here.peer("shout", "-", self.marker), *calls("x"), limits=LIMITS),
                flood_bytes=2_000_000,
                deeds=lambda: len(begun.read_text()) if begun.exists() else 0,
                running=lambda: len(processes_with(self.marker)),
            )


class TestMcpLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def a_marker(self, marker: str) -> None:
        self.marker = marker

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        async with mcp_world() as here:

            def order(mode: str) -> McpOrder:
                return McpOrder(peer=here.peer(mode, self.marker), tool="do", definition=DO, limits=LIMITS)

            yield LaneCase(
                lane=here.lane,
                good=order("well"),
                foreign=FOREIGN,
                malformed=McpOrder(peer=here.peer("well"), tool="do", limits=LIMITS),
                endless=order("endless"),
                flood=order("floods"),
                flood_bytes=1_100_000,
                deeds=lambda: here.world.told().count("initialize"),
                running=lambda: len(processes_with(self.marker)),
            )
