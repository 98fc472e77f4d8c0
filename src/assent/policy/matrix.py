"""The matrix of a policy: who may do what, on whose word, as a table that people read. Pure.

A row is about operations that are decided alike, for those who ask alike. It begins with the usual call (inside the
workspace, on a person's word, to a host that no rule names); its cells change one thing at a time: where the call falls
or on whose word it stands. Where rules name a value (a host, a path, a program, a size, somebody in whose name it is
asked), a further row shows what it changes. What two such things do together is not in the table: `compare` looks for
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from assent.ledger.contracts import OperationContract
from assent.ledger.decisions import Decision
from assent.ledger.operations import Facts
from assent.ledger.rates import COUNTED
from assent.policy.calls import SOMEONE, Call
from assent.policy.comparing import decided
from assent.policy.engine import Engine
from assent.policy.expressions import Literals, entities, literals
from assent.policy.principals import chain_fault
from assent.policy.rules import Rule
from assent.policy.world import Offer, World
from assent.primitives.labels import STRENGTH, Integrity

OTHER_HOST = "other.example:443"
VALUES_EACH_MAX = 24
_THEIRS, _ORG = STRENGTH[Integrity.THIRD_PARTY], STRENGTH[Integrity.ORG]
_TEXTS = ("path", "host", "method", "program", "target")
_KINDS = {"agent": "agents", "person": "people", "service": "services"}

SITUATIONS: Mapping[str, str] = {
    "usual": "inside the workspace, on a person's word",
    "outside": "a path leads out of the workspace",
    "org's word": "a record of the organisation says where it falls",
    "third party seen": "the asker had seen a third party's words; a person says where it falls",
    "third party's word": "a third party may have chosen where it falls",
    "readers": "somebody would receive it who may not read it",
    "beyond": "it goes beyond what was asked for",
}
"""What the cells of a row are about."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided, and by which rules."""

    verdict: str
    rules: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.verdict} {', '.join(f'`{rule}`' for rule in self.rules) or '(no rule)'}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Operations of one connector, for some who ask; with `where`, for calls that have one of those values."""

    connector: str
    operations: tuple[str, ...]
    who: tuple[str, ...]
    where: tuple[str, ...]
    cells: tuple[Cell, ...]


class _Sort(NamedTuple):
    """Askers that rules do not tell apart: what they are called, and one of them."""

    label: str
    principal: str


class _Line(NamedTuple):
    where: tuple[str, ...]
    cells: tuple[Cell, ...]


def matrix(engine: Engine) -> tuple[Row, ...]:
    """The matrix of the engine's policy over its operations and principals."""
    return tuple(_rows(engine))


def as_markdown(rows: Iterable[Row], *, title: str = "What the policy decides") -> str:
    """The matrix as a page."""
    names = list(SITUATIONS)
    lines = [f"# {title}", "", "A cell says the verdict and the rules that decided; `·` is the same as usual.", ""]
    lines += [f"- *{name}*: {about}" for name, about in SITUATIONS.items()]
    for connector, some in groupby(rows, key=lambda row: row.connector):
        lines += ["", f"## {connector}", ""]
        lines += [f"| operations | who | where | {' | '.join(names)} |", "|" + "---|" * (len(names) + 3)]
        for row in some:
            cells = [str(cell) if n == 0 or cell != row.cells[0] else "·" for n, cell in enumerate(row.cells)]
            said = (", ".join(row.operations), ", ".join(row.who), ", ".join(row.where), *cells)
            lines.append("| " + " | ".join(text.replace("|", "\\|") for text in said) + " |")
    return "\n".join(lines) + "\n"


def _rows(engine: Engine) -> Iterator[Row]:
    """Operations that are decided alike for everybody share their rows, and so do askers in them."""
    sorts = list(_sorts(engine))
    alike: dict[tuple[Any, ...], list[str]] = {}
    for name in sorted(engine.world.offers):
        offer = engine.world.offers[name]
        blocks = tuple(_lines(engine, offer, sort) for sort in sorts)
        alike.setdefault((offer.contract.connector, blocks), []).append(name)
    for (connector, blocks), operations in alike.items():
        asking: dict[tuple[_Line, ...], list[str]] = {}
        for sort, block in zip(sorts, blocks, strict=True):
            asking.setdefault(block, []).append(sort.label)
        for block, who in asking.items():
            for line in block:
                yield Row(
                    connector=connector,
                    operations=tuple(name.partition(".")[2] for name in operations),
                    who=tuple(who) if len(asking) > 1 else ("everybody",),
                    where=line.where,
                    cells=line.cells,
                )


def _sorts(engine: Engine) -> Iterator[_Sort]:
    """By kind and roles, and by name where a rule names somebody."""
    named = {
        (kind, name)
        for kind in ("Agent", "Person", "Service")
        for rule in engine.rules
        for name in (
            *(uid[1] for uid in rule.principal.entities if uid[0] == kind),
            *(one for condition in rule.conditions for one in entities(condition, kind)),
        )
    }
    sorts: dict[str, str] = {}
    for name in sorted(engine.world.principals):
        sorts.setdefault(_label(name, engine.world, named=engine.world.uids[name] in named), name)
    yield from (_Sort(label, sorts[label]) for label in sorted(sorts))


def _label(name: str, world: World, *, named: bool) -> str:
    if named:
        return f"`{name}`"
    kind, roles = _KINDS[name.partition(":")[0]], sorted(set(world.principals[name].roles))
    return f"{kind} with {', '.join(f'`{role}`' for role in roles)}" if roles else kind


def _lines(engine: Engine, offer: Offer, sort: _Sort) -> tuple[_Line, ...]:
    """The usual calls, and for every named value those that it decides otherwise."""
    chain = () if sort.principal.startswith("person:") else (SOMEONE,)
    usual = Call(
        principal=sort.principal,
        operation=offer.name,
        on_behalf_of=chain,
        facts=Facts(host=OTHER_HOST if offer.contract.reaches_hosts else ""),
    )
    first = _cells(engine, offer.contract, usual)
    others: dict[tuple[Cell, ...], list[str]] = {}
    rules = [rule for rule in engine.rules if engine.world.reaches(rule, offer)]
    for where, call in _named(rules, offer, usual):
        others.setdefault(_cells(engine, offer.contract, call), []).append(where)
    others.pop(first, None)
    return (_Line((), first), *(_Line(tuple(where), cells) for cells, where in others.items()))


def _cells(engine: Engine, contract: OperationContract, call: Call) -> tuple[Cell, ...]:
    return tuple(_cell(decided(engine, replace(call, facts=facts))) for facts in _situations(contract, call.facts))


def _cell(decision: Decision) -> Cell:
    return Cell(verdict=decision.verdict.value, rules=tuple(sorted(decision.rules)))


def _situations(contract: OperationContract, usual: Facts) -> tuple[Facts, ...]:
    """The facts of each of `SITUATIONS`."""
    falls = tuple(sorted(a.name for a in contract.arguments if a.authority))
    return (
        usual,
        replace(usual, inside_workspace=False),
        replace(usual, integrity=_ORG, authority_integrity=_ORG),
        replace(usual, integrity=_THEIRS),
        replace(usual, integrity=_THEIRS, authority_integrity=_THEIRS, untrusted=falls),
        replace(usual, readers_permit=not contract.reaches_hosts),
        replace(usual, beyond_mandate=True),
    )


def _named(rules: Iterable[Rule], offer: Offer, usual: Call) -> Iterator[tuple[str, Call]]:
    """For every value that `rules` name, the usual call with it."""
    found: dict[str, Call] = {}
    for rule in rules:
        known = literals(rule.conditions)
        for label, changed in (*_texts(known, offer), *_numbers(known)):
            facts = msgspec.convert(msgspec.to_builtins(usual.facts) | changed, Facts)
            found.setdefault(label, replace(usual, facts=facts))
        for name in known["on_behalf_of"].texts if "on_behalf_of" in known else ():
            if usual.on_behalf_of and not chain_fault(usual.principal, (name,)):
                found.setdefault(f"for `{name}`", replace(usual, on_behalf_of=(name,)))
    yield from sorted(found.items())


def _texts(known: Mapping[str, Literals], offer: Offer) -> Iterator[tuple[str, dict[str, Any]]]:
    for attribute in (name for name in _TEXTS if name in known):
        if attribute != "host" or offer.contract.reaches_hosts:
            told = {text: text for text in known[attribute].texts if text}
            told |= {_pattern(pieces): _instance(pieces) for pieces in known[attribute].patterns}
            for label, text in list(told.items())[:VALUES_EACH_MAX]:
                yield f"{attribute} `{label}`", {attribute: text}


def _numbers(known: Mapping[str, Literals]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each constant that a number is compared with, and its neighbours."""
    for attribute in (name for name in ("payload_bytes", *COUNTED) if name in known):
        for number in known[attribute].numbers[:VALUES_EACH_MAX]:
            for some in (number - 1, number, number + 1):
                if some > 0:
                    yield f"{attribute} {some}", {attribute: some}


def _pattern(pieces: Iterable[str | None]) -> str:
    return "".join("*" if piece is None else piece for piece in pieces)


def _instance(pieces: Iterable[str | None]) -> str:
    return "".join("x" if piece is None else piece for piece in pieces)
