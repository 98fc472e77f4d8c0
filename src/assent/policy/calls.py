"""Hypothetical calls: what a rule might apply to, enumerated from its own scope and constants. Pure.

Whether a rule can ever apply cannot be read off its text, so it is tried out. For every attribute that the condition
looks at there are a few values at which the condition can change its mind: the constants it compares with and their
neighbours, texts that its patterns match, absent, and something else. Their combinations are the grid of a rule.

What no call can have is not in the grid: a chain that ends nowhere, a host for an operation that reaches none, a
negative size, an approval of another call. A rule that waits for such a thing never applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from math import gcd, prod
from typing import Any

import msgspec

from assent.ledger.operations import Facts
from assent.ledger.rates import COUNTED
from assent.policy.approvals import Hypothetical
from assent.policy.expressions import WHOLE, Literals, entities, literals, variables
from assent.policy.principals import chain_fault, entity_of
from assent.policy.requests import context
from assent.policy.rules import Rule
from assent.policy.terms import QUORUM_MAX
from assent.policy.world import World
from assent.primitives.digests import Digest

GRID_MAX = 4_096
VALUES_MAX = 48
SIZE_MAX = 2**53 - 1

SOMEONE = "person:someone"
OTHERS = tuple(f"person:other-{number}" for number in range(1, QUORUM_MAX))
DIGEST = Digest("sha256:" + "0" * 64)

_TEXTS = ("path", "host", "method", "program", "target")
_ELSE = {
    "path": "some/other.file",
    "host": "other.example:443",
    "method": "OTHER",
    "program": "other",
    "target": "other",
    "run": "run_other",
}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One hypothetical call."""

    principal: str
    operation: str
    on_behalf_of: tuple[str, ...] = ()
    facts: Facts = Facts()
    digest: Digest = DIGEST
    run: str = ""
    approval: Hypothetical | None = None

    @property
    def context(self) -> str:
        """What rules see of it, as JSON text."""
        return context(
            on_behalf_of=self.on_behalf_of,
            digest=self.digest,
            run=self.run,
            facts=self.facts,
            approval=self.approval,
        ).decode()

    def __str__(self) -> str:
        facts = [f"{name}={value!r}" for name, value in self.facts.told().items()]
        approved = [f"approved by {self.approval.strength}"] if self.approval else []
        chain = [f"for {', '.join(self.on_behalf_of)}"] if self.on_behalf_of else []
        return " ".join([self.principal, *chain, self.operation, *facts, *approved])


class Grid:
    """The calls to try on one rule: all of them, or `GRID_MAX` spread evenly over all of them. `who` and `what`
    stand in for the askers and operations that the rule's head gives."""

    def __init__(
        self,
        rule: Rule,
        world: World,
        *,
        who: Sequence[tuple[str, tuple[str, ...]]] | None = None,
        what: Sequence[str] | None = None,
    ) -> None:
        self._world = world
        self._axes = _axes(rule, world)
        if who is not None and what is not None:
            self._axes |= {"who": who, "what": what}
        self.size = prod(len(axis) for axis in self._axes.values())

    def __iter__(self) -> Iterator[Call]:
        step = _stride(self.size) if self.size > GRID_MAX else 1
        for count in range(min(self.size, GRID_MAX)):
            call = self._call(count * step % self.size)
            if call is not None:
                yield call

    def _call(self, index: int) -> Call | None:
        chosen: dict[str, Any] = {}
        for name, axis in self._axes.items():
            index, place = divmod(index, len(axis))
            chosen[name] = axis[place]
        principal, chain = chosen["who"]
        if chosen["host"] and not self._world.offers[chosen["what"]].contract.reaches_hosts:
            return None
        approval = msgspec.structs.replace(chosen["approval"], intent=chosen["intent"]) if chosen["approval"] else None
        return Call(
            principal=principal,
            operation=chosen["what"],
            on_behalf_of=chain,
            facts=Facts(**{name: chosen[name] for name in Facts.__struct_fields__}),
            digest=chosen["intent"],
            run=chosen["run"],
            approval=approval,
        )


def chains_for(rule: Rule) -> list[tuple[str, ...]]:
    """The chains that a rule may tell apart."""
    looks = "on_behalf_of" in rule.reads or WHOLE in rule.reads
    known = literals(rule.conditions)
    return _chains(known.get("on_behalf_of", known.get(WHOLE, Literals())).texts if looks else ())


def _stride(size: int) -> int:
    """A step that is coprime to `size` and lands near the golden section: every stretch is visited early."""
    step = int(size * 0.618033988749895) | 1
    while gcd(step, size) != 1:
        step += 1
    return step


def _axes(rule: Rule, world: World) -> dict[str, Sequence[Any]]:
    """For each part of a call the values to try, the promising ones first."""
    known = literals(rule.conditions)
    seen = rule.reads

    def looks_at(name: str) -> bool:
        return name in seen or WHOLE in seen

    def compared(name: str) -> Literals:
        return known.get(name, known.get(WHOLE, Literals()))

    axes: dict[str, Sequence[Any]] = {
        name: _texts(compared(name), _ELSE[name]) if looks_at(name) else [""] for name in (*_TEXTS, "run")
    }
    axes["inside_workspace"] = [True, False] if looks_at("inside_workspace") else [True]
    for name in ("integrity", "authority_integrity"):
        axes[name] = [2, 0, 1, 3] if looks_at(name) else [2]
    axes["untrusted"] = _groups(compared("untrusted").texts) if looks_at("untrusted") else [()]
    axes["readers_permit"] = [True, False] if looks_at("readers_permit") else [True]
    axes["beyond_mandate"] = [False, True] if looks_at("beyond_mandate") else [False]
    for name in ("payload_bytes", *COUNTED):
        axes[name] = _sizes(compared(name)) if looks_at(name) else [0]
    axes["intent"] = [*compared("intent").texts[:VALUES_MAX], DIGEST] if looks_at("intent") else [DIGEST]
    axes["approval"] = [None, *approvals(rule, world)] if looks_at("approval") else [None]
    axes["what"] = _operations(rule, world)
    axes["who"] = _askers(rule, world, compared("on_behalf_of").texts if looks_at("on_behalf_of") else ())
    return axes


def _texts(known: Literals, other: str) -> list[str]:
    """Constants, texts that match each pattern, and texts that may match two patterns at once."""
    matching = [text for pattern in known.patterns for text in _instances(pattern)]
    both = [a + b for a, b in permutations(matching, 2)] if len(known.patterns) > 1 else []
    found = dict.fromkeys((*known.texts, *matching, *both[: VALUES_MAX * 2]))
    found.pop("", None)  # an empty fact is absent
    return [*list(found)[:VALUES_MAX], "", other]


def _groups(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """No argument, each that is named, all of them, and some other."""
    return list(dict.fromkeys([(), *((text,) for text in texts), tuple(texts), ("other",)]))[:VALUES_MAX]


def _instances(pattern: tuple[str | None, ...]) -> list[str]:
    return ["".join(piece if piece is not None else filling for piece in pattern) for filling in ("x", "", "x/y")]


def _sizes(known: Literals) -> list[int]:
    """The constants and what simple calculations with two of them give, each with its neighbours, and the extremes."""
    pairs = list(permutations(known.numbers, 2))[:VALUES_MAX]
    made = [n for a, b in pairs for n in (a - b, a + b, a // b if b else 0)]
    around = (n + step for n in (*known.numbers, *made) for step in (0, -1, 1))
    sizes = dict.fromkeys(n for n in around if 0 <= n <= SIZE_MAX)
    return list(dict.fromkeys([0, 1, SIZE_MAX, *list(sizes)[: 2 * VALUES_MAX]]))


def approvals(rule: Rule, world: World) -> list[Hypothetical]:
    """Approvals that a rule may tell apart: by how many, and by whom."""
    known = literals(rule.conditions)
    named = {t for n in ("approval.approvers", "approval") if n in known for t in known[n].texts}
    people = sorted(name for name in named if name.startswith("person:"))
    declared = sorted(name for name in world.principals if name.startswith("person:"))
    numbers = known["approval.quorum"].numbers if "approval.quorum" in known else ()
    asked = rule.terms.review.quorum if rule.terms.review else 1
    quorums = {asked, 1} | {n + step for n in numbers for step in (-1, 0, 1)}
    groups = [(*people, *declared, SOMEONE, *OTHERS), *((name,) for name in people), (SOMEONE, *OTHERS)]
    return [
        Hypothetical(intent=DIGEST, quorum=quorum, approvers=group)
        for quorum in sorted(quorums, key=lambda quorum: quorum != asked)
        if 1 <= quorum <= QUORUM_MAX
        for group in dict.fromkeys(groups)
    ][:VALUES_MAX]


def _operations(rule: Rule, world: World) -> list[str]:
    """Declared operations in the rule's scope: all when the condition looks at them, else one of each sort."""
    reached = [offer for offer in world.offers.values() if world.reaches(rule, offer)]
    if _named(rule, "resource") or _named(rule, "action"):
        wanted = _all_entities(rule, "Operation")
        reached.sort(key=lambda offer: offer.name not in wanted)
        return [offer.name for offer in reached[:VALUES_MAX]]
    sorts = {bool(offer.contract.reaches_hosts): offer.name for offer in reversed(reached)}
    return [sorts[sort] for sort in (True, False) if sort in sorts]


def _askers(rule: Rule, world: World, texts: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Declared principals in the rule's scope, each with the chains it may have."""
    concerned = [name for name in world.principals if world.concerns(rule, name)]
    if _named(rule, "principal"):
        roles = _all_entities(rule, "Role")
        named = {uid for kind in ("Person", "Agent", "Service") for uid in _all_entities(rule, kind)}
        concerned.sort(
            key=lambda name: (
                entity_of(name)[1] not in named and roles.isdisjoint(world.principals[name].roles),
                bool(world.principals[name].roles),
            )
        )
    else:
        kinds = {name.partition(":")[0]: name for name in reversed(concerned)}
        concerned = [kinds[kind] for kind in sorted(kinds)]
    chains = _chains(texts)
    return [(name, chain) for name in concerned[:VALUES_MAX] for chain in chains if not chain_fault(name, chain)]


def _chains(texts: Iterable[str]) -> list[tuple[str, ...]]:
    roots = [t for t in texts if t.startswith(("person:", "schedule:"))]
    links = tuple(t for t in texts if t.startswith(("agent:", "service:")))
    single = [(link,) for link in links]
    return list(
        dict.fromkeys(
            [*((*few, root) for root in (*roots, SOMEONE) for few in (links, *single, ())), ()],
        )
    )[:VALUES_MAX]


def _named(rule: Rule, variable: str) -> bool:
    return any(variable in variables(condition) for condition in rule.conditions)


def _all_entities(rule: Rule, kind: str) -> frozenset[str]:
    return frozenset[str]().union(*(entities(condition, kind) for condition in rule.conditions))
