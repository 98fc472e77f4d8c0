"""A house for runs: a whole node, the starter policy, and agents whose models play scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from assent.bootstrap.node import Blueprint, Node, open_node
from assent.bootstrap.offering import STANDARD
from assent.ledger.budget_limits import Limit
from assent.operations.runs.events import RunEvent
from assent.operations.scripts import Line, Script, ScriptedCall, ScriptedModel
from assent.policy.principals import KnownPrincipal
from assent.primitives.ids import TenantId
from assent.reasoning.agents import AgentDefinition

TENANT = TenantId("local")
ANN = "person:ann"
STARTER = (files("assent.policy.starter") / "starter.cedar").read_text(encoding="utf-8")


def line(text: str = "", *calls: tuple[str, dict[str, Any]]) -> Line:
    """A line of a script."""
    return Line(text=text, calls=tuple(ScriptedCall(name=name, arguments=arguments) for name, arguments in calls))


def agent(*tools: str, name: str = "writer", models: Sequence[str] = ("play:it",), **more: Any) -> AgentDefinition:
    """An agent that plays."""
    return AgentDefinition(name=name, models=tuple(models), tools=tools, **more)


@asynccontextmanager
async def house(
    folder: Path,
    *agents: AgentDefinition,
    lines: Iterable[Line] = (),
    others: Sequence[Any] = (),
    limits: tuple[Limit, ...] = (),
) -> AsyncIterator[Node]:
    """A node on `folder`; the endpoint `play` says `lines`, `others` are further operations, or stand in for one."""
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
    )
    async with open_node(blueprint) as node:
        await node.policies.activate(TENANT, STARTER, by=ANN)
        yield node


async def answered(
    node: Node, task: str, *, of: AgentDefinition, events: list[RunEvent] | None = None, **more: Any
) -> Any:
    """Begin a run and drive it as far as it goes; how it stands then."""
    run = await node.runs.begin(TENANT, of, task, by=ANN, **more)
    return await node.runs.drive(TENANT, run, tell=(events if events is not None else []).append)
