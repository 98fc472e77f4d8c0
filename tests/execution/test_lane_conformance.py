"""The file lane is a `Lane`. Every other lane's file says the same of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assent.execution.adapters.files import FileLane
from assent.execution.orders import FileOrder, HttpOrder
from assent.testing.clocks import SetClock
from assent.testing.conformance.lanes import LaneCase, LaneSuite


class TestFileLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        lane = FileLane(clock=SetClock())
        good = FileOrder(verb="append", workspace=str(self.folder), path="notes.txt", content=b"x")
        yield LaneCase(
            lane=lane,
            good=good,
            foreign=HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=()),
            malformed=FileOrder(verb="append", workspace=str(self.folder), path="../outside.txt", content=b"x"),
            deeds=lambda: sum(path.stat().st_size for path in self.folder.rglob("*.txt")),
            running=lambda: 0,
            unmet=None,
        )
        await lane.close()
