"""The tenant canary of the use cases: every one that takes a tenant, on a whole node, with another tenant's ids.

Ports are tried in `test_tenant_ports` and `test_tenant_ledger`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from assent.execution.steering import Input
from assent.ledger.intents import Intent
from assent.operations.identity.callers import Caller
from assent.operations.policy_changes import NAME
from assent.operations.runs.entries import Exchange
from assent.primitives.ids import TenantId
from assent.reasoning.agents import ResetPolicy
from assent.testing.calls import intent_to
from assent.testing.desks import ACME, GLOBEX
from tests.attacks.tenancy import Ids, Try, first_of, must_be_known, must_learn_nothing, taking_a_tenant
from tests.attacks.tenancy_house import BOB, CYD, WRITER, House, furnished
from tests.operations.agents_house import ANN, STARTER

MINE, OTHER = (
    f'{STARTER}\n@id("{name}") @reason("mine") permit (principal, action, resource in Connector::"http");\n'
    for name in ("mine", "other")
)
NEVER_SEEN = TenantId("initech")
"""A stranger with no policy: what is said of a policy in force must be said of one's own."""
PURE = "it computes from values that it is given, and reads nothing"
WITHIN = "it works inside of a use case that is tried, on what that has found for the tenant"
EXEMPT = {
    "AgentsFind": PURE, "Asking": PURE, "MemorySearch": PURE, "ModelOperation": PURE, "PolicyActivate": PURE,
    "Rehearsals": PURE, "SkillRead": PURE, "Story": PURE, "Waiver": PURE, "WebSearch": PURE, "_Played": PURE,
    "Deciding": WITHIN, "Delegating": WITHIN, "Dispensations": WITHIN, "Driver": WITHIN, "Requests": WITHIN,
    "Scribe": WITHIN, "Standing": WITHIN, "SummingUp": WITHIN, "Waits": WITHIN,
    "Sessions.asked": "it makes a note, which is written with a run and proves where the session stands",
    "Policies.forget": "it forgets what was read of one's own policy, which is read again",
    "Provider.caller": "whom a provider's token shows is the same in every tenant; nothing of a tenant is read",
    "Workload.caller": "whom a certificate shows is the same in every tenant; nothing of a tenant is read",
    "SigningIn.by_certificate": "whom a certificate shows is the same in every tenant; nothing of a tenant is read",
    "Verifier.verify": "a protocol whose one user, `Verification.verify`, is tried",
}  # fmt: skip


def by_id(do: Any) -> Try:
    return Try(do)


def own(do: Any) -> Try:
    return Try(do, names=False)


async def _revoked(house: House, tenant: str, of: Ids) -> Any:
    return await house.node.gate.revoke(await house.effect(tenant, of["effect.revoked"]), code="unwanted")


async def _looked(house: House, tenant: str, of: Ids) -> Any:
    return await house.node.recovery.look(await house.effect(tenant, of["looked"]))


EFFECTS: Mapping[str, Try] = {
    "Gate.perform": own(lambda h, t, of: h.node.gate.perform(h.wish(t, "files.read", key=of["key"], run=of["run"]))),
    "Gate.release": by_id(lambda h, t, of: h.node.gate.release(t, of["effect.released"])),
    "Gate.revoke": by_id(_revoked),
    "Recovery.reconcile": own(lambda h, t, of: h.node.recovery.reconcile(t)),
    "Gate.resend": by_id(lambda h, t, of: h.resent(t, of["resent"])),
    "Recovery.look": by_id(_looked),
    "Recovery.attest": by_id(
        lambda h, t, of: h.node.recovery.attest(t, of["attested"], happened=True, by=BOB, reason="seen")
    ),
    "Executions.status": by_id(lambda h, t, of: _later(h.node.executions.status, t, of["execution"])),
    "Executions.say": by_id(
        lambda h, t, of: _later(h.node.executions.say, t, of["execution"], Input(data=b"x"), fence=h.fence)
    ),
    "Executions.events": by_id(lambda h, t, of: first_of(h.node.executions.events(t, of["execution"]))),
    "Executions.result": by_id(lambda h, t, of: h.result(t, of["execution"])),
    "Executions.cancel": by_id(lambda h, t, of: h.node.executions.cancel(t, of["execution"], fence=h.fence)),
    "Executions.start": own(lambda h, t, of: h.started(t)),
    "Budgets.listed": own(lambda h, t, of: h.node.budgets.listed(t)),
    "Budgets.dismiss": by_id(lambda h, t, of: h.node.budgets.dismiss(t, of["stopped"], by=BOB)),
    "Checkpoints.keep": own(lambda h, t, of: h.node.checkpoints.keep(t)),
    "Verification.verify": own(lambda h, t, of: h.node.verification.verify(t)),
    "Agents.served": own(lambda h, t, of: h.node.agents.served(t)),
}
PEOPLE: Mapping[str, Try] = {
    "Timelines.explain": by_id(lambda h, t, of: h.node.timelines.explain(t, of["effect"])),
    "Timelines.of_effect": by_id(lambda h, t, of: h.node.timelines.of_effect(t, of["effect"])),
    "Timelines.of_run": by_id(lambda h, t, of: h.node.timelines.of_run(t, of["run"])),
    "Timelines.latest": own(lambda h, t, of: h.node.timelines.latest(t)),
    "Timelines.newest": own(lambda h, t, of: h.node.timelines.newest(t)),
    "Timelines.names": by_id(lambda h, t, of: h.node.timelines.names(t, of["run"])),
    "Timelines.review": by_id(lambda h, t, of: h.node.timelines.review(t, of["review.told"])),
    "Timelines.unknown": own(lambda h, t, of: h.node.timelines.unknown(t)),
    "Timelines.inbox": own(lambda h, t, of: h.node.timelines.inbox(t)),
    "Briefings.of": by_id(lambda h, t, of: h.node.briefings.of(t, of["review.told"], by=ANN)),
    "Briefings.alike": own(lambda h, t, of: h.alike(t)),
    "Reviews.approve": by_id(lambda h, t, of: h.node.reviews.approve(t, of["review.approved"], by=BOB)),
    "Reviews.approve_and_run": by_id(
        lambda h, t, of: h.node.reviews.approve_and_run(t, of["review.run_now"], by=BOB, on_event=lambda _: None)
    ),
    "Reviews.deny": by_id(lambda h, t, of: h.node.reviews.deny(t, of["review.denied"], by=BOB, reason="no")),
    "Reviews.escalate": by_id(lambda h, t, of: h.node.reviews.escalate(t, of["review.escalated"], by=BOB)),
    "Reviews.expire": own(lambda h, t, of: h.node.reviews.expire(t)),
    "StandIns.standing": own(lambda h, t, of: h.node.reviews.stand_ins.standing(t)),
    "StandIns.end": own(lambda h, t, of: h.node.reviews.stand_ins.end(t, of=ANN, reason="back")),
    "StandIns.name": own(
        lambda h, t, of: h.node.reviews.stand_ins.name(t, of=ANN, by=BOB, until_ms=h.soon_ms, reason="away")
    ),
    "Waivers.find": by_id(lambda h, t, of: h.node.gate.waivers.find(t, of["waiver.found"])),
    "Waivers.sign": by_id(lambda h, t, of: h.node.gate.waivers.sign(t, of["waiver.signed"], by=CYD, reason="too")),
    "Waivers.revoke": by_id(lambda h, t, of: h.node.gate.waivers.revoke(t, of["waiver.revoked"], by=BOB, reason="")),
    "Waivers.standing": own(lambda h, t, of: h.node.gate.waivers.standing(t)),
    "Waivers.fitting": own(lambda h, t, of: h.node.gate.waivers.fitting(h.deletion(t))),
    "Waivers.matched": own(
        lambda h, t, of: h.node.gate.waivers.matched(
            t, principal="agent:writer", calls="files.delete path=*", since_ms=0
        )
    ),
    "Waivers.make": own(lambda h, t, of: h.waived(t, reason="mine")),
    "Tokens.find": by_id(lambda h, t, of: h.node.signing_in.tokens.find(t, of["token.found"])),
    "Tokens.caller": by_id(lambda h, t, of: h.node.signing_in.tokens.caller(t, of["secret.found"])),
    "SigningIn.by_token": by_id(lambda h, t, of: h.node.signing_in.by_token(t, of["secret.found"])),
    "Tokens.all": own(lambda h, t, of: h.node.signing_in.tokens.all(t)),
    "Tokens.revoke": by_id(
        lambda h, t, of: h.node.signing_in.tokens.revoke(t, of["token.revoked"], by=BOB, reason="lost")
    ),
    "Tokens.make": own(
        lambda h, t, of: h.node.signing_in.tokens.make(t, by=ANN, principal=ANN, label="x", until_ms=h.soon_ms)
    ),
    "Halts.standing": own(lambda h, t, of: h.node.halts.standing(t)),
    "Halts.lift": by_id(lambda h, t, of: h.node.halts.lift(t, of["halt"], by=BOB, reason="over")),
    "Halts.halt": own(lambda h, t, of: h.node.halts.halt(t, of["halt"], by=BOB, reason="again")),
}
POLICIES: Mapping[str, Try] = {
    "Policies.active": own(lambda h, t, of: h.engine(t)),
    "Policies.active_revision": own(lambda h, t, of: h.node.policies.active_revision(t)),
    "Policies.told": by_id(lambda h, t, of: h.node.policies.told(t, of["policy"])),
    "Policies.waivable_s": own(lambda h, t, of: h.node.policies.waivable_s(t, lambda _: True)),
    "Policies.lacking": own(lambda h, t, of: h.strict.lacking(_or_nobody(t))),
    "Policies.refusal": own(lambda h, t, of: h.strict.refusal(_or_nobody(t))),
    "Policies.unsettled": own(lambda h, t, of: h.strict.unsettled(_or_nobody(t))),
    "BackTests.run": own(lambda h, t, of: h.node.backtests.run(t, STARTER)),
    "BackTests.compare": own(lambda h, t, of: h.node.backtests.compare(t, STARTER)),
    "BackTests.text_of": by_id(lambda h, t, of: h.node.backtests.text_of(t, of["policy"])),
    "PolicyChanges.told": by_id(lambda h, t, of: h.node.policy_changes.told(t, proposal(t, of))),
    "PolicyChanges.propose": own(
        lambda h, t, of: h.node.policy_changes.propose(Caller(tenant=t, principal=ANN, shown_by="nothing"), MINE)
    ),
    "Policies.replace": by_id(
        lambda h, t, of: h.node.policies.replace(
            t, OTHER, revision=h.node.policies.built(OTHER).revision, replaces=of["policy"], by=BOB, signatures=()
        )
    ),
    "Policies.activate": own(lambda h, t, of: h.node.policies.activate(t, MINE, by=BOB)),
}
RUNS: Mapping[str, Try] = {
    "Runs.begin": by_id(
        lambda h, t, of: h.node.runs.begin(
            t, WRITER, "hello", by=ANN, session=of["session.told"], key=of["session.key"]
        )
    ),
    "Runs.drive": by_id(lambda h, t, of: h.node.runs.drive(t, of["run.driven"])),
    "Runs.hear": by_id(lambda h, t, of: h.node.runs.hear(t, of["run.heard"], "the yellow one", by=ANN)),
    "Runs.pause": by_id(lambda h, t, of: h.node.runs.pause(t, of["run.paused"], by=ANN)),
    "Runs.cancel": by_id(lambda h, t, of: h.node.runs.cancel(t, of["run.cancelled"], by=ANN)),
    "Runs.ask": by_id(lambda h, t, of: h.node.runs.ask(t, of["run.asked"], "pause", by=ANN)),
    "Host.give_up": by_id(lambda h, t, of: h.node.host.give_up(t, of["run.given_up"], "it spins")),
    "Runs.compact": by_id(lambda h, t, of: h.node.runs.compact(t, of["session.compact"], WRITER, by=ANN)),
    "Runs.fork": by_id(
        lambda h, t, of: h.node.runs.fork(t, of["run.told"], turn=1, identity=ANN, channel="cli", name="forked-run")
    ),
    "Runs.retell": by_id(lambda h, t, of: h.node.runs.retell(t, of["run.told"])),
    "Runs.turns": by_id(lambda h, t, of: h.node.runs.turns(t, of["run.told"])),
    "Runs.story": by_id(lambda h, t, of: h.node.runs.story(t, of["run.told"])),
    "Runs.view": by_id(lambda h, t, of: h.node.runs.view(t, of["run.told"])),
    "Runs.ids": own(lambda h, t, of: h.node.runs.ids(t)),
    "Runs.newest": own(lambda h, t, of: h.node.runs.newest(t)),
    "Runs.interrupted": own(lambda h, t, of: h.node.runs.interrupted(t)),
    "Sessions.now": by_id(lambda h, t, of: h.node.sessions.now(t, of["session.told"])),
    "Sessions.view": by_id(lambda h, t, of: h.node.sessions.view(t, of["session.told"])),
    "Sessions.run_of": by_id(lambda h, t, of: h.node.sessions.run_of(t, of["session.told"], of["session.key"])),
    "Sessions.reset": by_id(lambda h, t, of: h.node.sessions.reset(t, of["session.reset"], by=ANN)),
    "Sessions.renew": by_id(
        lambda h, t, of: h.node.sessions.renew(
            t, of["session.renewed"], policy=ResetPolicy(kind="messages", limit=1), now_ms=h.soon_ms
        )
    ),
    "Sessions.shorten": by_id(lambda h, t, of: h.shortened(t, of["session.shorten"])),
    "Sessions.fork": by_id(
        lambda h, t, of: h.node.sessions.fork(t, of["session.forked"], identity=ANN, channel="cli", name="fork")
    ),
    "Sessions.ids": own(lambda h, t, of: h.node.sessions.ids(t)),
    "Sessions.newest": own(lambda h, t, of: h.node.sessions.newest(t)),
    "Sessions.begin": own(
        lambda h, t, of: h.node.sessions.begin(
            t, Exchange(pieces=()), agent="writer", identity=ANN, channel="cli", name="begun", forked=""
        )
    ),
    "Sessions.open": own(
        lambda h, t, of: h.node.sessions.open(
            t,
            agent="writer",
            identity=ANN,
            channel="cli",
            name="fresh" if t == ACME else of["session.told"].rpartition(":")[2],
        )
    ),
}
ALL = {**EFFECTS, **PEOPLE, **POLICIES, **RUNS}


async def _later(what: Any, *values: Any, **named: Any) -> Any:
    return what(*values, **named)


def proposal(tenant: TenantId, of: Ids) -> Intent:
    """A call that asks for what the owner has proposed."""
    said = {"text": [of["proposed"]], "replaces": of["policy"], "revision": ""}
    return replace(intent_to(tenant), operation=NAME, arguments=said)


def _or_nobody(tenant: TenantId) -> TenantId:
    return tenant if tenant == ACME else NEVER_SEEN


@pytest.mark.slow
def test_canary_knows_every_use_case_that_takes_a_tenant() -> None:
    found = taking_a_tenant(where=lambda module: module.startswith("assent.operations."))
    must_be_known(found, set(ALL), EXEMPT)


@pytest.mark.slow
@pytest.mark.parametrize("tries", [EFFECTS, PEOPLE, POLICIES, RUNS], ids=["effects", "people", "policies", "runs"])
def test_nothing_of_a_tenant_is_told_to_another_by_a_use_case_and_nothing_of_it_changes(
    tries: Mapping[str, Try], tmp_path: Path
) -> None:
    async def body() -> None:
        async with furnished(tmp_path) as house:
            await must_learn_nothing(house, tries, owner=ACME, stranger=GLOBEX)
            assert (await house.node.verification.verify(None)).ok

    asyncio.run(body())
