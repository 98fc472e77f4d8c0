"""What an agent costs beyond its model: a governed turn, the first token, resuming, and sessions that sleep.

- `turn`: one question through the whole path (context, the starter policy, two durable commits, the http lane, reading
  back the record) over the raw exchange with the same server by httpx2; two bare commits are shown beside it.
- `first token`: how much later the first streamed words are shown than over the raw exchange.
- `resume`: reading a run of 1,000 events from its record until it is known what to do next.
- `sessions`: 10,000 sessions as rows: what they cost in memory, and activating one.

    python -m benchmarks.agents [--quick]
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import httpx2

from assent.bootstrap.models import wire_of
from assent.bootstrap.node import Blueprint, Node, open_node
from assent.bootstrap.offering import STANDARD
from assent.ledger.journals import content
from assent.operations.models import Endpoint, ModelOperation
from assent.operations.runs import steps
from assent.operations.runs.events import RunEvent, Words
from assent.operations.runs.questions import Told
from assent.operations.runs.runs import Runs
from assent.operations.scripts import Line, Script, ScriptedCall, ScriptedModel
from assent.policy.principals import KnownPrincipal
from assent.primitives.ids import TenantId
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.messages import Message, ModelRequest, Text, Tool
from assent.testing.models import ModelServer, Reply
from benchmarks.reporting import arguments, result, scratch

TENANT, ANN = TenantId("bench"), "person:ann"
WIRE = "openai-chat"
TURNS, SESSIONS, EVENTS = 200, 10_000, 1_000
POLICY = (files("assent.policy.starter") / "starter.cedar").read_text(encoding="utf-8")
AGENT = AgentDefinition(name="bench", models=("real:some",), tools=("todo",))
PLAYED = AgentDefinition(name="played", models=("play:some",), tools=("todo",), turns_max=10_000)
WORDS = "some words that a model might say " * 8


async def raw(client: httpx2.AsyncClient, url: str) -> tuple[float, float]:
    """One exchange by hand: milliseconds to the first words, and to the end."""
    wire = wire_of(WIRE)
    said = wire.request(
        ModelRequest(
            model="some",
            system=("a system text " * 40,),
            messages=(Message(role="user", parts=(Text(text="hello"),)),),
            tools=(Tool(name="todo", description="a list", schema={"type": "object"}),),
        )
    )
    decoder, first = wire.decoder(content_type=wire.streamed), 0.0
    started = time.perf_counter()
    async with client.stream("POST", url + said.path, headers=dict(said.headers), content=said.body) as answer:
        async for piece in answer.aiter_bytes():
            if decoder.feed(piece) and not first:
                first = time.perf_counter() - started
    decoder.close()
    return first * 1_000, (time.perf_counter() - started) * 1_000


async def governed(node: Node) -> tuple[float, float]:
    """One run of one turn: milliseconds from the question to the first words, and to its answer on record.

    What belongs to the run and not to the turn, its beginning and its end, is outside of the clock.
    """
    run = await node.runs.begin(TENANT, AGENT, "hello", by=ANN)
    story = await node.runs.story(TENANT, run)
    driver = node.runs._driver  # noqa: SLF001 (the turn alone is what is measured)
    first = 0.0
    started = time.perf_counter()

    def tell(event: RunEvent) -> None:
        nonlocal first
        if isinstance(event, Words) and not first:
            first = time.perf_counter() - started

    step = steps.next_step(story)
    assert isinstance(step, steps.Ask)
    await driver._ask(story, step, Told((), (), asyncio.Lock()), tell)  # noqa: SLF001 (as above)
    ended = time.perf_counter() - started
    assert story.answer(1) is not None
    return first * 1_000, ended * 1_000


async def commits(node: Node) -> float:
    """Two durable commits of this database, in milliseconds."""
    started = time.perf_counter()
    for _ in range(2):
        await node.runs._keep(TENANT, [content(os.urandom(600))])  # noqa: SLF001 (a commit and nothing around it)
    return (time.perf_counter() - started) * 1_000


async def turns(folder: Path, count: int) -> None:
    """Turns against raw exchanges, taken in turns so that noise falls on both."""
    async with ModelServer([Reply(text=WORDS)], key="") as server, httpx2.AsyncClient(trust_env=False) as client:
        real = ModelOperation(Endpoint(name="real", url=server.url), wire=lambda: wire_of(WIRE))
        async with _node(folder, AGENT, real) as node:
            pairs = [(await raw(client, server.url), await governed(node), await commits(node)) for _ in range(count)]
    pairs = pairs[len(pairs) // 10 :]
    hand, ours = statistics.median(p[0][1] for p in pairs), statistics.median(p[1][1] for p in pairs)
    flushed = statistics.median(p[2] for p in pairs)
    early, late = statistics.median(p[0][0] for p in pairs), statistics.median(p[1][0] for p in pairs)
    print(f"raw exchange            {hand:7.2f} ms p50   first words after {early:6.2f} ms")
    print(f"governed turn           {ours:7.2f} ms p50   first words after {late:6.2f} ms   {ours / hand:.2f} × raw")
    print(f"two durable commits     {flushed:7.2f} ms p50")
    result("a governed turn over the raw exchange and two commits", ours - hand - flushed, unit="ms", at_most=5.0)
    commit = flushed / 2  # the words can come only after the question is accepted
    result("the first words over the raw exchange and one commit", late - early - commit, unit="ms", at_most=2.0)


async def resuming(folder: Path, events: int) -> None:
    """A run with so many events, read from its record until the next step is known."""
    steps_ = [
        Line(text=f"step {n}", calls=(ScriptedCall(name="todo", arguments={"items": [{"text": f"{n}"}]}),))
        for n in range(events // 4)
    ]
    lines = (*steps_, Line(text="done"))
    # Each turn is a question and a call, each accepted and settled: four entries.
    play = ScriptedModel("play", Script(lines=lines))
    async with _node(folder, PLAYED, play) as node:
        run = await node.runs.begin(TENANT, PLAYED, "work", by=ANN)
        await node.runs.drive(TENANT, run)
        spent, story = [], await node.runs.story(TENANT, run)
        for _ in range(9):
            started = time.perf_counter()
            story = await node.runs.story(TENANT, run)
            spent.append((time.perf_counter() - started) * 1_000)
        entries = 2 * (len(story.calls) + sum(map(len, story.attempts.values())))
    found = statistics.median(spent)
    print(f"resuming {entries} events   {found:7.1f} ms p50   {found * 1_000 / entries:.0f} us an event")
    result(f"reading a run of {entries:,} events from its record", found, unit="ms", at_most=50.0)


async def sleeping(folder: Path, count: int) -> None:
    """Sessions that nobody talks in, and waking one."""
    async with _node(folder, AGENT) as node:
        before = _resident()
        for start in range(0, count, 500):
            opened = [
                node.sessions.open(TENANT, agent="bench", identity=ANN, channel="cli", name=f"s{n}")
                for n in range(start, start + 500)
            ]
            await asyncio.gather(*opened)
        grown = _resident() - before
        name = f"session:{ANN}:cli:s{count // 2}"
        spent = [await _timed(lambda: node.sessions.now(TENANT, name)) for _ in range(101)]
    print(f"{count:,} sleeping sessions: {grown / 2**20:.1f} MiB more resident, {grown / count:.0f} bytes each")
    result(f"{count:,} sleeping sessions, memory", grown / 2**20, unit="MiB", at_most=100.0)
    result("activating one session", statistics.median(spent), unit="ms", at_most=5.0)


async def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    await work()  # type: ignore[misc]
    return (time.perf_counter() - started) * 1_000


def _node(folder: Path, agent: AgentDefinition, *operations: ModelOperation | ScriptedModel) -> _Opened:
    (folder / "workspace").mkdir(exist_ok=True)
    return _Opened(
        Blueprint(
            data=folder / "data", workspace=folder / "workspace", tenants=(TENANT,),
            principals=(KnownPrincipal(name=ANN),), operations=(*STANDARD, *operations), agents=(agent,),
        )
    )  # fmt: skip


class _Opened:
    """A node under the starter policy."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._opened = open_node(blueprint)

    async def __aenter__(self) -> Node:
        node = await self._opened.__aenter__()
        await node.policies.activate(TENANT, POLICY, by=ANN)
        assert isinstance(node.runs, Runs)
        return node

    async def __aexit__(self, *error: object) -> None:
        await self._opened.__aexit__(*error)  # type: ignore[arg-type]


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (a line of the kernel's)
        return int(file.read().split()[1]) * resource.getpagesize()


def main() -> None:
    """Print one result for each."""
    given = arguments(__doc__).parse_args()
    quick = given.quick
    for measure, count in (
        (turns, 30 if quick else TURNS),
        (resuming, 200 if quick else EVENTS),
        (sleeping, 1_000 if quick else SESSIONS),
    ):
        with scratch(given.folder) as folder:
            asyncio.run(measure(folder, count))


if __name__ == "__main__":
    main()
