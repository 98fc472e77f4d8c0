from __future__ import annotations

import copy
import pickle
from typing import Any

import msgspec
import pytest

from assent.execution.attestations import ConfinementClass
from assent.execution.grants import GRANT_TTL_MS, Grant, GrantGate
from assent.execution.obligations import Obligations
from assent.execution.seals import SealKey
from assent.ledger.decisions import Decision, ReviewTerms, Verdict
from assent.policy.grants import Mint
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import InvariantBroken, Refused
from assent.primitives.ids import EffectId, GrantId, NodeId, TenantId
from assent.primitives.leases import Fence

KEY = SealKey(b"k" * 32)
NOW_MS = 1_800_000_000_000
ORDER = digest(b"order")
ALLOW = Decision(
    verdict=Verdict.ALLOW,
    code="allowed",
    reason="because",
    policy_revision=digest(b"policy"),
    rules=("a",),
    obligations=Obligations(floor=ConfinementClass.NAMESPACED, hosts=("a.test:443",)),
)


def mint(decision: Decision = ALLOW, *, key: SealKey = KEY, number: int = 1) -> Grant:
    return Mint(key).mint(
        decision=decision,
        intent=digest(b"intent"),
        order=ORDER,
        tenant=TenantId("acme"),
        effect=EffectId("eff_1"),
        attempt=1,
        fence=Fence(node=NodeId("nod_1"), number=7),
        now_ms=NOW_MS,
        id=GrantId(f"gra_{number}"),
    )


def refusal(gate: GrantGate, grant: Any, *, order: Digest = ORDER, now_ms: int = NOW_MS) -> str:
    with pytest.raises(Refused) as caught:
        gate.admit(grant, order=order, now_ms=now_ms)
    return caught.value.code


def test_mint_binds_the_decision_the_order_the_fence_and_the_time():
    body = mint().body
    assert (body.intent, body.order) == (digest(b"intent"), ORDER)
    assert (body.policy_revision, body.obligations) == (ALLOW.policy_revision, ALLOW.obligations)
    assert body.fence == Fence(node=NodeId("nod_1"), number=7)
    assert (body.issued_at_ms, body.expires_at_ms) == (NOW_MS, NOW_MS + GRANT_TTL_MS)


@pytest.mark.parametrize(
    "decision",
    [
        msgspec.structs.replace(ALLOW, verdict=Verdict.DENY, obligations=None),
        msgspec.structs.replace(ALLOW, verdict=Verdict.DENY),
        msgspec.structs.replace(ALLOW, verdict=Verdict.REVIEW, review=ReviewTerms(question="?")),
        msgspec.structs.replace(ALLOW, obligations=None),
        msgspec.structs.replace(ALLOW, verdict="allow"),
    ],
)
def test_mint_grants_nothing_unless_the_decision_allows(decision: Decision):
    with pytest.raises(InvariantBroken) as caught:
        mint(decision)
    assert caught.value.code == "grant_without_consent"


def test_gate_admits_a_grant_once():
    gate, grant = GrantGate(KEY), mint()
    assert gate.admit(grant, order=ORDER, now_ms=NOW_MS) == grant.body
    assert refusal(gate, grant) == "grant_used"
    assert refusal(gate, mint()) == "grant_used"  # the same id, minted again


def test_gate_refuses_a_grant_for_another_order_and_keeps_it_unused():
    gate, grant = GrantGate(KEY), mint()
    assert refusal(gate, grant, order=digest(b"other")) == "grant_order_mismatch"
    assert gate.admit(grant, order=ORDER, now_ms=NOW_MS).order == ORDER


def test_gate_refuses_a_grant_from_the_moment_it_expires():
    gate = GrantGate(KEY)
    assert refusal(gate, mint(), now_ms=NOW_MS + GRANT_TTL_MS) == "grant_expired"
    assert gate.admit(mint(), order=ORDER, now_ms=NOW_MS + GRANT_TTL_MS - 1).attempt == 1


def test_gate_refuses_a_grant_sealed_with_another_key():
    assert refusal(GrantGate(KEY), mint(key=SealKey(b"x" * 32))) == "grant_forged"


@pytest.mark.parametrize(
    "changed",
    [
        {"order": digest(b"other")},
        {"obligations": Obligations(floor=ConfinementClass.LOCAL_WEAK)},
        {"fence": Fence(node=NodeId("nod_1"), number=8)},
        {"tenant": TenantId("other")},
        {"expires_at_ms": NOW_MS * 2},
        {"id": GrantId("gra_2")},
        {"attempt": 2},
    ],
)
def test_gate_refuses_a_grant_whose_body_was_exchanged_by_force(changed: dict[str, Any]):
    grant = mint()
    object.__setattr__(grant, "body", msgspec.structs.replace(grant.body, **changed))
    assert refusal(GrantGate(KEY), grant, order=changed.get("order", ORDER)) == "grant_forged"


def test_grant_cannot_be_constructed():
    with pytest.raises(TypeError):
        Grant()
    assert refusal(GrantGate(KEY), object.__new__(Grant)) == "grant_forged"
    assert refusal(GrantGate(KEY), mint().body) == "grant_forged"


def test_grant_cannot_be_changed():
    grant = mint()
    for name in ("body", "mac", "other"):
        with pytest.raises(AttributeError):
            setattr(grant, name, b"")
    with pytest.raises(AttributeError):
        grant.body.attempt = 2  # type: ignore[misc]


def test_grant_cannot_be_pickled_or_copied():
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode):
        with pytest.raises(TypeError):
            duplicate(mint())


def test_grant_cannot_be_forged_by_a_subclass():
    class Forged(Grant):
        def __init__(self) -> None:
            self.body = mint().body
            self.mac = mint().mac

    assert refusal(GrantGate(KEY), Forged()) == "grant_forged"
