"""Comparing two policies: calls that one lets happen more easily than the other, searched for on a grid. Pure.

A policy cannot be proved tighter than another here: Cedar's own analysis has no binding. So calls are made up where
either could change its mind, and both decide them. For every group of operations that the same rules reach, in either
policy, the grid spans what those rules look at: the constants they compare with and their neighbours, the labels, the
size, whether and by whom it was approved, and one asker of each kind that their heads tell apart. A group's grid is
visited evenly; what is between its points is not seen. So `found` is proof that a policy loosens, and nothing found is
none that it does not: the number of points says how hard it was looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from assent.execution.attestations import tightest
from assent.ledger.decisions import Decision, ReviewTerms, Seat, Verdict
from assent.ledger.intents import Intent
from assent.policy.approvals import Approval
from assent.policy.calls import Call, Grid, chains_for
from assent.policy.engine import Engine
from assent.policy.expressions import variables
from assent.policy.principals import chain_fault
from assent.policy.rules import Rule, Scope
from assent.policy.world import Offer, World
from assent.primitives.ids import TenantId

POINTS_EACH = 512
LOOSER_MAX = 20
ASKERS_MAX = 24
_TENANT = TenantId("compare")
_OPENNESS = {Verdict.DENY: 0, Verdict.REVIEW: 1, Verdict.ALLOW: 2}


class Looser(msgspec.Struct, frozen=True, kw_only=True):
    """A call that `after` lets happen more easily than `before`: what it is, and what each says."""

    call: str
    operation: str
    principal: str
    before: Verdict
    after: Verdict
    how: str
    rules: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on `points` calls: on how many the second policy is looser, and tighter; and one example for each
    way (connector, verdicts, rules) in which it is looser, at most `LOOSER_MAX`."""

    points: int
    looser: int
    tighter: int
    examples: tuple[Looser, ...]

    @property
    def loosens(self) -> bool:
        """Whether a call was found that may happen more easily."""
        return self.looser > 0


def compare(before: Engine, after: Engine, *, points_each: int = POINTS_EACH) -> Comparison:
    """Search for calls that `after` lets happen more easily. Both must be about the same operations and principals."""
    points = looser = tighter = 0
    found: dict[tuple[str, ...], Looser] = {}
    for call in _calls(before, after, points_each):
        points += 1
        old, new = decided(before, call), decided(after, call)
        how = loosened(old, new)
        looser += bool(how)
        tighter += not how and bool(loosened(new, old))
        if how:
            key = (call.operation.partition(".")[0], old.verdict, new.verdict, *(new.rules or old.rules))
            found.setdefault(key, _looser(call, old, new, how))
    return Comparison(points=points, looser=looser, tighter=tighter, examples=tuple(found.values())[:LOOSER_MAX])


def loosened(old: Decision, new: Decision) -> str:
    """In what `new` lets a call happen more easily than `old`; empty when in nothing."""
    if _OPENNESS[new.verdict] != _OPENNESS[old.verdict]:
        return f"{old.verdict} becomes {new.verdict}" if _OPENNESS[new.verdict] > _OPENNESS[old.verdict] else ""
    if old.review and new.review and new.review.quorum < old.review.quorum:
        return f"{new.review.quorum} people suffice where {old.review.quorum} had to approve"
    if old.review and new.review and (how := _looser_review(old.review, new.review)):
        return how
    if old.obligations and new.obligations:
        return _looser_terms(old, new)
    return ""


def _looser_review(old: ReviewTerms, new: ReviewTerms) -> str:
    gone = [seat for seat in old.demands.seats if not any(_as_strict(one, seat) for one in new.demands.seats)]
    if gone:
        return f"nobody with the role `{gone[0].roles[0]}` has to be among those who approve as it was"
    if old.demands.apart and not new.demands.apart:
        return "somebody in whose name it is asked may approve"
    if first := set(new.emergency) - set(old.emergency):
        return f"people with the role `{min(first)}` may do it first and be looked at afterwards"
    return "the question may be waived for longer" if new.waivable_s > old.waivable_s else ""


def _as_strict(new: Seat, old: Seat) -> bool:
    """Whether whoever fills `new` would have filled `old`."""
    later = not new.escalate_s or (0 < old.escalate_s <= new.escalate_s)
    return (
        set(new.roles) <= set(old.roles)
        and new.quorum >= old.quorum
        and set(new.escalate_to) <= {*old.escalate_to, *old.roles}
        and later
    )


def _looser_terms(old: Decision, new: Decision) -> str:
    assert old.obligations is not None, "asked for both"
    assert new.obligations is not None, "asked for both"
    was, now = old.obligations, new.obligations
    if tightest(now.floor, was.floor) is not now.floor:
        return f"`{now.floor}` suffices where `{was.floor}` was the least confinement"
    if not set(now.hosts) <= set(was.hosts):
        return f"`{min(set(now.hosts) - set(was.hosts))}` may be reached"
    if set(now.accept or ()) - set(was.accept or (was.floor,)):
        return "a class of confinement is accepted that was not"
    limits = [name for name in was.limits.__struct_fields__ if getattr(now.limits, name) > getattr(was.limits, name)]
    return f"the limit `{limits[0]}` is higher" if limits else ""


def _calls(before: Engine, after: Engine, points_each: int) -> Iterator[Call]:
    """The points of every group's grid, then of every rule's own, where its constants are met more densely."""
    world = after.world
    groups: dict[tuple[tuple[str, ...], ...], list[Offer]] = {}
    for offer in world.offers.values():
        reaching = tuple(tuple(r.id for r in engine.rules if world.reaches(r, offer)) for engine in (before, after))
        groups.setdefault((*reaching, (offer.action,)), []).append(offer)
    every = [rule for engine in (before, after) for rule in engine.rules]
    for offers in groups.values():
        rules = [rule for rule in every if world.reaches(rule, offers[0])]
        if rules:
            yield from islice(_grid(rules, rules, offers, world), points_each)
    for rule in _differing(before, after):
        for offers in groups.values():
            if world.reaches(rule, offers[0]):
                rules = [one for one in every if world.reaches(one, offers[0])]
                yield from islice(_grid([rule], rules, offers, world), points_each)


def _differing(before: Engine, after: Engine) -> Iterator[Rule]:
    """Rules that stand in one of the two only."""
    bodies = [[rule.body for rule in engine.rules] for engine in (before, after)]
    for engine, others in ((before, bodies[1]), (after, bodies[0])):
        yield from (rule for rule in engine.rules if rule.body not in others)


def _grid(rules: list[Rule], heads: list[Rule], offers: list[Offer], world: World) -> Iterator[Call]:
    """The grid of all that several rules look at together, for askers that `heads` tell apart."""
    anything = Scope(op="All")
    together = msgspec.structs.replace(
        rules[0],
        principal=anything,
        action=anything,
        resource=anything,
        conditions=tuple(condition for rule in rules for condition in rule.conditions),
        reads=frozenset[str]().union(*(rule.reads for rule in rules)),
    )
    named = any("resource" in variables(condition) for condition in together.conditions)
    what = [offer.name for offer in (offers if named else offers[:1])]
    yield from Grid(together, world, who=list(_askers(together, heads, world)), what=what)


def _askers(together: Rule, rules: Iterable[Rule], world: World) -> Iterator[tuple[str, tuple[str, ...]]]:
    """One principal of each sort that the rules' heads tell apart, with each chain it may have; all of them when a
    condition looks at who asks."""
    apart = any("principal" in variables(condition) for condition in together.conditions)
    sorts: dict[tuple[object, ...], str] = {}
    for name in world.principals:
        sort = (name,) if apart else (name.partition(":")[0], *(world.concerns(rule, name) for rule in rules))
        sorts.setdefault(sort, name)
    for name in islice(sorts.values(), ASKERS_MAX):
        yield from ((name, chain) for chain in chains_for(together) if not chain_fault(name, chain))


def decided(engine: Engine, call: Call) -> Decision:
    """What an engine decides about a hypothetical call."""
    intent = Intent(
        tenant=_TENANT,
        operation=call.operation,
        contract=engine.world.offers[call.operation].digest,
        arguments={},
        principal=call.principal,
        on_behalf_of=call.on_behalf_of,
        run=call.run,
    )
    given = call.approval
    approval = Approval(intent=call.digest, quorum=given.strength, approvers=given.approvers) if given else None
    return engine.decide(intent=intent, intent_digest=call.digest, facts=call.facts, approval=approval)


def _looser(call: Call, old: Decision, new: Decision, how: str) -> Looser:
    return Looser(
        call=str(call), operation=call.operation, principal=call.principal, before=old.verdict, after=new.verdict,
        how=how, rules=new.rules or old.rules,
    )  # fmt: skip
