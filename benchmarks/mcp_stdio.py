"""What the gate costs on a warm MCP connection: one tool, one server program, two clients.

Measured     the p50 of `tools/call` through the mcp lane, from order to outcome with its evidence, in a kept session;
             the server runs in the sandbox and its tool is compared with the admitted definition before every call.
Yardstick    the official SDK's own client (`ClientSession` over `stdio_client`) with the same server, the official
             SDK's, started bare. Calls alternate, so both see the same machine.
Target       ≤ 1.3 × at p50. For information: the same lane with a small server of the standard library's, which shows
             what the lane itself takes.
Repeat       python -m benchmarks.mcp_stdio [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.mcp import McpLane
from assent.execution.adapters.process import ProcessLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Limits, McpOrder, ProcessOrder
from assent.execution.outcomes import Outcome, StreamEvent
from benchmarks.reporting import arguments, result

TIMES_MAX = 1.3
LIMITS = Limits(wall_ms=60_000, cpu_s_max=600)
SDK_SERVER = '''
from mcp.server.mcpserver import MCPServer
server = MCPServer("bench")
@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
server.run("stdio")
'''
SMALL_SERVER = """
import json, sys
TOOL = {"name": "add", "description": "Add two numbers.", "inputSchema": {"type": "object"}}
RESULTS = {
    "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "small"}},
    "tools/list": {"tools": [TOOL]},
}
for line in sys.stdin:
    call = json.loads(line)
    if "id" in call:
        given = call["params"].get("arguments", {})
        done = {"content": [{"type": "text", "text": str(given.get("a", 0) + given.get("b", 0))}]}
        answer = {"jsonrpc": "2.0", "id": call["id"], "result": RESULTS.get(call["method"], done)}
        print(json.dumps(answer), flush=True)
"""
Call = Callable[[int], Awaitable[str]]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    print(__doc__)
    # A workspace of its own below /tmp, because other folders may not be visible to a confined user.
    with tempfile.TemporaryDirectory(prefix="assent-bench-") as made:
        Path(made).chmod(0o755)
        asyncio.run(_main(Path(made), calls=100 if options.quick else 1_500))


async def _main(made: Path, *, calls: int) -> None:
    workspace = made / "workspace"
    workspace.mkdir(mode=0o755)
    (workspace / "sdk.py").write_text(SDK_SERVER, encoding="utf-8")
    (workspace / "small.py").write_text(SMALL_SERVER, encoding="utf-8")
    async with AsyncExitStack() as stack:
        lane = _lane(made, stack)
        arms: dict[str, Call] = {
            "the SDK's client, bare": await _sdk_client(workspace, stack),
            "the mcp lane, confined": await _through(lane, workspace, "sdk.py"),
            "the mcp lane, a small server": await _through(lane, workspace, "small.py"),
        }
        taken = await _in_turn(arms, calls=calls)
    for name, times in taken.items():
        print(f"  {name:<30} p50 {statistics.median(times):7.3f} ms  p99 {_quantile(times, 0.99):7.3f} ms")
    sdk, ours, _ = (statistics.median(times) for times in taken.values())
    result("tools/call on a warm stdio session: the mcp lane and the jail to the SDK's own client, p50", ours / sdk,
           at_most=TIMES_MAX)  # fmt: skip


def _lane(made: Path, stack: AsyncExitStack) -> McpLane:
    clock, entropy = SystemClock(), SystemEntropy()
    process = ProcessLane(clock=clock, state_dir=made / "state")
    http = HttpLane(clock=clock)
    lane = McpLane(clock=clock, entropy=entropy, process=process, http=http)
    for one in (http, process, lane):
        stack.push_async_callback(one.close)
    return lane


async def _through(lane: McpLane, workspace: Path, program: str) -> Call:
    peer = ProcessOrder(argv=(sys.executable, program), workspace=str(workspace))
    listed = await _carried(lane, McpOrder(peer=peer, verb="list", session="bench", limits=LIMITS))
    definition = listed.value["digests"]["add"]

    async def call(number: int) -> str:
        order = McpOrder(
            peer=peer,
            tool="add",
            arguments=f'{{"a":{number},"b":1}}',
            definition=definition,
            session="bench",
            limits=LIMITS,
        )
        outcome = await _carried(lane, order)
        text: str = outcome.value["content"][0]["text"]
        return text

    return call


async def _carried(lane: McpLane, order: McpOrder) -> Outcome:
    outcome = await lane.carry(order, floor=ConfinementClass.CONFINED, on_event=_ignore)
    if outcome.code != "ok":
        raise RuntimeError(f"{outcome.code}: {outcome.message}")
    return outcome


async def _sdk_client(workspace: Path, stack: AsyncExitStack) -> Call:
    from mcp import ClientSession, StdioServerParameters, stdio_client
    from mcp_types import TextContent

    server = StdioServerParameters(command=sys.executable, args=[str(workspace / "sdk.py")])
    streams = await stack.enter_async_context(stdio_client(server))
    session = await stack.enter_async_context(ClientSession(*streams))
    await session.initialize()
    await session.list_tools()

    async def call(number: int) -> str:
        found = await session.call_tool("add", {"a": number, "b": 1})
        block = found.content[0]
        assert isinstance(block, TextContent)
        return block.text

    return call


async def _in_turn(arms: dict[str, Call], *, calls: int) -> dict[str, list[float]]:
    """Each arm once a round; the first rounds, in which caches fill, do not count."""
    warm = calls // 10
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(calls + warm):
        for name, call in arms.items():
            began_s = time.perf_counter()
            answer = await call(number)
            taken[name].append(1e3 * (time.perf_counter() - began_s))
            if answer != str(number + 1):
                raise RuntimeError(f"`{name}` answered `{answer}` to {number} + 1")
    return {name: times[warm:] for name, times in taken.items()}


def _quantile(times: list[float], part: float) -> float:
    return sorted(times)[int(part * (len(times) - 1))]


def _ignore(_event: StreamEvent) -> None:
    """Nobody listens."""


if __name__ == "__main__":
    main()
