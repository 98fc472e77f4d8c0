"""Suppositions: a call that nobody makes, and what is supposed about it. Pure; nothing is carried out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from assent.ledger.contracts import contract_digest, read_arguments
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.operations import Facts, Operation, Place
from assent.ledger.provenance import TYPED, Provenance
from assent.policy.approvals import Approval
from assent.policy.calls import OTHERS
from assent.policy.engine import Engine
from assent.policy.explain import Explanation
from assent.policy.flow import judged
from assent.policy.mandates import Mandate, beyond
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed
from assent.primitives.ids import TenantId


class Supposition(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `approvers` have said yes to exactly this call; or `approved` people have, whoever is asked. `mandates`
    are what was asked for, and `counts` how often the asker was let do it before (`ledger.rates`)."""

    tenant: TenantId
    operation: str
    arguments: Mapping[str, Any]
    principal: str
    on_behalf_of: tuple[str, ...] = ()
    run: str = ""
    provenance: Provenance = TYPED
    mandates: tuple[Mandate, ...] = ()
    approved: int = 0
    approvers: tuple[str, ...] = ()
    counts: Mapping[str, int] = {}


class Posed(NamedTuple):
    """A supposition as the engine is asked about it."""

    intent: Intent
    digest: Digest
    facts: Facts
    approval: Approval | None


class Posing(NamedTuple):
    """Where calls are supposed: by which engine, with which operations, and among which people."""

    engine: Engine
    operations: Mapping[str, Operation]
    place: Place
    people: Iterable[str] = ()

    def decide(self, one: Supposition) -> Decision:
        """What policy makes of it."""
        try:
            posed = self._posed(one)
        except Malformed as error:
            return self._unreadable(error)
        return self.engine.decide(
            intent=posed.intent, intent_digest=posed.digest, facts=posed.facts, approval=posed.approval
        )

    def explain(self, one: Supposition) -> Explanation:
        """What policy makes of it, rule by rule."""
        try:
            posed = self._posed(one)
        except Malformed as error:
            return Explanation(decision=self._unreadable(error))
        found = self.engine.explain(
            intent=posed.intent, intent_digest=posed.digest, facts=posed.facts, approval=posed.approval
        )
        return msgspec.structs.replace(found, facts=posed.facts)

    def _posed(self, one: Supposition) -> Posed:
        operation = self.operations.get(one.operation)
        arguments, facts = dict(one.arguments), Facts()
        if operation is not None:
            arguments = read_arguments(operation.contract, one.arguments)
            facts = operation.facts(arguments, self.place)
            provenance, person = _provenance(one, operation, arguments), (one.principal, *one.on_behalf_of)[-1]
            facts = judged(facts, provenance, operation.contract, arguments, person=person)
        facts = msgspec.structs.replace(facts, **one.counts)
        intent = Intent(
            tenant=one.tenant,
            operation=one.operation,
            contract=contract_digest(operation.contract) if operation is not None else Digest(""),
            arguments=arguments,
            principal=one.principal,
            on_behalf_of=one.on_behalf_of,
            run=one.run,
        )
        digest = intent_digest(intent_bytes(intent))
        return Posed(intent, digest, facts, self._approval(one, digest))

    def _approval(self, one: Supposition, digest: Digest) -> Approval | None:
        if one.approvers:
            return Approval(intent=digest, quorum=len(one.approvers), approvers=one.approvers)
        if not one.approved:
            return None
        others = sorted({*self.people, *OTHERS}.difference({one.principal}, one.on_behalf_of))
        return Approval(intent=digest, quorum=one.approved, approvers=tuple(others))

    def _unreadable(self, malformed: Malformed) -> Decision:
        """What the gate answers to arguments that cannot be read."""
        return Decision(
            verdict=Verdict.DENY,
            code="arguments_invalid",
            reason=str(malformed),
            policy_revision=self.engine.revision,
        )


def _provenance(one: Supposition, operation: Operation, arguments: Mapping[str, Any]) -> Provenance:
    """On whose word it stands, and in what it goes beyond what was asked for."""
    told = beyond(one.mandates, operation.contract, arguments)
    return msgspec.structs.replace(one.provenance, beyond=told) if told else one.provenance
