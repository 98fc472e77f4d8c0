"""Rules: one Cedar policy each, read with its name, scope, condition and terms. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from assent.policy.cedar import Cedar, Uid, Unreadable
from assent.policy.expressions import Expression, reads
from assent.policy.faults import Fault
from assent.policy.layers import LAYERS, Marks, loosens
from assent.policy.terms import Terms, read_terms
from assent.policy.text import RULES_MAX, TEXT_BYTES_MAX, Piece, excess, mistake, pieces

_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?\Z")


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a rule's head. `kind` is the entity type (`is`), `entities` what it must be (`==`) or belong to."""

    op: str
    kind: str = ""
    entities: tuple[Uid, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether it constrains nothing."""
        return self.op == "All"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A readable, valid rule. `body` is Cedar's JSON form, `conditions` its clauses, `reads` what they look at."""

    id: str
    effect: str
    principal: Scope
    action: Scope
    resource: Scope
    conditions: tuple[Expression, ...]
    reads: frozenset[str]
    terms: Terms
    body: dict[str, Any]
    line: int
    column: int
    layer: str = LAYERS[0]

    @property
    def forbids(self) -> bool:
        """Whether it is a `forbid`."""
        return self.effect == "forbid"

    @property
    def asks(self) -> bool:
        """Whether its condition can tell whether there is an approval."""
        return "approval" in self.reads or "*" in self.reads


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """All that could be read, and all that could not."""

    rules: tuple[Rule, ...] = ()
    faults: tuple[Fault, ...] = ()


def read_rules(text: str, *, cedar: Cedar) -> Reading:
    """Read a policy text. Never raises: whatever is wrong is among the faults, with its place."""
    too_much = _oversize(text)
    if too_much:
        return Reading(faults=(Fault(code="policy_too_large", message=too_much),))
    rules: list[Rule] = []
    faults: list[Fault] = []
    marks = Marks(text)
    if marks.fault:
        faults.append(Fault(code="layer_unknown", message="no layer begins here", line=marks.fault, column=1))
    for piece in pieces(text):
        rule, wrong = _read(piece, cedar)
        faults += wrong
        if rule is not None:
            rule = msgspec.structs.replace(rule, layer=marks.layer_at(rule.line))
            why = loosens(rule.layer, rule.effect, rule.terms)
            faults += [_fault(piece, "layer_loosens", why, rule=rule.id)] if why else []
        if rule is not None:
            rules.append(rule)
    faults += _twice(rules)
    return Reading(rules=tuple(rules), faults=tuple(faults))


def _oversize(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "the policy is not valid Unicode"
    if size > TEXT_BYTES_MAX:
        return f"the policy has {size} bytes, the limit is {TEXT_BYTES_MAX}"
    count = len(pieces(text))
    return f"the policy has {count} rules, the limit is {RULES_MAX}" if count > RULES_MAX else ""


def _read(piece: Piece, cedar: Cedar) -> tuple[Rule | None, list[Fault]]:
    too_much = excess(piece)
    if too_much:
        return None, [_fault(piece, "rule_too_large", too_much)]
    try:
        bodies = cedar.read(piece.text)
    except Unreadable as unreadable:
        return None, [_fault(piece, "syntax", str(unreadable), at=mistake(piece, cedar.complaint))]
    if len(bodies) != 1:
        return None, [_fault(piece, "syntax", "this is not exactly one rule")]
    return _understand(piece, bodies[0], cedar)


def _understand(piece: Piece, body: dict[str, Any], cedar: Cedar) -> tuple[Rule | None, list[Fault]]:
    annotations = {name: value or "" for name, value in body.get("annotations", {}).items()}
    name = annotations.get("id", "")
    known = name if _ID.match(name) else ""
    faults = [_fault(piece, code, message, rule=known) for code, message in _named(annotations)]
    if any("slot" in (body[part].get("in") or body[part]) for part in ("principal", "resource")):
        return None, [*faults, _fault(piece, "template", "templates are not linked to anything here", rule=known)]
    faults += [_fault(piece, "schema", message, rule=known) for message in cedar.violations(piece.text)]
    if not cedar.carries(body):
        faults.append(
            _fault(piece, "rule_too_large", "the condition nests too deeply: write several rules", rule=known)
        )
    terms, wrong = read_terms(annotations, effect=body["effect"])
    faults += [_fault(piece, "annotation", message, rule=known) for message in wrong]
    return (None if faults else _rule(piece, name, body, terms)), faults


def _named(annotations: dict[str, str]) -> list[tuple[str, str]]:
    if "id" not in annotations:
        return [("id_missing", 'the rule has no name: write `@id("…")` before it')]
    if not _ID.match(annotations["id"]):
        return [("id_malformed", "`@id` must be 1 to 64 of a-z, 0-9, `.`, `_` and `-`")]
    return []


def _rule(piece: Piece, name: str, body: dict[str, Any], terms: Terms) -> Rule:
    conditions = tuple(clause["body"] for clause in body["conditions"])
    line, column = piece.place()
    return Rule(
        id=name,
        effect=body["effect"],
        principal=_scope(body["principal"]),
        action=_scope(body["action"]),
        resource=_scope(body["resource"]),
        conditions=conditions,
        reads=frozenset().union(*(reads(condition) for condition in conditions)),
        terms=terms,
        body=body,
        line=line,
        column=column,
    )


def _scope(part: dict[str, Any]) -> Scope:
    inner = part.get("in") or part
    named = inner.get("entities") or ([inner["entity"]] if "entity" in inner else [])
    return Scope(
        op=part["op"],
        kind=part.get("entity_type", ""),
        entities=tuple((entity["type"], entity["id"]) for entity in named),
    )


def _twice(rules: Sequence[Rule]) -> list[Fault]:
    first: dict[str, Rule] = {}
    faults: list[Fault] = []
    for rule in rules:
        if rule.id in first:
            message = f"the name is taken by the rule in line {first[rule.id].line}"
            faults.append(Fault(code="id_taken", message=message, rule=rule.id, line=rule.line, column=rule.column))
        first.setdefault(rule.id, rule)
    return faults


def _fault(piece: Piece, code: str, message: str, *, rule: str = "", at: int = 0) -> Fault:
    line, column = piece.place(at)
    return Fault(code=code, message=message, rule=rule, line=line, column=column)
