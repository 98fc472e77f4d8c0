"""A house for runs: a whole node, the starter policy, and agents whose models play scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from assent.bootstrap.node import Blueprint, Node, open_node
from assent.bootstrap.offering import STANDARD
from assent.execution.outcomes import Ending, Outcome
from assent.ledger.budget_limits import Limit
from assent.ledger.operations import Place
from assent.operations.models import COMPLETION, FAULT, asked_for
from assent.operations.runs.events import RunEvent
from assent.operations.runs.shortening import INSTRUCTIONS
from assent.operations.scripts import Line, Script, ScriptedCall, ScriptedModel
from assent.policy.principals import KnownPrincipal
from assent.primitives.ids import TenantId
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.messages import Completion, ModelRequest

TENANT = TenantId("local")
ANN = "person:ann"
STARTER = (files("assent.policy.starter") / "starter.cedar").read_text(encoding="utf-8")


def line(text: str = "", *calls: tuple[str, dict[str, Any]]) -> Line:
    """A line of a script."""
    return Line(text=text, calls=tuple(ScriptedCall(name=name, arguments=arguments) for name, arguments in calls))


def agent(*tools: str, name: str = "writer", models: Sequence[str] = ("play:it",), **more: Any) -> AgentDefinition:
    """An agent that plays."""
    return AgentDefinition(name=name, models=tuple(models), tools=tools, **more)


FAILS = "fails as "


class Spoken(ScriptedModel):
    """A model of one's own: `says` makes a line of what it is told. A line of `FAILS` and a kind is a provider's no."""

    def __init__(self, name: str, says: Callable[[ModelRequest], Line]) -> None:
        super().__init__(name, Script(lines=()))
        self._answer = says

    def _says(self, arguments: dict[str, Any], place: Place) -> Completion:
        return self._spoken(self._answer(asked_for(self.contract, arguments, place)), 0)

    def read(self, outcome: Outcome) -> Outcome:
        read = super().read(outcome)
        text = "".join(part.get("text", "") for part in read.value[COMPLETION]["parts"])
        if not text.startswith(FAILS):
            return read
        fault = {"kind": text.removeprefix(FAILS), "message": text}
        return replace(read, ending=Ending.FAILED, code="http_status", message=text, value={FAULT: fault})


def is_summing_up(request: ModelRequest) -> bool:
    """Whether a model is asked to sum up what was said."""
    return any(INSTRUCTIONS in one for one in request.system)


@asynccontextmanager
async def house(
    folder: Path,
    *agents: AgentDefinition,
    lines: Iterable[Line] = (),
    others: Sequence[Any] = (),
    limits: tuple[Limit, ...] = (),
    functions: tuple[Callable[..., Any], ...] = (),
    policy: str = STARTER,
) -> AsyncIterator[Node]:
    """A node on `folder`; the endpoint `play` says `lines`, `others` are further operations, or stand in for one.
    Without a `policy` the one that is active there goes on."""
    (folder / "workspace").mkdir(exist_ok=True)
    swapped = {one.contract.name for one in others}
    play = ScriptedModel("play", Script(lines=tuple(lines)))
    blueprint = Blueprint(
        data=folder / "data",
        workspace=folder / "workspace",
        tenants=(TENANT,),
        principals=(KnownPrincipal(name=ANN),),
        operations=(*(one for one in STANDARD if one.contract.name not in swapped), play, *others),
        agents=agents,
        limits=limits,
        functions=functions,
    )
    async with open_node(blueprint) as node:
        if policy:
            await node.policies.activate(TENANT, policy, by=ANN)
        yield node


async def answered(
    node: Node, task: str, *, of: AgentDefinition, events: list[RunEvent] | None = None, **more: Any
) -> Any:
    """Begin a run and drive it as far as it goes; how it stands then."""
    run = await node.runs.begin(TENANT, of, task, by=ANN, **more)
    return await node.runs.drive(TENANT, run, tell=(events if events is not None else []).append)
