"""MCP orders for the tests, and the official SDK's server to send them to."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from assent.execution.adapters.mcp import McpLane
from assent.execution.orders import HttpOrder, McpOrder, ProcessOrder
from assent.execution.outcomes import Outcome
from tests.execution.rpc_world import LIMITS, World, carried, world
from tests.execution.sites import RealClock

HERE = Path(__file__).parent


class McpWorld:
    """A `World` with an mcp lane and the peers of the tests in its workspace."""

    def __init__(self, made: World, **options: Any) -> None:
        self.world = made
        for name in ("mcp_sdk_server.py", "mcp_peer_program.py"):
            shutil.copy(HERE / name, made.workspace / name)
        self.lane = McpLane(
            clock=RealClock(),
            entropy=os.urandom,
            process=made.process,
            http=made.http,
            artefacts=made.artefacts,
            **options,
        )

    def sdk(self, how: str = "stdio") -> ProcessOrder:
        return self.world.program(sys.executable, "mcp_sdk_server.py", how)

    def peer(self, mode: str, *more: str) -> ProcessOrder:
        return self.world.program("python3", "-I", "-S", "mcp_peer_program.py", mode, *more)

    async def list(self, peer: ProcessOrder | HttpOrder, **more: Any) -> Outcome:
        return await carried(self.lane, McpOrder(peer=peer, verb="list", **{"limits": LIMITS, **more}))

    async def admitted(self, peer: ProcessOrder | HttpOrder, **more: Any) -> dict[str, str]:
        """The digests of the server's tools, as somebody who admits them would see them."""
        outcome = await self.list(peer, **more)
        assert outcome.code == "ok", outcome.message
        digests: dict[str, str] = outcome.value["digests"]
        return digests

    async def call(self, peer: ProcessOrder | HttpOrder, tool: str, definition: str, **more: Any) -> Outcome:
        beside = {name: more.pop(name) for name in ("on_event", "floor", "steering") if name in more}
        order = McpOrder(peer=peer, tool=tool, definition=definition, **{"limits": LIMITS, **more})
        return await carried(self.lane, order, **beside)


@contextlib.asynccontextmanager
async def mcp_world(**options: Any) -> AsyncIterator[McpWorld]:
    async with world() as made:
        found = McpWorld(made, **options)
        try:
            yield found
        finally:
            await found.lane.close()


@contextlib.contextmanager
def sdk_site(*flavours: str) -> Iterator[HttpOrder]:
    """The SDK's server behind an address."""
    command = [sys.executable, str(HERE / "mcp_sdk_server.py"), "http", *flavours]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        where = f"127.0.0.1:{port}"
        yield HttpOrder(method="POST", url=f"http://{where}/mcp", hosts=(where,))
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
