"""This machine as a target: every lane there is, wired to what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from assent.bootstrap.settings_web import WebSettings
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.files import FileLane
from assent.execution.adapters.functions import FunctionLane
from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.jsonrpc import RpcLane
from assent.execution.adapters.local import LocalTarget
from assent.execution.adapters.mcp import McpLane
from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.python import PythonLane
from assent.execution.adapters.sse import SseLane
from assent.execution.adapters.terminal import TerminalLane
from assent.execution.adapters.wasm import WasmLane
from assent.execution.adapters.websocket import WebSocketLane
from assent.execution.adapters.wires.plans import RoadPlan
from assent.execution.functions import Callee
from assent.execution.orders import (
    FileOrder,
    FunctionOrder,
    HttpOrder,
    McpOrder,
    ProcessOrder,
    PythonOrder,
    RpcOrder,
    SseOrder,
    TerminalOrder,
    WasmOrder,
    WebSocketOrder,
)
from assent.execution.ports import Lane, Secrets, Target
from assent.operations.assistant import ASSISTANT
from assent.operations.functions import offered
from assent.operations.scripts import PLAYED
from assent.primitives.clock import Clock, Entropy

NO_CALLEES: Mapping[str, Callee] = {}


def own_targets(
    clock: Clock,
    entropy: Entropy,
    data: Path,
    lanes: Mapping[type, Lane] | None,
    functions: Iterable[Callable[..., Any]] = (),
    *,
    web: WebSettings | None = None,
    callees: Mapping[str, Callee] = NO_CALLEES,
    secrets: Secrets | None = None,
) -> list[Target]:
    """This machine, with the lanes that are given or with all there are; `functions` are those of the host program,
    `callees` Assent's own, `secrets` know what the handles of credentials name."""
    if lanes is not None:
        return [LocalTarget(lanes=lanes, clock=clock)]
    artefacts = ArtefactFolder(data / "artefacts", entropy=entropy)
    process = ProcessLane(clock=clock, state_dir=data / "sandbox", artefacts=artefacts)
    web = web or WebSettings()
    roads = RoadPlan(tls=web.tls, proxy=web.proxy)
    http = HttpLane(clock=clock, entropy=entropy, artefacts=artefacts, tls=web.tls, proxy=web.proxy, secrets=secrets)
    own: dict[type, Lane] = {  # closed in this order: what is built on others first
        McpOrder: McpLane(clock=clock, entropy=entropy, process=process, http=http, artefacts=artefacts),
        RpcOrder: RpcLane(clock=clock, entropy=entropy, process=process, http=http, artefacts=artefacts),
        TerminalOrder: TerminalLane(clock=clock, process=process, artefacts=artefacts),
        ProcessOrder: process,
        HttpOrder: http,
        SseOrder: SseLane(clock=clock, entropy=entropy, artefacts=artefacts, roads=roads),
        WebSocketOrder: WebSocketLane(clock=clock, entropy=entropy, artefacts=artefacts, roads=roads),
        FileOrder: FileLane(clock=clock),
        FunctionOrder: FunctionLane(
            clock=clock,
            functions={
                **PLAYED,
                **callees,
                **{o.operation.contract.name: o.callee for o in offered((*functions, *ASSISTANT)) if o.callee},
            },
        ),
        PythonOrder: PythonLane(
            clock=clock, entropy=entropy, protected=[data], artefacts=artefacts, tested=process.selftest
        ),
        WasmOrder: WasmLane(
            clock=clock, entropy=entropy, protected=[data], artefacts=artefacts, tested=process.selftest
        ),
    }
    return [LocalTarget(lanes=own, clock=clock, probe=process.offers)]
