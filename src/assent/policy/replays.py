"""Replays: what a policy makes of calls that were decided before, counted. Pure.

Each recorded call is decided again. What is compared are verdicts: with the recorded one, and with that of the revision
in force. The first says what this policy would have done; the second, what activating it changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from assent.ledger.decisions import Decision, Verdict

EXAMPLES_MAX = 3
NAMES_MAX = 50

# Codes of refusals that say nothing of what policy made of the call: it had allowed it, or was not asked.
ALLOWED_THEN = frozenset({"budget_exhausted", "halted", "target_unavailable"})
NEVER_ASKED = frozenset({"arguments_invalid", "policy_missing", "policy_unsigned"})


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A call as the record has it. `verdict` is what policy said, whatever else stood against the call afterwards."""

    seq: int
    effect: str
    operation: str
    principal: str
    on_behalf_of: tuple[str, ...]
    verdict: Verdict
    code: str
    revision: str
    at_ms: int
    effect_class: str = ""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One call that is decided otherwise, and why."""

    effect: str
    operation: str
    principal: str
    reason: str
    rules: tuple[str, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Calls whose verdict changes from one to another, and whom and what that reaches, each with how many calls of it;
    no more than `NAMES_MAX` names each, the most frequent first."""

    before: Verdict
    after: Verdict
    calls: int
    agents: Mapping[str, int]
    people: Mapping[str, int]
    operations: Mapping[str, int]
    effects: Mapping[str, int]
    examples: tuple[Example, ...]

    @property
    def loosens(self) -> bool:
        """Whether more may happen than before."""
        return _OPENNESS[self.after] > _OPENNESS[self.before]


_OPENNESS = {Verdict.DENY: 0, Verdict.REVIEW: 1, Verdict.ALLOW: 2}


class Changes:
    """Counts changes of verdicts, call by call."""

    def __init__(self) -> None:
        self._found: dict[tuple[Verdict, Verdict], _Tally] = {}

    def add(self, call: Recorded, before: Verdict, after: Decision) -> None:
        """Count a call, if its verdict changes."""
        if before is not after.verdict:
            self._found.setdefault((before, after.verdict), _Tally()).add(call, after)

    def all(self) -> tuple[Change, ...]:
        """What changes: first what loosens, then by how many calls it is."""
        changes = [tally.change(before, after) for (before, after), tally in self._found.items()]
        return tuple(sorted(changes, key=lambda one: (not one.loosens, -one.calls)))


class _Tally:
    def __init__(self) -> None:
        self.calls = 0
        self.agents: Counter[str] = Counter()
        self.people: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.examples: list[Example] = []

    def add(self, call: Recorded, decided: Decision) -> None:
        self.calls += 1
        everybody = (call.principal, *call.on_behalf_of)
        self.agents.update(name for name in everybody if name.startswith("agent:"))
        self.people.update(name for name in everybody if name.startswith("person:"))
        self.operations[call.operation] += 1
        self.effects[call.effect_class or "unknown"] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(
                Example(
                    effect=call.effect, operation=call.operation, principal=call.principal, reason=decided.reason,
                    rules=decided.rules,
                )
            )  # fmt: skip

    def change(self, before: Verdict, after: Verdict) -> Change:
        return Change(
            before=before, after=after, calls=self.calls, agents=_most(self.agents), people=_most(self.people),
            operations=_most(self.operations), effects=_most(self.effects), examples=tuple(self.examples),
        )  # fmt: skip


class RuleHits(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls a rule applied to."""

    rule: str
    effect: str
    line: int
    calls: int


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """Which rules the calls of a period met: `rules` in the order of the text, `unmatched` calls by operation that no
    rule said anything about."""

    rules: tuple[RuleHits, ...] = ()
    unmatched: Mapping[str, int] = {}

    @property
    def idle(self) -> tuple[str, ...]:
        """The rules that no call met."""
        return tuple(one.rule for one in self.rules if not one.calls)


class Coverages:
    """Counts which rules apply, call by call."""

    def __init__(self) -> None:
        self._hits: Counter[str] = Counter()
        self._unmatched: Counter[str] = Counter()

    def add(self, call: Recorded, applying: Iterable[str], decided: Decision) -> None:
        """Count a call by the rules that apply to it."""
        names = tuple(applying)
        self._hits.update(names)
        if not names and decided.code == "no_rule":
            self._unmatched[call.operation] += 1

    def all(self, rules: Iterable[tuple[str, str, int]]) -> Coverage:
        """The counts of `rules` (name, effect, line)."""
        return Coverage(
            rules=tuple(RuleHits(rule=n, effect=e, line=at, calls=self._hits[n]) for n, e, at in rules),
            unmatched=_most(self._unmatched),
        )


def _most(names: Counter[str]) -> dict[str, int]:
    return dict(sorted(names.items(), key=lambda one: (-one[1], one[0]))[:NAMES_MAX])
