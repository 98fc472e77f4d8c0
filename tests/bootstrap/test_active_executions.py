"""A real program on a whole node, spoken to while it runs: decided, confined, heard under credit, and on record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

import pytest

from assent.bootstrap.node import Blueprint, Node, open_node
from assent.execution.attestations import ConfinementClass
from assent.execution.steering import EndInput, Input, Signal
from assent.ledger.effects import EffectState
from assent.operations.executions import TAIL_BYTES, ExecutionState
from assent.operations.wishes import Wish
from assent.policy.principals import KnownPrincipal
from assent.primitives.ids import ExecutionId, TenantId

TENANT = TenantId("local")
ANN = "person:ann"
STARTER = (files("assent.policy.starter") / "starter.cedar").read_text(encoding="utf-8")
FLOOD = "import sys\nfor _ in range(15): sys.stdout.write('x' * 65536)\nsys.stdout.flush(); input()"

pytestmark = pytest.mark.slow


@pytest.fixture
def on_node(tmp_path: Path) -> Callable[[Callable[[Node], Awaitable[None]]], None]:
    (tmp_path / "workspace").mkdir()
    blueprint = Blueprint(
        data=tmp_path / "data",
        workspace=tmp_path / "workspace",
        tenants=(TENANT,),
        principals=(KnownPrincipal(name=ANN),),
    )

    def run(body: Callable[[Node], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with open_node(blueprint) as node:
                await node.policies.activate(TENANT, STARTER, by=ANN)
                await body(node)

        asyncio.run(whole())

    return run


def wish(*argv: str, key: str = "") -> Wish:
    arguments = {"argv": [*argv], "stdin_open": True}
    return Wish(tenant=TENANT, operation="shell.run", arguments=arguments, principal=ANN, key=key)


async def heard(node: Node, id_: ExecutionId, until: bytes) -> bytes:
    found = b""
    async for event in node.executions.events(TENANT, id_):
        found += event.data
        if until in found:
            break
    return found


def test_program_answers_what_it_is_told_and_ends_with_its_input(on_node):
    async def body(node: Node) -> None:
        run = node.executions.start(wish("cat"))
        for said in (b"one\n", b"two\n"):
            node.executions.say(TENANT, run.id, Input(data=said), fence=run.fence)
            assert await heard(node, run.id, said) == said
        assert node.executions.status(TENANT, run.id).state is ExecutionState.RUNNING
        node.executions.say(TENANT, run.id, EndInput(), fence=run.fence)
        answer = await node.executions.result(TENANT, run.id)
        assert answer.effect.state is EffectState.SUCCEEDED
        assert answer.outcome is not None
        assert answer.outcome.value["stdout"] == "one\ntwo\n"
        assert answer.outcome.evidence.attestation.confinement is ConfinementClass.NAMESPACED

    on_node(body)


def test_signal_ends_it_and_is_told(on_node):
    async def body(node: Node) -> None:
        run = node.executions.start(wish("sh", "-c", "echo ready; exec sleep 60"))
        await heard(node, run.id, b"ready")
        node.executions.say(TENANT, run.id, Signal(name="TERM"), fence=run.fence)
        answer = await node.executions.result(TENANT, run.id)
        assert answer.outcome is not None
        assert (answer.effect.state, answer.outcome.value["signal"]) == (EffectState.FAILED, "SIGTERM")

    on_node(body)


def test_program_is_held_while_nobody_listens_and_nothing_is_lost(on_node):
    async def body(node: Node) -> None:
        run = node.executions.start(wish("python3", "-c", FLOOD))
        for _ in range(500):
            if node.executions.status(TENANT, run.id).state is ExecutionState.HELD:
                break
            await asyncio.sleep(0.02)
        before = node.executions.status(TENANT, run.id)
        assert before.state is ExecutionState.HELD
        await asyncio.sleep(0.3)
        assert node.executions.status(TENANT, run.id).output_bytes == before.output_bytes
        assert before.output_bytes < TAIL_BYTES + 131_072
        node.executions.say(TENANT, run.id, EndInput(), fence=run.fence)
        taken = [len(event.data) async for event in node.executions.events(TENANT, run.id) if event.stream == "stdout"]
        assert sum(taken) == 15 * 65_536
        await node.executions.result(TENANT, run.id)

    on_node(body)


def test_cancelled_program_is_gone_and_its_key_says_so(on_node):
    async def body(node: Node) -> None:
        run = node.executions.start(wish("sh", "-c", "echo ready; exec sleep 60", key="once"))
        await heard(node, run.id, b"ready")
        ended = await node.executions.cancel(TENANT, run.id, fence=run.fence)
        assert ended.state is ExecutionState.ENDED
        again = await node.gate.perform(wish("sh", "-c", "echo ready; exec sleep 60", key="once"))
        assert (again.fresh, again.effect.state) == (False, EffectState.CANCELLED)

    on_node(body)
