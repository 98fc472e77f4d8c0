"""Lanes that speak, over real programs in real sandboxes and real servers on loopback."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.jsonrpc import RpcLane
from assent.execution.adapters.process import ProcessLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import HttpOrder, Limits, ProcessOrder, RpcCall, RpcOrder
from assent.execution.outcomes import Outcome, StreamEvent
from assent.execution.ports import Lane
from tests.execution.sites import RealClock

HERE = Path(__file__).parent
NAMESPACED = ConfinementClass.NAMESPACED
STATE = Path(tempfile.gettempdir()) / f"assent-rpc-tests-{os.getuid()}"
LIMITS = Limits(wall_ms=30_000, output_bytes_max=64 * 1_048_576, grace_ms=200)


class World:
    """One workspace, and the lanes in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        self.workspace.chmod(0o777)
        shutil.copy(HERE / "rpc_peer_program.py", self.workspace / "peer.py")
        self.artefacts = ArtefactFolder(folder / "artefacts", entropy=os.urandom)
        self.process = ProcessLane(clock=RealClock(), state_dir=STATE)
        self.http = HttpLane(clock=RealClock())
        self.rpc = RpcLane(
            clock=RealClock(), entropy=os.urandom, process=self.process, http=self.http, artefacts=self.artefacts
        )

    def program(self, *argv: str, **fields: Any) -> ProcessOrder:
        return ProcessOrder(argv=argv, workspace=str(self.workspace), **fields)

    def peer(self, mode: str, *more: str) -> ProcessOrder:
        return self.program("python3", "-I", "-S", "peer.py", mode, *more)

    def told(self) -> str:
        """What the peer was told."""
        path = self.workspace / "told.txt"
        return path.read_text() if path.exists() else ""


def reachable_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="assent-rpc-"))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A folder that an ordinary user inside a sandbox can reach, and everything in it."""
    made = World(reachable_folder())
    try:
        yield made
    finally:
        await made.http.close()
        await made.process.close()
        shutil.rmtree(made.folder)


def calls(*methods: str | tuple[str, str], **more: Any) -> tuple[RpcCall, ...]:
    """Calls by name, or by name and parameters."""
    pairs = [(one, "") if isinstance(one, str) else one for one in methods]
    return tuple(RpcCall(method=method, params=params, **more) for method, params in pairs)


def rpc(peer: ProcessOrder | HttpOrder, *made: RpcCall, **more: Any) -> RpcOrder:
    return RpcOrder(peer=peer, calls=made, **{"limits": LIMITS, **more})


async def carried(lane: Lane, order: Any, *, floor: ConfinementClass = NAMESPACED, **more: Any) -> Outcome:
    return await lane.carry(order, floor=floor, on_event=more.pop("on_event", ignore), **more)


def ignore(_event: StreamEvent) -> None:
    """Nobody listens."""
