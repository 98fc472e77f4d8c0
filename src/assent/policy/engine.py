"""The engine: one policy revision, ready to decide.

A decision is a pure function of the policy, the declared principals and operations, and the call. The engine never
raises and never guesses: whatever it cannot judge is denied, with a code that says why.

How the three verdicts come out of an engine that knows only two
    Cedar says allow or deny. A rule asks for people by forbidding *unless* an approval is there:

        forbid (principal, action, resource == Operation::"files.delete")
        unless { context has approval && context.approval.intent == context.intent };

    A call is first judged without any approval. When forbids deny it, it is judged once more as if people had approved
    exactly this call. Allowed now: those forbids only wanted people, and the verdict is `review`, on the terms in their
    annotations. Still denied: no approval helps. A second, unconditional `forbid` thus wins over every approval.

What an approval must be, whatever the rules say
    It is for the digest of this very call, or it is none. Only people count, each once, and never the asker. It must
    carry the largest quorum that the lifted rules ask for, with the roles that each of them wants. A rule that forgets
    to compare the digest, or to count, is safe all the same. What people waived beforehand, or the asker does first in
    an emergency, lifts only rules that say so.

What was tried and dropped
    Partial evaluation, to learn from the residual what an approval would change: experimental in the binding, and eight
    times slower than a second question. A permit that requires an approval: a call without any permit is then neither
    forbidden nor reviewable, and the question would never be asked; activation refuses such rules.

The cache
    Decisions are remembered by everything a rule of the slice can see. The digest and the run differ from call to call,
    so they are part of the key only where a rule looks at them. Approved calls are not cached: they happen once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from assent.execution.obligations import Obligations
from assent.ledger.contracts import OperationContract
from assent.ledger.decisions import Decision, ReviewTerms, Verdict
from assent.ledger.intents import Intent
from assent.ledger.operations import Facts
from assent.ledger.reviews import Voice, completes, is_among, is_person
from assent.policy import reasons
from assent.policy.approvals import Approval, Emergency, Hypothetical, Waived
from assent.policy.bundle import Bundle
from assent.policy.cedar import Answer, Cedar, Judge, Question
from assent.policy.explain import Explanation, explained
from assent.policy.faults import malformed
from assent.policy.principals import KnownPrincipal, chain_fault
from assent.policy.rates import highest
from assent.policy.requests import context, context_of
from assent.policy.rules import Rule, read_rules
from assent.policy.schema import SCHEMA
from assent.policy.slices import Slice, slices
from assent.policy.terms import joined, tightened
from assent.policy.world import Offer, World
from assent.primitives.digests import Digest

CACHE_MAX = 8_192
DEFAULTS = Obligations()


class _Case(NamedTuple):
    """One call on its way to a decision."""

    intent: Intent
    digest: Digest
    facts: Facts
    offer: Offer
    slice: Slice

    @property
    def words(self) -> str:
        return f"`{self.intent.operation}` for `{self.intent.principal}`"


class Engine:
    """Decides calls under one policy. Immutable: what the cache remembers changes no result.

    `defaults` hold where no rule says otherwise: rules and contracts can only raise the floor; a limit that a rule
    names replaces the default one.

    Raises:
        Malformed: `policy_invalid`, naming each mistake in the text; or what `World` raises.
    """

    def __init__(
        self,
        *,
        bundle: Bundle,
        contracts: Mapping[str, OperationContract],
        principals: Iterable[KnownPrincipal],
        defaults: Obligations = DEFAULTS,
    ) -> None:
        cedar = Cedar(SCHEMA)
        reading = read_rules(bundle.text, cedar=cedar)
        if reading.faults:
            raise malformed("policy_invalid", "the policy cannot be used", reading.faults)
        self.revision: Final[Digest] = bundle.revision
        self.rules: Final[tuple[Rule, ...]] = reading.rules
        self._cedar: Final = cedar
        self.world: Final = World(contracts=contracts, principals=principals)
        self._slices: Final = slices(reading.rules, world=self.world, cedar=cedar)
        self._defaults: Final = defaults
        self._cache: Final[dict[tuple[str, ...], Decision]] = {}

    def decide(
        self, *, intent: Intent, intent_digest: Digest, facts: Facts, approval: Approval | None = None
    ) -> Decision:
        """Decide one call. Never raises; what cannot be judged is denied.

        `facts` are computed by the operation, `intent_digest` from the intent; `approval` has not expired.
        """
        try:
            return self._decide(intent, intent_digest, facts, approval)
        except Exception as error:  # noqa: BLE001 (the one place where any failure of judgement means no)
            return self._denied("policy_error", f"the call could not be judged: {type(error).__name__}")

    def explain(
        self, *, intent: Intent, intent_digest: Digest, facts: Facts, approval: Approval | None = None
    ) -> Explanation:
        """Decide one call and say of every rule of the policy what it makes of it. Never raises."""
        decision = self.decide(intent=intent, intent_digest=intent_digest, facts=facts, approval=approval)
        try:
            return explained(
                decision,
                rules=self.rules,
                world=self.world,
                cedar=self._cedar,
                principal=intent.principal,
                operation=intent.operation,
                context=context_of(intent, intent_digest, facts, _bound(approval, intent_digest)),
            )
        except Exception:  # noqa: BLE001 (as in `decide`)
            return Explanation(decision=decision)

    def applying(self, *, intent: Intent, intent_digest: Digest, facts: Facts) -> tuple[str, ...]:
        """The names of all rules that apply to a call without an approval, whatever they make of it together; none when
        it is refused before any rule is asked, or the rules could not be evaluated."""
        if self._refusal(intent) is not None:
            return ()
        case = _Case(intent, intent_digest, facts, self.world.offers[intent.operation], self._slices[intent.operation])
        return tuple(name for judge in case.slice.sides for name in self._ask(case, None, judge).rules)

    def counts(self, operation: str) -> frozenset[str]:
        """The counts of calls (`ledger.rates`) that rules read of calls of an operation."""
        found = self._slices.get(operation)
        return found.counts if found else frozenset()

    def highest(self, operation: str, name: str, count: int) -> int | None:
        """The highest count of `name` at which calls of the operation are decided as at `count`; None: any."""
        return highest(self._slices[operation].rules.values(), name, count)

    def _decide(self, intent: Intent, digest: Digest, facts: Facts, approval: Approval | None) -> Decision:
        refusal = self._refusal(intent)
        if refusal is not None:
            return refusal
        offer = self.world.offers[intent.operation]
        case = _Case(intent, digest, facts, offer, self._slices[intent.operation])
        approval = _bound(approval, digest)
        return self._remembered(case) if approval is None else self._judged(case, approval)

    def _refusal(self, intent: Intent) -> Decision | None:
        """What needs no rule to be denied: nobody known asks, or for nothing known."""
        fault = chain_fault(intent.principal, intent.on_behalf_of)
        if fault:
            return self._denied("principal_invalid", fault)
        if intent.principal not in self.world.principals:
            return self._denied("unknown_principal", f"`{intent.principal}` is not declared here")
        offer = self.world.offers.get(intent.operation)
        if offer is None:
            return self._denied("unknown_operation", f"no connector offers `{intent.operation[:80]}`")
        if intent.contract != offer.digest:
            return self._denied(
                "contract_changed", f"the contract of `{offer.name}` is not the one that was asked under"
            )
        return None

    def _remembered(self, case: _Case) -> Decision:
        intent, seen = case.intent, case.slice
        shown = context(
            on_behalf_of=intent.on_behalf_of,
            digest=case.digest if seen.sees_intent else "",
            run=intent.run if seen.sees_run else "",
            facts=case.facts,
            counts=seen.counts,
        )
        key = (intent.operation, intent.principal, shown.decode())
        found = self._cache.get(key)
        if found is None:
            found = self._judged(case, None)
            if found.code != "policy_error":
                self._remember(key, found)
        return found

    def _remember(self, key: tuple[str, ...], decision: Decision) -> None:
        if len(self._cache) >= CACHE_MAX:
            self._cache.clear()  # rare and cheap; evicting one by one would cost every hit its bookkeeping
        self._cache[key] = decision

    def _judged(self, case: _Case, approval: Approval | None) -> Decision:
        first = self._ask(case, None)
        if first.failed:
            return self._failed(first)
        if first.allowed:
            return self._allowed(case, first)
        if not first.rules:
            return self._unpermitted(case)
        forbids = case.slice.named(first.rules)
        hard = tuple(rule for rule in forbids if not rule.asks)
        if hard:
            return self._forbidden(case, forbids, hard)
        return self._reviewable(case, forbids, approval)

    def _reviewable(self, case: _Case, forbids: tuple[Rule, ...], approval: Approval | None) -> Decision:
        """Decide a call that `forbids` deny without an approval."""
        terms = joined((rule.terms for rule in forbids), question=f"Allow {case.words}?")
        if approval is not None and self._suffices(approval, terms, case.intent):
            answer = self._ask(case, approval)
            if answer.failed:
                return self._failed(answer)
            if answer.allowed:
                return self._allowed(case, answer, lifted=forbids, approvals=approval.strength)
        answer = self._probed(case, terms.quorum)
        if answer.failed:
            return self._failed(answer)
        if not answer.allowed:
            return self._forbidden(case, forbids, case.slice.named(answer.rules))
        given = f" ({approval.strength} of {terms.quorum} approvals are there)" if approval is not None else ""
        permits = case.slice.named(answer.rules)
        return Decision(
            verdict=Verdict.REVIEW,
            code="needs_review",
            reason=reasons.reviewed(forbids, call=case.words, missing=given),
            policy_revision=self.revision,
            rules=tuple(rule.id for rule in forbids),
            obligations=self._obligations(case, (*permits, *forbids)),
            review=terms,
        )

    def _suffices(self, approval: Approval, terms: ReviewTerms, intent: Intent) -> bool:
        """Whether an approval is what the lifted rules ask for: by enough people, with the roles that they have now."""
        if isinstance(approval, Emergency):
            mine = self.roles_of(intent.principal)
            return is_person(intent.principal) and not mine.isdisjoint(terms.emergency)
        if isinstance(approval, Waived) and approval.lasts_s > terms.waivable_s:
            return False
        places = approval.places or ("",) * len(approval.approvers)
        voices = [
            Voice(name, self.roles_of(place or name))
            for name, place in zip(approval.approvers, places, strict=True)
            if not is_among(name, (intent.principal, *(intent.on_behalf_of if terms.demands.apart else ())))
        ]
        return approval.strength >= terms.quorum and completes(
            terms.demands, terms.quorum, voices, escalated=approval.escalated
        )

    def waivable_s(self, covers: Callable[[str], bool]) -> int:
        """For how long at most the questions about some operation that `covers` names may be waived; 0: for none."""
        said = [
            rule.terms.review.waivable_s
            for offer in self.world.offers.values()
            if covers(offer.name)
            for rule in self.rules
            if rule.terms.review is not None and self.world.reaches(rule, offer)
        ]
        return max(said, default=0)

    def roles_of(self, principal: str) -> frozenset[str]:
        """The roles of a principal that is declared; none of any other."""
        known = self.world.principals.get(principal)
        return frozenset(known.roles) if known else frozenset()

    def _probed(self, case: _Case, quorum: int) -> Answer:
        """Judge the call as if `quorum` people had approved it: all who are declared and may answer for it; or, because
        rules may keep out those in whose name it is done, all the others."""
        people = {name for name in self.world.principals if name.startswith("person:")} - {case.intent.principal}
        groups = dict.fromkeys((frozenset(people), frozenset(people.difference(case.intent.on_behalf_of))))
        answer = Answer(allowed=False)
        for group in groups:
            supposed = Hypothetical(intent=case.digest, quorum=quorum, approvers=tuple(sorted(group)))
            answer = self._ask(case, supposed, case.slice.probe)
            if answer.allowed or answer.failed:
                break
        return answer

    def _ask(self, case: _Case, approval: Approval | None, judge: Judge | None = None) -> Answer:
        intent = case.intent
        return (judge or case.slice.judge).ask(
            Question(
                principal=self.world.uids[intent.principal],
                action=case.offer.action,
                resource=case.offer.name,
                context=context_of(intent, case.digest, case.facts, approval, counts=case.slice.counts),
            )
        )

    def _obligations(self, case: _Case, rules: Iterable[Rule]) -> Obligations:
        hosts = (case.facts.host,) if case.facts.host else ()
        terms = (rule.terms for rule in rules)
        return tightened(self._defaults, terms, hosts=hosts, least=case.offer.contract.floor)

    def _allowed(self, case: _Case, answer: Answer, *, lifted: tuple[Rule, ...] = (), approvals: int = 0) -> Decision:
        permits = case.slice.named(answer.rules)
        return Decision(
            verdict=Verdict.ALLOW,
            code="allowed",
            reason=reasons.permitted(permits, call=case.words, lifted=lifted, approvals=approvals),
            policy_revision=self.revision,
            rules=answer.rules,
            obligations=self._obligations(case, (*permits, *lifted)),
        )

    def _forbidden(self, case: _Case, forbids: tuple[Rule, ...], hard: tuple[Rule, ...]) -> Decision:
        """`hard` are those of `forbids` that no approval lifts (empty: nothing permits the call even when approved)."""
        reason = reasons.forbidden(hard or forbids, call=case.words)
        return self._denied("forbidden", reason, rules=tuple(rule.id for rule in forbids))

    def _unpermitted(self, case: _Case) -> Decision:
        near = [
            rule
            for rule in case.slice.rules.values()
            if not rule.forbids and self.world.concerns(rule, case.intent.principal)
        ]
        reason = reasons.unpermitted(
            near,
            call=case.words,
            principal=self.world.uids[case.intent.principal],
            action=case.offer.action,
            operation=case.offer.name,
        )
        return self._denied("no_rule", reason)

    def _failed(self, answer: Answer) -> Decision:
        return self._denied("policy_error", f"the rules could not be evaluated: {answer.failed[:300]}")

    def _denied(self, code: str, reason: str, *, rules: tuple[str, ...] = ()) -> Decision:
        return Decision(verdict=Verdict.DENY, code=code, reason=reason, policy_revision=self.revision, rules=rules)


def _bound(approval: Approval | None, digest: Digest) -> Approval | None:
    """An approval of another call is no approval."""
    return approval if approval is not None and approval.intent == digest else None
