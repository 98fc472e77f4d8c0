"""What the condition of a rule looks at, read from Cedar's JSON form. Pure.

An expression is an object with one key, its operator: `{"==": {"left": …, "right": …}}`, `{"Var": "context"}`,
`{".": {"left": …, "attr": "path"}}`, `{"Value": 3}`. The walks below need no list of all operators: what they do not
know, they walk through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

Expression: TypeAlias = "dict[str, Any]"

WHOLE = "*"
"""Stands for the whole context among the attributes that are read."""

COMPARISONS = frozenset(
    {"==", "!=", "<", "<=", ">", ">=", "in", "is", "like", "contains", "containsAll", "containsAny", "isEmpty"}
)
_ARITHMETIC = frozenset({"+", "-", "*", "neg"})


class Literals(msgspec.Struct, frozen=True, kw_only=True):
    """The constants that a condition compares one attribute with. A pattern is its pieces; None stands for `*`."""

    texts: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    patterns: tuple[tuple[str | None, ...], ...] = ()


def nodes(expression: object) -> Iterator[Expression]:
    """Every object inside `expression`, itself first."""
    stack: list[object] = [expression]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def reads(expression: object) -> frozenset[str]:
    """The attributes of the context that `expression` can tell apart, nested ones with a dot (`approval.quorum`).

    `context.approval.intent == context.intent` does not count as reading `intent`: it is the same truth for every call,
    because the engine shows no approval but one of this very call. `*` says that the context is used as a whole.
    """
    found: set[str] = set()
    stack: list[object] = [expression]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            seen = {"approval", "approval.intent"} if _binds_approval(item) else _attribute(item)
            found |= seen
            if not seen:
                stack.extend(item.values())
    return frozenset(found)


def variables(expression: object) -> frozenset[str]:
    """Which of `principal`, `action`, `resource` and `context` the expression names."""
    return frozenset(node["Var"] for node in nodes(expression) if isinstance(node.get("Var"), str))


def has_arithmetic(expression: object) -> bool:
    """Whether anything is calculated in it: the one thing that can still fail after validation, by overflow."""
    return any(not _ARITHMETIC.isdisjoint(node) for node in nodes(expression))


def constants(expression: object) -> bool:
    """Whether it holds a comparison of constants with constants, which decides nothing."""
    return any(not COMPARISONS.isdisjoint(node) and not variables(node) for node in nodes(expression) if len(node) == 1)


def entities(expression: object, kind: str) -> frozenset[str]:
    """The ids of all entities of type `kind` that it names."""
    found = (node["__entity"] for node in nodes(expression) if isinstance(node.get("__entity"), dict))
    return frozenset(entity["id"] for entity in found if entity.get("type") == kind)


def literals(expressions: tuple[Expression, ...]) -> dict[str, Literals]:
    """For each attribute, the constants that stand in one comparison with it anywhere in `expressions`.

    Numbers are collected across the whole of them, because calculations move them from one comparison to another.
    """
    numbers = tuple(sorted({n for e in expressions for n in _values(e, int)}))
    texts: dict[str, set[str]] = {}
    patterns: dict[str, set[tuple[str | None, ...]]] = {}
    for node in (n for e in expressions for n in nodes(e) if not COMPARISONS.isdisjoint(n)):
        for attribute in reads(node):
            texts.setdefault(attribute, set()).update(_values(node, str))
            patterns.setdefault(attribute, set()).update(_pattern(node))
    return {
        name: Literals(
            texts=tuple(sorted(texts[name])),
            numbers=numbers,
            patterns=tuple(sorted(patterns[name], key=repr)),
        )
        for name in texts
    }


def _binds_approval(node: Expression) -> bool:
    sides = node.get("==")
    if not isinstance(sides, dict) or sides.keys() != {"left", "right"}:
        return False
    return {frozenset(_attribute(side)) for side in sides.values()} == {
        frozenset({"approval", "approval.intent"}),
        frozenset({"intent"}),
    }


def _attribute(node: Expression) -> set[str]:
    """The dotted attribute of the context that `node` reads or tests for, and those on the way to it."""
    if node.get("Var") == "context":
        return {WHOLE}
    access = node.get(".") or node.get("has")
    if not isinstance(access, dict) or not isinstance(access.get("left"), dict):
        return set()
    path = _attribute(access["left"])
    attr = str(access.get("attr"))
    if path == {WHOLE}:
        return {attr}
    return path | {f"{max(path, key=len)}.{attr}"} if path else set()


def _values(expression: object, kind: type) -> Iterator[Any]:
    for node in nodes(expression):
        if type(node.get("Value")) is kind:
            yield node["Value"]


def _pattern(node: Expression) -> Iterator[tuple[str | None, ...]]:
    like = node.get("like")
    if isinstance(like, dict):
        yield tuple(None if piece == "Wildcard" else piece["Literal"] for piece in like["pattern"])
