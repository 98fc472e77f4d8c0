"""Policy changes by review: who may ask, what those who look at it see, and that nothing else changes a policy then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from assent.bootstrap.node import Blueprint, Node, open_node
from assent.ledger.effects import EffectState
from assent.ledger.journals import content
from assent.ledger.provenance import TYPED
from assent.operations.identity.callers import Caller
from assent.operations.policy_changes import NAME
from assent.operations.wishes import Answer, Wish
from assent.policy.principals import KnownPrincipal
from assent.primitives.errors import AssentError, Conflict, Malformed, NotFound, Refused
from assent.primitives.ids import ReviewId, TenantId
from tests.operations.agents_house import ANN, STARTER, TENANT

pytestmark = pytest.mark.slow

BOB = "person:bob"
HELPER = "agent:helper"
TIGHTER = STARTER + (
    '@id("no-notes") @reason("notes are left alone") forbid (principal, action, resource in Connector::"files")\n'
    'when { context has path && context.path like "notes*" };\n'
)
LOOSER = STARTER.replace(
    'resource == Operation::"files.delete"\n)\nunless {',
    'resource == Operation::"files.delete"\n)\nunless { context has path && context.path like "free/*" ||',
)
SHUT = STARTER.replace("principal is Person,", 'principal == Person::"bob",', 1)


@asynccontextmanager
async def installation(folder: Path, *, by_review: bool = True, policy: str = STARTER) -> AsyncIterator[Node]:
    (folder / "workspace").mkdir(exist_ok=True)
    blueprint = Blueprint(
        data=folder / "data", workspace=folder / "workspace", tenants=(TENANT,), policy_by_review=by_review,
        principals=tuple(KnownPrincipal(name=one) for one in (ANN, BOB, HELPER)),
    )  # fmt: skip
    async with open_node(blueprint) as node:
        if policy:
            await node.policies.activate(TENANT, policy, by=ANN)
        yield node


async def in_force(node: Node) -> str:
    active = await node.policies.active_revision(TENANT)
    assert active is not None
    told = await node.policies.told(TENANT, active[0])
    assert told is not None
    return told.text


def caller(name: str, tenant: TenantId = TENANT) -> Caller:
    return Caller(tenant=tenant, principal=name, shown_by="a test")


def asked_in(answer: Answer) -> ReviewId:
    assert answer.review is not None, answer
    return answer.review.id


async def approved(node: Node, answer: Answer, *, by: str = BOB) -> Answer:
    await node.reviews.approve(TENANT, asked_in(answer), by=by)
    return await node.gate.release(TENANT, answer.effect.id)


def test_policy_comes_into_force_once_somebody_else_has_looked_at_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with installation(tmp_path) as node:
            with pytest.raises(Refused) as refused:
                await node.policies.activate(TENANT, TIGHTER, by=ANN)
            assert refused.value.code == "policy_reviewed"
            answer = await node.policy_changes.propose(caller(ANN), TIGHTER)
            assert answer.effect.state is EffectState.IN_REVIEW
            with pytest.raises(Refused, match="made this request"):
                await node.reviews.approve(TENANT, asked_in(answer), by=ANN)
            assert await in_force(node) == STARTER
            done = await approved(node, answer)
            assert (done.effect.state, await in_force(node)) == (EffectState.SUCCEEDED, TIGHTER)
            said = Wish(
                tenant=TENANT, operation="files.write", arguments={"path": "notes", "content": ""}, principal=ANN,
                provenance=TYPED,
            )  # fmt: skip
            assert (await node.gate.perform(said)).effect.code == "forbidden"
            assert (await node.policies.activate(TENANT, TIGHTER, by=ANN)).changed is False
            assert (await node.verification.verify(TENANT)).faults == ()

    asyncio.run(body())


def test_who_looks_at_it_sees_what_changes_and_whom_that_would_have_reached(tmp_path: Path) -> None:
    async def body() -> None:
        async with installation(tmp_path) as node:
            for path in ("notes.txt", "other.txt"):
                arguments = {"path": path, "content": "x"}
                await node.gate.perform(
                    Wish(tenant=TENANT, operation="files.write", arguments=arguments, principal=ANN, provenance=TYPED)
                )
            answer = await node.policy_changes.propose(caller(ANN), TIGHTER)
            seen = (await node.briefings.of(TENANT, asked_in(answer), by=BOB)).proposal
            assert seen is not None
            assert seen.backtest is not None
            assert seen.comparison is not None
            assert '+@id("no-notes")' in seen.diff
            assert [(one.calls, one.after) for one in seen.backtest.changes] == [(1, "deny")]
            assert not seen.comparison.loosens
            looser = await node.policy_changes.propose(caller(ANN), LOOSER)
            found = (await node.briefings.of(TENANT, asked_in(looser), by=BOB)).proposal
            assert found is not None
            assert found.comparison is not None
            assert found.comparison.loosens

    asyncio.run(body())


def test_proposal_is_over_once_another_policy_came_into_force(tmp_path: Path) -> None:
    async def body() -> None:
        async with installation(tmp_path) as node:
            first = await node.policy_changes.propose(caller(ANN), TIGHTER)
            second = await node.policy_changes.propose(caller(BOB), LOOSER)
            await approved(node, first)
            seen = (await node.briefings.of(TENANT, asked_in(second), by=ANN)).proposal
            assert seen is not None
            assert "since it was asked for" in seen.over
            done = await approved(node, second, by=ANN)
            assert (done.effect.state, done.effect.code) == (EffectState.FAILED, "policy_moved")
            assert await in_force(node) == TIGHTER

    asyncio.run(body())


def test_approved_change_that_nobody_carried_out_is_decided_by_the_rules_of_the_day(tmp_path: Path) -> None:
    async def body() -> None:
        async with installation(tmp_path) as node:
            answer = await node.policy_changes.propose(caller(ANN), TIGHTER)
            await node.reviews.approve(TENANT, asked_in(answer), by=BOB)
        async with installation(tmp_path, by_review=False, policy="") as node:
            await node.policies.activate(TENANT, SHUT, by=ANN)
            done = await node.gate.release(TENANT, answer.effect.id)
            assert (done.effect.state, await in_force(node)) == (EffectState.REVOKED, SHUT)

    asyncio.run(body())


def test_agent_may_not_even_ask_and_the_record_names_the_call_and_nobody_else(tmp_path: Path) -> None:
    async def body() -> None:
        async with installation(tmp_path) as node:
            active = await node.policies.active_revision(TENANT)
            assert active is not None
            piece = content(TIGHTER.encode())
            honest = {"revision": node.policies.built(TIGHTER).revision, "replaces": active[0], "text": [piece.digest]}

            async def asked(by: str, chain: tuple[str, ...] = (), pieces: Any = (piece,), **change: Any) -> Answer:
                return await node.gate.perform(
                    Wish(
                        tenant=TENANT, operation=NAME, arguments={**honest, **change}, principal=by,
                        on_behalf_of=chain, provenance=TYPED, contents=pieces,
                    )
                )  # fmt: skip

            assert (await asked(HELPER, (ANN,))).effect.code == "no_rule"
            wrong: list[dict[str, Any]] = [
                {"text": []}, {"text": [piece.digest, piece.digest]}, {"signatures": ["x"] * 99}
            ]  # fmt: skip
            for change in wrong:
                assert (await asked(ANN, **change)).effect.code == "arguments_invalid"
            done = await approved(node, await asked(ANN, pieces=(), text=[content(b"never kept").digest]))
            assert (done.effect.state, done.effect.code) == (EffectState.REVOKED, "arguments_invalid")
            spoofed = Wish(
                tenant=TENANT, operation=NAME, arguments=honest, principal=ANN, provenance=TYPED, contents=(piece,),
                key="person:bob",
            )  # fmt: skip
            assert (await approved(node, await node.gate.perform(spoofed))).effect.state is EffectState.SUCCEEDED
            records = await node.host._store.records(TENANT, after=-1, limit=500)
            assert [one.body["by"] for one in records if one.type == "policy.activated"] == [ANN, "call person:bob"]

    asyncio.run(body())


def test_text_that_is_not_the_revision_it_is_said_to_be_changes_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with installation(tmp_path) as node:
            active = await node.policies.active_revision(TENANT)
            assert active is not None
            piece = content(TIGHTER.encode())
            honest = {"revision": node.policies.built(TIGHTER).revision, "replaces": active[0], "text": [piece.digest]}
            looser = content(LOOSER.encode())
            lies: list[tuple[dict[str, Any], Any]] = [
                ({"revision": active[0]}, (piece,)), ({"text": [looser.digest]}, (looser,))
            ]  # fmt: skip
            for lie, pieces in lies:
                said = Wish(
                    tenant=TENANT, operation=NAME, arguments={**honest, **lie}, principal=ANN, provenance=TYPED,
                    contents=pieces,
                )  # fmt: skip
                done = await approved(node, await node.gate.perform(said))
                assert (done.effect.state, done.effect.code) == (EffectState.FAILED, "policy_moved")
            assert await in_force(node) == STARTER

    asyncio.run(body())


def test_what_cannot_come_into_force_is_not_asked_for(tmp_path: Path) -> None:
    async def body() -> None:
        async with installation(tmp_path, policy="") as node:
            with pytest.raises(NotFound, match="no policy is active"):
                await node.policy_changes.propose(caller(ANN), STARTER)
            await node.policies.activate(TENANT, STARTER, by=ANN)
            with pytest.raises(Conflict, match="in force already"):
                await node.policy_changes.propose(caller(ANN), STARTER)
            for broken in ("permit", STARTER + STARTER, '@id("all") permit (principal, action, resource);'):
                with pytest.raises(Malformed):
                    await node.policy_changes.propose(caller(ANN), broken)
            with pytest.raises(AssentError):
                await node.policy_changes.propose(caller(ANN, TenantId("other")), TIGHTER)
            assert not (await node.timelines.inbox(TENANT)).reviews

    asyncio.run(body())
