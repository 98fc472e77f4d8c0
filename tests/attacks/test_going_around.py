"""Attempts to reach the outside by any way but the one door: without a grant, with one that is not for this, after a
no, by somebody else's yes, or out of another tenant. The lanes count: nothing may be carried."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assent.execution.adapters.local import LocalTarget
from assent.execution.carry import Executor
from assent.execution.grants import GRANT_TTL_MS, Grant, GrantBody, GrantGate, sealed_bytes
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, HttpOrder, Limits, Order, ProcessOrder, order_digest
from assent.execution.outcomes import Ending, Outcome
from assent.execution.seals import SealKey
from assent.ledger.commands import Dispatch, Settle
from assent.ledger.contracts import contract_digest
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.effects import EffectState
from assent.ledger.entries import draft
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.operations import Facts
from assent.operations.wishes import Answer, Wish
from assent.policy.approvals import Approval
from assent.policy.grants import Mint
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import AssentError, Conflict, Malformed, NotFound, Refused
from assent.primitives.ids import EffectId, GrantId, NodeId, ReviewId, TenantId
from assent.primitives.leases import Fence
from assent.testing.clocks import SetClock
from assent.testing.lanes import ListJournal, as_lanes, scripted_lanes
from tests.attacks.rig import ACME, GLOBEX, STARTER, Rig, rig

KEY = SealKey(bytes(range(32)))
READ = FileOrder(verb="read", workspace="/w", path="a")
ALLOWED = Decision(
    verdict=Verdict.ALLOW, code="allowed", reason="a test says so", policy_revision="rev", obligations=Obligations()
)
DELETE = {"operation": "files.delete", "arguments": {"path": "a"}}
FORBID = STARTER + '@id("never") forbid (principal, action, resource == Operation::"files.delete");\n'


def ignore(_event: object) -> None:
    return None


# --------------------------------------------------------------------------------------------------------- the executor


class Door:
    """An executor over lanes that count."""

    def __init__(self) -> None:
        self.clock, self.journal, self.numbers = SetClock(), ListJournal(), iter(range(1_000_000))
        lanes = as_lanes(scripted_lanes(clock=self.clock, journal=self.journal))
        self.executor = Executor(
            targets=[LocalTarget(lanes=lanes, clock=self.clock)], gate=GrantGate(KEY), clock=self.clock
        )

    def grant(self, order: Order = READ, *, key: SealKey = KEY, obligations: Obligations | None = None) -> Grant:
        decision = msgspec.structs.replace(ALLOWED, obligations=obligations or Obligations())
        return Mint(key).mint(
            decision=decision, intent=digest(b"intent"), order=order_digest(order), tenant=ACME,
            effect=EffectId("eff_1"), attempt=1, fence=Fence(node=NodeId("nod_1"), number=1),
            now_ms=self.clock.now_ms(), id=GrantId(f"gra_{next(self.numbers)}"),
        )  # fmt: skip

    def carry(self, grant: Any, order: Any = READ) -> Outcome:
        return asyncio.run(self.executor.carry(grant=grant, order=order, on_event=ignore))

    def refuses(self, grant: Any, order: Any = READ) -> str:
        """The code it refuses with; and no lane was reached."""
        before = len(self.journal.lines())
        with pytest.raises(Refused) as caught:
            self.carry(grant, order)
        assert len(self.journal.lines()) == before
        return caught.value.code


class Likeness(Grant):
    """What somebody could write to look like a grant."""

    def __init__(self, body: GrantBody, mac: bytes) -> None:
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "mac", mac)


@pytest.fixture
def door() -> Door:
    return Door()


def test_door_opens_when_the_grant_is_real(door):
    assert door.carry(door.grant()).ending is Ending.SUCCEEDED
    assert len(door.journal.lines()) == 1


NOT_GRANTS = {
    "nothing": None,
    "true": True,
    "text": "grant",
    "dict": {},
    "object": object(),
    "class": Grant,
    "empty": object.__new__(Grant),
}


@pytest.mark.parametrize("thing", NOT_GRANTS.values(), ids=NOT_GRANTS.keys())
def test_door_stays_shut_when_there_is_no_grant(door, thing):
    assert door.refuses(thing) == "grant_forged"


def test_door_stays_shut_when_the_grant_only_looks_like_one(door):
    real = door.grant()
    assert door.refuses(Likeness(real.body, real.mac)) == "grant_forged"
    assert door.refuses(door.grant(key=SealKey(bytes(32)))) == "grant_forged"
    other = object.__new__(Grant)
    other.body = msgspec.structs.replace(real.body, id=GrantId("gra_other"))
    other.mac = real.mac
    assert door.refuses(other) == "grant_forged"
    assert door.carry(real).ending is Ending.SUCCEEDED  # and the real one is none the worse


def test_door_opens_once_when_a_grant_comes_twice_or_both_at_once(door):
    grant = door.grant()
    door.carry(grant)
    assert door.refuses(grant) == "grant_used"
    twin = object.__new__(Grant)
    twin.body, twin.mac = grant.body, grant.mac
    assert door.refuses(twin) == "grant_used"
    again = door.grant()

    async def both() -> list[Any]:
        carries = [door.executor.carry(grant=again, order=READ, on_event=ignore) for _ in range(10)]
        return await asyncio.gather(*carries, return_exceptions=True)

    ended = asyncio.run(both())
    assert sum(isinstance(one, Outcome) for one in ended) == 1
    assert {one.code for one in ended if isinstance(one, Refused)} == {"grant_used"}


def test_door_stays_shut_when_the_grant_is_too_old_or_from_the_future(door):
    old = door.grant()
    door.clock.pass_ms(GRANT_TTL_MS)
    assert door.refuses(old) == "grant_expired"
    early = door.grant()
    door.clock.jump_ms(-3 * GRANT_TTL_MS)
    assert door.refuses(early) == "grant_expired"


@pytest.mark.parametrize("field", ["path", "workspace", "verb", "content", "recursive", "limits"])
def test_door_stays_shut_when_one_thing_in_the_order_is_another(door, field):
    value = {"verb": "delete", "content": b"x", "recursive": True, "limits": Limits(wall_ms=1)}.get(field, "other")
    order = msgspec.structs.replace(READ, **{field: value})
    assert door.refuses(door.grant(), order) == "grant_order_mismatch"


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_door_stays_shut_when_the_order_goes_beyond_its_obligations(door, name):
    order = msgspec.structs.replace(READ, limits=msgspec.structs.replace(Limits(), **{name: 2**40}))
    assert door.refuses(door.grant(order), order) == "obligation_breached"


def test_door_stays_shut_when_the_order_names_a_host_that_was_not_granted(door):
    order = HttpOrder(method="GET", url="http://b:1/", hosts=("a:1", "b:1"))
    assert door.refuses(door.grant(order, obligations=Obligations(hosts=("a:1",))), order) == "obligation_breached"


def test_door_stays_shut_when_no_lane_carries_the_order():
    door = Door()
    door.executor = Executor(targets=[LocalTarget(lanes={}, clock=door.clock)], gate=GrantGate(KEY), clock=door.clock)
    order = ProcessOrder(argv=("true",), workspace="/w")
    assert door.refuses(door.grant(order), order) == "lane_missing"


def test_grant_cannot_be_taken_elsewhere_or_written_down(door):
    grant = door.grant()
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            way(grant)
    with pytest.raises(AttributeError):
        grant.body = grant.body
    with pytest.raises(TypeError):
        Grant()
    assert grant.mac.hex() not in repr(grant) + str(grant)
    assert sealed_bytes(grant.body) != b""


# ------------------------------------------------------------------------------------------------------------- the node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path, tenants=(ACME, GLOBEX)) as made:
        yield made
        assert made.whole()


def waiting(node: Rig, **changes: Any) -> tuple[EffectId, ReviewId]:
    """A deletion that waits for a person."""
    answer: Answer = node.perform(**{**DELETE, **changes})
    assert answer.review is not None
    return answer.effect.id, answer.review.id


def refused(node: Rig, work: Any) -> AssentError:
    """The refusal of `work`, which carried nothing."""
    before = node.carried
    with pytest.raises(AssentError) as caught:
        node.run(work)
    assert node.carried == before
    return caught.value


def test_nothing_runs_when_it_is_released_before_anybody_said_yes(node):
    effect, review = waiting(node)
    assert refused(node, node.node.gate.release(ACME, effect)).code == "effect_moved"
    node.run(node.node.reviews.deny(ACME, review, by="person:ann", reason="no"))
    assert refused(node, node.node.gate.release(ACME, effect)).code == "effect_moved"
    assert isinstance(refused(node, node.node.reviews.approve(ACME, review, by="person:ann")), Conflict)
    assert node.carried == 0


def test_yes_for_one_call_runs_no_other_when_they_differ_in_one_argument(node):
    approved, review = waiting(node)
    other, _ = waiting(node, arguments={"path": "b"})
    node.run(node.node.reviews.approve(ACME, review, by="person:ann"))
    assert refused(node, node.node.gate.release(ACME, other)).code == "effect_moved"
    assert node.run(node.node.gate.release(ACME, approved)).effect.state is EffectState.SUCCEEDED
    assert refused(node, node.node.gate.release(ACME, other)).code == "effect_moved"
    assert node.carried == 1


@pytest.mark.parametrize("quorum", [1, 99])
def test_yes_for_another_digest_is_none_when_policy_is_asked(node, quorum):
    operation = node.node.operations["files.delete"]
    intent = Intent(
        tenant=ACME, operation="files.delete", contract=contract_digest(operation.contract), arguments={"path": "a"},
        principal="agent:writer", on_behalf_of=("person:ann",),
    )  # fmt: skip
    mine = intent_digest(intent_bytes(intent))
    engine = node.run(node.node.policies.active(ACME))
    assert engine is not None

    def decided(bound: Digest) -> Decision:
        approval = Approval(intent=bound, quorum=quorum, approvers=("person:ann",))
        decision: Decision = engine.decide(intent=intent, intent_digest=mine, facts=Facts(path="a"), approval=approval)
        return decision

    assert decided(mine).verdict is Verdict.ALLOW
    for bound in (digest(b"another call"), Digest(""), Digest(mine.upper()), Digest(f"{mine} ")):
        assert decided(bound).verdict is Verdict.REVIEW


@pytest.mark.parametrize(
    "by", ["agent:writer", "service:build", "person:", "person:ann person:ben", "ann", "", "person:a\nb", "schedule:x"]
)
def test_yes_does_not_count_when_nobody_who_may_say_it_says_it(node, by):
    effect, review = waiting(node)
    assert isinstance(refused(node, node.node.reviews.approve(ACME, review, by=by)), Refused)
    assert refused(node, node.node.gate.release(ACME, effect)).code == "effect_moved"


def test_own_yes_does_not_count_when_a_person_asks(node):
    effect, review = waiting(node, principal="person:ann", on_behalf_of=())
    assert refused(node, node.node.reviews.approve(ACME, review, by="person:ann")).code == "review_not_yours"
    assert refused(node, node.node.gate.release(ACME, effect)).code == "effect_moved"


def test_call_runs_once_when_it_is_released_again_and_by_many_at_once(node):
    effect, review = waiting(node)
    node.run(node.node.reviews.approve(ACME, review, by="person:ann"))

    async def many() -> list[Any]:
        releases = [node.node.gate.release(ACME, effect) for _ in range(10)]
        return await asyncio.gather(*releases, return_exceptions=True)

    ended = node.run(many())
    assert sum(isinstance(one, Answer) for one in ended) == 1
    assert all(isinstance(one, Answer | Conflict) for one in ended)
    assert refused(node, node.node.gate.release(ACME, effect)).code == "effect_moved"
    assert node.carried == 1


def test_approved_call_does_not_run_when_policy_has_since_forbidden_it(node):
    effect, review = waiting(node)
    node.run(node.node.reviews.approve(ACME, review, by="person:ann"))
    node.run(node.node.policies.activate(ACME, FORBID, by="person:ann"))
    answer = node.run(node.node.gate.release(ACME, effect))
    assert answer.effect.state is EffectState.REVOKED
    node.run(node.node.policies.activate(ACME, STARTER, by="person:ann"))
    assert refused(node, node.node.gate.release(ACME, effect)).code == "effect_moved"
    assert node.carried == 0


def test_ledger_does_not_dispatch_when_it_is_asked_past_the_gate(node):
    """Somebody holds the store itself, and even so the record cannot be made to say that this may run."""
    effect, review = waiting(node)
    store: Any = node.node.gate._store
    found = node.run(store.effect(ACME, effect))
    fence = node.node.gate._fence
    engine = node.run(node.node.policies.active(ACME))
    assert engine is not None
    for given_review, again, held, seq in (
        (None, False, fence, found.last_seq),
        (review, False, fence, found.last_seq),
        (review, True, fence, found.last_seq),
        (None, True, fence, found.last_seq),
        (review, False, Fence(node=fence.node, number=fence.number + 1), found.last_seq),
        (review, False, Fence(node=NodeId("nod_other"), number=1), found.last_seq),
        (review, False, fence, found.last_seq + 1),
    ):
        command = Dispatch(
            tenant=ACME, effect=effect, last_seq=seq, review=given_review, again=again, attempt=1,
            grant_id=GrantId("gra_1"), policy_revision=engine.revision, rules=(), fence=held,
        )  # fmt: skip
        refused(node, store.apply(command))
    assert node.run(store.effect(ACME, effect)).state is EffectState.IN_REVIEW


def test_result_does_not_count_when_another_fence_reports_it(node):
    answer = node.perform()
    store: Any = node.node.gate._store
    after = node.run(store.effect(ACME, answer.effect.id))
    late = Settle(
        tenant=ACME, effect=after.id, last_seq=after.last_seq, attempt=1, fence=Fence(node=NodeId("nod_x"), number=9),
        state=EffectState.FAILED, code="late",
        draft=draft(
            "effect.settled",
            {"effect": after.id, "before": after.last_seq, "moves": [], "state": "failed", "code": "late",
             "attempt": 1, "node": "nod_x", "fence": 9, "ending": "failed"},
        ),
    )  # fmt: skip
    settled = node.run(store.apply(late))
    assert not settled.applied
    now = node.run(store.effect(ACME, after.id))
    assert (now.state, now.code) == (after.state, after.code)


def test_everything_of_a_tenant_is_not_found_when_another_asks(node):
    effect, review = waiting(node, key="theirs", run="their-run")
    use = node.node
    assert node.run(use.timelines.names(ACME, "their")) != []
    for work in (
        use.gate.release(GLOBEX, effect),
        use.reviews.approve(GLOBEX, review, by="person:ann"),
        use.reviews.deny(GLOBEX, review, by="person:ann", reason="mine"),
        use.reviews.approve_and_run(GLOBEX, review, by="person:ann", on_event=ignore),
        use.recovery.attest(GLOBEX, effect, happened=True, by="person:ann", reason="mine"),
        use.timelines.explain(GLOBEX, effect),
        use.timelines.of_effect(GLOBEX, effect),
        use.timelines.of_run(GLOBEX, "their-run"),
        use.timelines.review(GLOBEX, review),
    ):
        assert isinstance(refused(node, work), NotFound)
    assert node.run(use.timelines.names(GLOBEX, "")) == []
    assert node.run(use.timelines.names(GLOBEX, effect[:8])) == []
    inbox = node.run(use.timelines.inbox(GLOBEX))
    assert (inbox.reviews, inbox.unknown, inbox.granted) == ((), (), ())
    assert node.run(use.timelines.unknown(GLOBEX)) == []
    assert node.run(use.recovery.reconcile(GLOBEX)) == []
    assert effect not in str(node.run(use.timelines.latest(GLOBEX)))
    now = node.run(use.timelines.explain(ACME, effect))
    assert now.effect.state is EffectState.IN_REVIEW


def test_answer_for_a_foreign_id_is_that_for_an_absent_one(node):
    effect, review = waiting(node)
    nobodys, no_review = EffectId("eff_" + "0" * 28), ReviewId("rev_" + "0" * 28)
    use = node.node
    for foreign, absent in (
        (use.gate.release(GLOBEX, effect), use.gate.release(GLOBEX, nobodys)),
        (use.timelines.explain(GLOBEX, effect), use.timelines.explain(GLOBEX, nobodys)),
        (use.timelines.review(GLOBEX, review), use.timelines.review(GLOBEX, no_review)),
        (
            use.reviews.approve(GLOBEX, review, by="person:ann"),
            use.reviews.approve(GLOBEX, no_review, by="person:ann"),
        ),
    ):
        theirs, none = refused(node, foreign), refused(node, absent)
        assert theirs.code == none.code
        assert str(theirs).replace(effect, "").replace(review, "") == str(none).replace(nobodys, "").replace(
            no_review, ""
        )


def test_key_of_one_tenant_says_nothing_to_another_when_both_use_it(node):
    first = node.perform(key="order-1")
    second = node.perform(key="order-1", tenant=GLOBEX, arguments={"path": "b"})
    assert first.fresh
    assert second.fresh
    assert first.effect.id != second.effect.id
    assert node.carried == 2


def test_policy_of_one_tenant_does_not_bind_another_when_it_changes(node):
    node.run(node.node.policies.activate(GLOBEX, FORBID, by="person:ann"))
    answer = node.perform(**DELETE, tenant=GLOBEX)
    assert answer.effect.state is EffectState.REFUSED
    assert node.perform(**DELETE).effect.state is EffectState.IN_REVIEW
    revision = node.run(node.node.policies.active_revision(GLOBEX))
    assert revision is not None
    assert node.run(node.node.policies.told(ACME, revision[0])) is None


@pytest.mark.parametrize("tenant", ["initech", "", 'a","x":"', "ACME", "acme\n", "assent"])
def test_wish_of_a_tenant_that_is_not_served_is_not_found_and_leaves_no_trace(node, tenant):
    before = node.run(node.node.timelines.latest(ACME))
    wish = Wish(
        tenant=TenantId(tenant), operation="files.read", arguments={"path": "a"}, principal="agent:writer",
        on_behalf_of=("person:ann",),
    )  # fmt: skip
    with pytest.raises(NotFound) as refused:
        node.run(node.node.gate.perform(wish))
    assert refused.value.code == "tenant_not_found"
    assert node.run(node.node.timelines.latest(ACME)) == before
    assert node.run(node.node.timelines.latest(TenantId(tenant))) == []


@pytest.mark.parametrize("field", ["operation", "principal", "run", "key", "arguments", "on_behalf_of", "tenant"])
@pytest.mark.parametrize("value", [None, 7, [1], b"x"], ids=repr)
def test_wish_with_a_field_of_another_type_is_malformed_and_not_a_traceback(node, field, value):
    good = Wish(tenant=ACME, operation="files.read", arguments={"path": "a"}, principal="agent:writer")
    with pytest.raises(Malformed) as refused:
        node.run(node.node.gate.perform(msgspec.structs.replace(good, **{field: value})))
    assert refused.value.code == "wish_malformed"
