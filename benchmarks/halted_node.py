"""A node that is halted again and again, in a process of its own: callers that call, and say when they were refused.

Each caller makes the no-op call of `governed_node` and makes the next one as soon as it is answered, refused or not,
as an agent that does not listen would. Once all of them were refused, one line of JSON says so; and another once all of
them are let call again. Times are those of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from assent.bootstrap.node import Blueprint, Node, open_node
from assent.bootstrap.offering import STANDARD
from assent.execution.orders import FileOrder
from assent.ledger.effects import EffectState
from assent.operations.wishes import Answer, Wish
from assent.policy.principals import KnownPrincipal
from benchmarks.governed_node import AGENT, PERSON, TENANT, Noop, NoopLane

CALLS_KEPT = 1_000


class Crowd:
    """Callers of one node. `running` and `refused` are set once all of them were let call, or were refused."""

    def __init__(self, node: Node, *, callers: int) -> None:
        self._node = node
        self._callers = callers
        self._numbers = itertools.count(1)
        self._let: dict[int, bool] = {}
        self.running, self.refused = asyncio.Event(), asyncio.Event()
        self.first_refused_ns = 0
        self.let_began_ns = 0
        self.let_ended_ns = 0
        self.calls = 0
        self._taken_ns: list[int] = []

    async def call(self) -> None:
        """Call for ever."""
        async with asyncio.TaskGroup() as group:
            for caller in range(self._callers):
                group.create_task(self._one(caller))

    @property
    def call_ms(self) -> float:
        """How long a call took that was let happen, of the latest ones."""
        return statistics.median(self._taken_ns[-CALLS_KEPT:]) / 1e6

    async def _one(self, caller: int) -> None:
        while True:
            began_ns = time.monotonic_ns()
            answer = await self._perform()
            self._note(caller, answer, began_ns, time.monotonic_ns())

    async def _perform(self) -> Answer:
        number = next(self._numbers)
        arguments = {"path": f"work/{number:08}", "text": "x" * 100}
        wish = Wish(
            tenant=TENANT, operation=Noop.contract.name, arguments=arguments, principal=AGENT, on_behalf_of=(PERSON,)
        )
        return await self._node.gate.perform(wish)

    def _note(self, caller: int, answer: Answer, began_ns: int, ended_ns: int) -> None:
        let = answer.effect.state is EffectState.SUCCEEDED
        if not let and answer.effect.code != "halted":
            raise RuntimeError(f"the call became {answer.effect.state}: {answer.decision}")
        if let:
            self.calls += 1
            self._taken_ns.append(ended_ns - began_ns)
            self.let_began_ns, self.let_ended_ns = max(self.let_began_ns, began_ns), ended_ns
        elif all(self._let.values()):  # the first since they were let call
            self.first_refused_ns = ended_ns
        self._let[caller] = let
        if len(self._let) == self._callers:
            _set(self.running, to=all(self._let.values()))
            _set(self.refused, to=not any(self._let.values()))


def _set(event: asyncio.Event, *, to: bool) -> None:
    event.set() if to else event.clear()


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Node]:
    """A node on the database in `folder`, under whatever policy is in force there."""
    (folder / "workspace").mkdir(exist_ok=True)
    blueprint = Blueprint(
        data=folder / "data", workspace=folder / "workspace", tenants=(TENANT,),
        principals=(KnownPrincipal(name=AGENT), KnownPrincipal(name=PERSON)), operations=(*STANDARD, Noop()),
    )  # fmt: skip
    async with open_node(blueprint, lanes={FileOrder: NoopLane()}) as node:
        yield node


async def _main(folder: Path, callers: int) -> None:
    async with opened(folder) as node, asyncio.TaskGroup() as group:
        crowd = Crowd(node, callers=callers)
        group.create_task(crowd.call())
        while True:
            await crowd.running.wait()
            _say({"state": "running"})
            await crowd.refused.wait()
            _say(
                {
                    "state": "refused", "first_refused_ns": crowd.first_refused_ns, "let_ended_ns": crowd.let_ended_ns,
                    "let_began_ns": crowd.let_began_ns, "call_ms": crowd.call_ms, "calls": crowd.calls,
                }
            )  # fmt: skip


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
