"""A large output through every lane: how much the memory of the node grows while it passes.

Measured     the peak of resident memory while 100 MB come through a lane and are kept (as an artefact), less the peak
             of the same lane while 1 MB did. Each lane in a process of its own, its source in another. An MCP server's
             results are bounded one by one, so there it is a hundred calls of one session. SSH is a real sshd.
Yardstick    the output itself: what memory would grow by if it were collected. The ratio is growth over output.
Target       constant memory: ≤ 0.15 of the output (15 MB, a few buffers), for every lane that hands up output.
Repeat       python -m benchmarks.output [--quick] [LANE …]
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from assent.bootstrap.own_machine import own_targets
from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.ssh import SshTarget
from assent.execution.attestations import ConfinementClass
from assent.execution.mcp_tools import definition_digest
from assent.execution.orders import (
    HttpOrder,
    Limits,
    McpOrder,
    Order,
    ProcessOrder,
    PythonOrder,
    RpcCall,
    RpcOrder,
    SseOrder,
    TerminalOrder,
    WasmOrder,
    WebSocketOrder,
)
from assent.execution.outcomes import Ending, StreamEvent
from assent.execution.ports import Target
from assent.primitives.digests import digest
from benchmarks.reporting import arguments, result
from tests.execution.ssh_site import SshSite

OUTPUT_BYTES = 100_000_000
SMALL_BYTES = 1_000_000
GROWTH_MAX = 0.15
_PIECE = 50_000
LIMITS = Limits(wall_ms=300_000, output_bytes_max=1_000_000_000, cpu_s_max=300)

# Sources, each in a process of its own: they print their port and serve for ever.
_HTTP = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        kind, size = self.path.strip("/").split("/")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if kind == "sse" else "application/octet-stream")
        self.send_header("Connection", "close")
        self.close_connection = True
        if kind == "body":
            self.send_header("Content-Length", size)
        self.end_headers()
        left, piece = int(size), b"x" * PIECE
        event = b"data: " + piece + b"\\n\\n"
        while left > 0:
            self.wfile.write(piece[:left] if kind == "body" else event)
            left -= len(piece)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
""".replace("PIECE", str(_PIECE))
_WEBSOCKET = """
import asyncio, websockets
async def serve(connection):
    left = int(connection.request.path.rpartition("/")[2])
    while left > 0:
        await connection.send(b"x" * PIECE)
        left -= PIECE
async def main():
    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
""".replace("PIECE", str(_PIECE))
_RPC = """
import json, sys
for line in sys.stdin:
    call = json.loads(line)
    if "id" in call:
        print(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": "x" * call["params"]["size"]}), flush=True)
"""
_MCP = """
import json, sys
TOOL = {"name": "give", "description": "x", "inputSchema": {"type": "object"}}
for line in sys.stdin:
    call = json.loads(line)
    if "id" not in call:
        continue
    results = {
        "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}},
        "tools/list": {"tools": [TOOL]},
        "tools/call": {"content": [{"type": "text", "text": "x" * 1_000_000}]},
    }
    print(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": results.get(call["method"], {})}), flush=True)
"""
_TOOL = {"name": "give", "description": "x", "inputSchema": {"type": "object"}}
_WASM = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "give") (param $left i32)
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 50000))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $left) (i32.const 0))))))
"""
_FLOOD = "import sys\nfor _ in range({size} // 50000): sys.stdout.write('x' * 50000)\n"

Make = Callable[[str, int, int], Order | Sequence[Order]]


def _process(workspace: str, size: int, _port: int) -> Order:
    return ProcessOrder(argv=("head", "-c", str(size), "/dev/zero"), workspace=workspace, limits=LIMITS)


def _python(workspace: str, size: int, _port: int) -> Order:
    return PythonOrder(source=_FLOOD.format(size=size), workspace=workspace, limits=LIMITS)


def _http(_workspace: str, size: int, port: int) -> Order:
    hosts = (f"127.0.0.1:{port}",)
    return HttpOrder(method="GET", url=f"http://127.0.0.1:{port}/body/{size}", hosts=hosts, limits=LIMITS)


def _sse(_workspace: str, size: int, port: int) -> Order:
    hosts = (f"127.0.0.1:{port}",)
    return SseOrder(url=f"http://127.0.0.1:{port}/sse/{size}", hosts=hosts, reconnects_max=0, limits=LIMITS)


def _websocket(_workspace: str, size: int, port: int) -> Order:
    return WebSocketOrder(url=f"ws://127.0.0.1:{port}/{size}", hosts=(f"127.0.0.1:{port}",), limits=LIMITS)


def _jsonrpc(workspace: str, size: int, _port: int) -> Order:
    call = RpcCall(method="give", params=json.dumps({"size": SMALL_BYTES}))
    peer = ProcessOrder(argv=("python3", "-c", _RPC), workspace=workspace)
    return RpcOrder(peer=peer, calls=(call,) * (size // SMALL_BYTES), limits=LIMITS)


def _terminal(workspace: str, size: int, _port: int) -> Order:
    argv = ("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x")
    return TerminalOrder(process=ProcessOrder(argv=argv, workspace=workspace, limits=LIMITS))


def _wasm(workspace: str, size: int, _port: int) -> Order:
    import wasmtime

    module = wasmtime.wat2wasm(_WASM)
    Path(workspace, "give.wasm").write_bytes(module)
    return WasmOrder(
        workspace=workspace, path="give.wasm", module=digest(bytes(module)), function="give",
        arguments=(size // _PIECE,), imports=("wasi_snapshot_preview1",), limits=LIMITS,
    )  # fmt: skip


def _mcp(workspace: str, size: int, _port: int) -> Sequence[Order]:
    peer = ProcessOrder(argv=("python3", "-c", _MCP), workspace=workspace)
    call = McpOrder(peer=peer, tool="give", definition=definition_digest(_TOOL), session="s", limits=LIMITS)
    return (call,) * (size // SMALL_BYTES)


LANES: dict[str, tuple[Make, str]] = {
    "process": (_process, ""),
    "python": (_python, ""),
    "http": (_http, _HTTP),
    "sse": (_sse, _HTTP),
    "websocket": (_websocket, _WEBSOCKET),
    "jsonrpc": (_jsonrpc, ""),
    "mcp": (_mcp, ""),
    "terminal": (_terminal, ""),
    "wasm": (_wasm, ""),
    "ssh": (_process, ""),
}


def main() -> None:
    """Measure each lane in a process of its own, and print."""
    parser = arguments(__doc__)
    parser.add_argument("lanes", nargs="*", metavar="LANE", help=f"some of: {', '.join(LANES)}")
    parser.add_argument("--child", default="", help="(the process that measures one lane)")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(asyncio.run(_measured(options.child, OUTPUT_BYTES // (10 if options.quick else 1)))))
        return
    print(__doc__)
    for name in options.lanes or LANES:
        quick = ["--quick"] if options.quick else []
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.output", "--child", name, *quick],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            sys.exit(f"the {name} lane could not be measured")
        _print(name, json.loads(done.stdout))


def _print(name: str, found: dict[str, float]) -> None:
    grown, size = found["grown_bytes"], found["output_bytes"]
    print(f"  {name:<10} {size / 1e6:,.0f} MB in {found['seconds']:.1f} s, memory grew by {grown / 1e6:.1f} MB")
    result(f"{name} lane: growth of memory over its output", grown / OUTPUT_BYTES, at_most=GROWTH_MAX)


async def _measured(name: str, size: int) -> dict[str, float]:
    make, source = LANES[name]
    with tempfile.TemporaryDirectory(prefix="assent-bench-") as made:
        workspace = os.path.join(made, "workspace")  # noqa: PTH118
        os.mkdir(workspace)  # noqa: PTH102
        with _target(name, Path(made, "data")) as target:
            async with _serving(source) as port:
                small, _ = await _peak(target, make(workspace, SMALL_BYTES, port))
                large, seconds = await _peak(target, make(workspace, size, port))
            await target.close()
    return {"grown_bytes": max(0, large - small), "output_bytes": size, "seconds": seconds}


@contextmanager
def _target(name: str, data: Path) -> Iterator[Target]:
    """This machine with all its lanes; for `ssh` a host that is this machine too."""
    if name != "ssh":
        yield own_targets(SystemClock(), SystemEntropy(), data, None)[0]
        return
    site = SshSite()
    try:
        artefacts = ArtefactFolder(data, entropy=SystemEntropy())
        yield SshTarget(name="ssh", access=site.access, clock=SystemClock(), artefacts=artefacts)
    finally:
        site.close()


async def _peak(target: Target, orders: Order | Sequence[Order]) -> tuple[int, float]:
    """The peak of this process's memory while `orders` are carried, and how long that took."""
    floor = ConfinementClass.REMOTE_ASSERTED if target.name == "ssh" else ConfinementClass.NAMESPACED
    _peak_kb(anew=True)
    began_s = time.perf_counter()
    for order in orders if isinstance(orders, Sequence) else (orders,):
        lane = target.lane(order)
        assert lane is not None
        outcome = await lane.carry(order, floor=floor, on_event=_forget)
        if outcome.ending is not Ending.SUCCEEDED:
            facts = msgspec.json.encode(outcome.evidence.facts)[:2000]
            raise SystemExit(f"{outcome.code}: {outcome.message}\n{facts!r}")
    return _peak_kb() * 1024, time.perf_counter() - began_s


def _forget(_: StreamEvent) -> None:
    return None


def _peak_kb(*, anew: bool = False) -> int:
    """The peak of this process's resident memory; `anew` lets it begin again."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    if anew:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


@asynccontextmanager
async def _serving(source: str) -> AsyncIterator[int]:
    if not source:
        yield 0
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    main()
