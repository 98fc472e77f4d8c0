"""How far a decision holds when a count moves, read off the rules. Pure.

A rule can change its mind only at the constants that it compares a count with. Between two of them every count is
decided alike, so calls side by side need not be decided one after the other. Where a count is calculated with, or
compared with something else than a constant, the decision holds for that one count only.
"""

from __future__ import annotations

from collections.abc import Iterable

from assent.policy.expressions import COMPARISONS, WHOLE, has_arithmetic, literals, nodes, reads
from assent.policy.rules import Rule


def highest(rules: Iterable[Rule], name: str, count: int) -> int | None:
    """The highest count of `name` for which `rules` say what they say for `count`; None when there is no such."""
    found: list[int] = []
    for rule in rules:
        if WHOLE in rule.reads:
            return count
        if name in rule.reads:
            if not all(_is_plain(condition, name) for condition in rule.conditions):
                return count
            numbers = literals(rule.conditions)[name].numbers
            found += [number if number == count else number - 1 for number in numbers if number >= count]
    return min(found, default=None)


def _is_plain(condition: object, name: str) -> bool:
    """Whether it compares the count with constants only."""
    if has_arithmetic(condition):
        return False
    compared = [reads(node) for node in nodes(condition) if not COMPARISONS.isdisjoint(node)]
    return all(attributes == {name} for attributes in compared if name in attributes)
