"""Slices: for every operation, the rules whose head can match its calls, ready to be asked.

Cedar walks all the rules it is given, so it is given few. An operation fixes the action and the resource of its calls,
and those two parts of a rule's head are compared with constants: whether they can match is known before any call. A
slice therefore leaves out only rules that cannot apply; the principal and the conditions are left to Cedar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Final

from assent.ledger.rates import COUNTED
from assent.policy.cedar import Cedar, Judge
from assent.policy.expressions import WHOLE
from assent.policy.rules import Rule
from assent.policy.world import World


class Slice:
    """Some rules and their judge. `sees_*`: the digest or the run can matter; `counts`: what they read of `COUNTED`."""

    def __init__(self, *, rules: Iterable[Rule], making: Callable[[Iterable[Rule]], Judge]) -> None:
        self.rules: Final[Mapping[str, Rule]] = {rule.id: rule for rule in rules}
        self.judge: Final = making(self.rules.values())
        self._making: Final = making
        seen = frozenset[str]().union(*(rule.reads for rule in self.rules.values()))
        self.sees_intent: Final = not seen.isdisjoint({"intent", WHOLE})
        self.sees_run: Final = not seen.isdisjoint({"run", WHOLE})
        self.counts: Final = frozenset(COUNTED) if WHOLE in seen else seen.intersection(COUNTED)

    @cached_property
    def sides(self) -> tuple[Judge, Judge]:
        """The permits alone and the forbids alone: asked apart, each side names all of its rules that apply."""
        permits = (rule for rule in self.rules.values() if not rule.forbids)
        forbids = (rule for rule in self.rules.values() if rule.forbids)
        return self._making(permits), self._making(forbids)

    @cached_property
    def probe(self) -> Judge:
        """What is left to be asked about an approval, once it is known what happens without: the permits, and the
        forbids that look at approvals. Another forbid says the same as before."""
        return self._making(rule for rule in self.rules.values() if not rule.forbids or rule.asks)

    def named(self, ids: Iterable[str]) -> tuple[Rule, ...]:
        """The rules with these ids, in the order given."""
        return tuple(self.rules[name] for name in ids)


def slices(rules: Iterable[Rule], *, world: World, cedar: Cedar) -> dict[str, Slice]:
    """The slice of every operation. Operations that share their rules share the slice."""
    every = tuple(rules)
    entities = cedar.entities(world.entities())

    def judging(some: Iterable[Rule]) -> Judge:
        return cedar.judge({rule.id: rule.body for rule in some}, entities)

    made: dict[tuple[str, ...], Slice] = {}
    found: dict[str, Slice] = {}
    for offer in world.offers.values():
        reaching = tuple(rule for rule in every if world.reaches(rule, offer))
        ids = tuple(rule.id for rule in reaching)
        if ids not in made:
            made[ids] = Slice(rules=reaching, making=judging)
        found[offer.name] = made[ids]
    return found
