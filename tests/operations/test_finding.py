"""Agents that find others: by what they can do, in their own tenant, with no more right to them than they had."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder
from assent.ledger.operations import Place
from assent.operations.finding import AGENTS_FIND
from assent.operations.runs.events import CallEnded, RunEvent
from assent.operations.scripts import Script, ScriptedModel
from assent.primitives.errors import Malformed
from tests.operations.agents_house import TENANT, agent, answered, house, line


def test_find_carries_the_tenant_of_the_call_whatever_is_asked() -> None:
    place = Place(workspace="/srv/ws", tenant="acme")
    order = AGENTS_FIND.plan({"capabilities": ["translate"]}, place, Obligations(), "")
    assert order == FunctionOrder(
        function="agents.find",
        definition=AGENTS_FIND.definition,
        arguments='{"capabilities":["translate"],"delegates":[],"limit":20,"tenant":"acme","tools":[]}',
    )
    wrong: list[dict[str, Any]] = [
        {"tenant": "globex"},
        {"limit": 0},
        {"limit": 51},
        {"capabilities": ["x"] * 33},
        {"tools": ["x" * 200]},
        {"delegates": ["x"] * 1_001},
    ]
    for arguments in wrong:
        with pytest.raises(Malformed):
            AGENTS_FIND.plan(arguments, place, Obligations(), "")


@pytest.mark.slow
def test_agent_finds_others_and_hands_work_to_those_alone_that_it_may(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent("find_agents", "delegate", delegates=("translator",))
        translator = agent(
            name="translator", models=("play2:it",), capabilities=("translate", "french"), description="Translates."
        )
        painter = agent("read", name="painter", capabilities=("translate",))
        script = [
            line("", ("find_agents", {"capabilities": ["translate"]})),
            line("", ("find_agents", {"capabilities": ["translate"], "tools": ["read"], "delegates": ["painter"]})),
            line("", ("find_agents", {"capabilities": ["sing"]}), ("find_agents", {"tools": ["read"]})),
            line("", ("delegate", {"agent": "painter", "task": "paint"})),
            line("", ("delegate", {"agent": "translator", "task": "translate"})),
            line("done"),
        ]
        other = ScriptedModel("play2", Script(lines=(line("bonjour"),)))
        events: list[RunEvent] = []
        async with house(tmp_path, writer, translator, painter, lines=script, others=[other]) as node:
            seen = await answered(node, "have it translated", of=writer, events=events)
            assert (seen.state, seen.text) == ("finished", "done")
            told = {(one.turn, one.place): one.text for one in events if isinstance(one, CallEnded)}
            assert told[1, 0].splitlines() == [
                "`painter`; can: translate; it is healthy; you may not hand work to it",
                "`translator`: Translates.; can: translate, french; it is healthy; you may hand work to it",
            ]
            assert (2, 0) not in told, "no model says to whom it may hand work: that is no argument of the tool"
            assert told[3, 0] == "[there is no such agent now]"
            assert told[3, 1].startswith("`painter`;")
            story = await node.runs.story(TENANT, seen.id)
            assert story.calls[1, 0].arguments["delegates"] == ["translator"]
            children = await node.runs.newest(TENANT)
            assert [one.agent for one in children if one.id != seen.id] == ["translator"]

    asyncio.run(body())
