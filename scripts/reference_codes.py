"""Find every stable code in the source by reading its syntax: errors with their messages, and the codes of outcomes,
decisions and policy checks. Nothing is imported, so nothing can hide behind a condition.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[1] / "src" / "assent"
ROOTS = {
    "Refused": "Refused",
    "Malformed": "Refused: malformed",
    "BrokenAnswer": "Refused: malformed",
    "NotFound": "Refused: not found",
    "Conflict": "Refused: conflict",
    "Unavailable": "Unavailable",
    "InvariantBroken": "Invariant broken",
}
"""The class of an error in the source, and what the reference calls it."""

# Functions that make an error or an ending out of a code they are given, and which of their arguments is the code.
_BUILDERS = {"malformed": 0, "_refuse": 0}
_ENDINGS = {"failed": 0, "broken": 0, "lost": 0, "_without_lane": 2, "_End": 1}
_DECISIONS = {"_denied": 0, "denied": 0}
_FAULTS = {"_fault": 1}
_CODE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*\Z")
# Codes that are put together: of what kind, by their ending.
_NAMES = ("key", "operation", "principal", "chain", "run")
_FAMILIES = {"_not_found": ("effect", "review", "run"), "_malformed": _NAMES, "_too_long": _NAMES}


class Said(NamedTuple):
    """One place where an error is made: its code, class, message and hint (`…` stands for what is filled in)."""

    code: str
    root: str
    message: str
    hint: str
    module: str


class Codes(NamedTuple):
    """All codes. `errors` by code, the others as sets."""

    errors: dict[str, list[Said]]
    outcomes: frozenset[str]
    decisions: frozenset[str]
    faults: frozenset[str]


def collect(source: Path = SOURCE) -> Codes:
    """Read every module below `source`."""
    errors: dict[str, list[Said]] = defaultdict(list)
    outcomes, decisions, faults = set[str](), set[str](), set[str]()
    for path in sorted(source.rglob("*.py")):
        module = path.relative_to(source).as_posix()
        if module.startswith("testing/"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for said in (*_errors(calls, module), *_translated(tree, module)):
            errors[said.code].append(said)
        if module.startswith("execution/") or module == "ledger/dispatch.py":
            outcomes |= {*_at(calls, _ENDINGS), *_keyword(calls), *_paired(tree), *_mapped(tree)}
        if module.startswith("ledger/connectors/families/") or module == "ledger/operations.py":
            # What an operation reads into an answer that arrived well.
            outcomes |= {*_keyword(c for c in calls if _name(c) == "replace"), *_at(calls, {"_judged": 1})}
        if module in {"policy/engine.py", "operations/gate.py", "operations/refusals.py"}:
            decisions |= {*_at(calls, _DECISIONS), *_keyword(calls)}
        if module.startswith("policy/"):
            faults |= {*_at(calls, _FAULTS), *_keyword(c for c in calls if _name(c) == "Fault")}
            faults |= set(_chosen(tree)) if module == "policy/activation.py" else set()
            faults |= set(_listed(tree)) if module == "policy/rules.py" else set()
    return Codes(dict(errors), frozenset(outcomes), frozenset(decisions), frozenset(faults))


def _errors(calls: Iterable[ast.Call], module: str) -> Iterator[Said]:
    for call in calls:
        name = _name(call)
        at = 0 if name in ROOTS else _BUILDERS.get(name, -1)
        if at < 0 or len(call.args) <= at:
            continue
        message = _text(call.args[at + 1]) if len(call.args) > at + 1 else ""
        hint = next((_text(k.value) for k in call.keywords if k.arg == "hint"), "")
        for code in _constants(call.args[at]):
            yield Said(code, ROOTS.get(name, ROOTS["Malformed"]), message, hint, module)


def _translated(tree: ast.AST, module: str) -> Iterator[Said]:
    """The table by which the database's own errors are translated: (its name, code, message, hint)."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.AnnAssign) or ast.unparse(node.target) != "_FAULTS":
            continue
        for row in ast.walk(node):
            if isinstance(row, ast.Tuple) and len(row.elts) == 4 and isinstance(row.elts[0], ast.Constant):
                _, code, what, hint = (_text(cell) for cell in row.elts)
                yield Said(code, ROOTS["Unavailable"], f"the database `…` {what}", hint, module)


def _at(calls: Iterable[ast.Call], places: dict[str, int]) -> Iterator[str]:
    for call in calls:
        at = places.get(_name(call), -1)
        if 0 <= at < len(call.args):
            yield from _constants(call.args[at])


def _keyword(calls: Iterable[ast.Call]) -> Iterator[str]:
    for call in calls:
        for keyword in call.keywords:
            if keyword.arg == "code":
                yield from _constants(keyword.value)


def _paired(tree: ast.AST) -> Iterator[str]:
    """`Ending.FAILED, "code", …`: an ending followed by its code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and len(node.elts) > 1:
            first, second = node.elts[:2]
            if isinstance(first, ast.Attribute) and ast.unparse(first.value) == "Ending":
                yield from _constants(second)


def _mapped(tree: ast.AST) -> Iterator[str]:
    """The values of module constants that map causes to codes, and of locals called `code`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        target, value = node.targets[0].id, node.value
        if isinstance(value, ast.Dict) and target in {"_CODES", "_LIMIT_WORDS"}:
            for item in value.values:
                yield from _constants(item)
        elif isinstance(value, ast.Dict) and target == "_STOPPED":
            for key in value.keys:
                yield from _constants(key) if key is not None else ()
    yield from _chosen(tree)


def _chosen(tree: ast.AST) -> Iterator[str]:
    """What a local `code` is set to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code":
            yield from _constants(node.value)


def _listed(tree: ast.AST) -> Iterator[str]:
    """`[("code", "message")]` in a return."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.List):
            for item in node.value.elts:
                if isinstance(item, ast.Tuple):
                    yield from _constants(item.elts[0])


def _name(call: ast.Call) -> str:
    found = call.func
    return found.id if isinstance(found, ast.Name) else found.attr if isinstance(found, ast.Attribute) else ""


def _constants(node: ast.expr) -> Iterator[str]:
    """The codes an expression can be: a constant, either branch of a choice, or a kind and its ending."""
    match node:
        case ast.Constant(value=str(text)) if _CODE.match(text):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from _constants(body)
            yield from _constants(other)
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(text))]) if text in _FAMILIES:
            yield from (kind + text for kind in _FAMILIES[text])


def _text(node: ast.expr) -> str:
    """A message as it is written, with `…` for whatever is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join("…" if isinstance(part, ast.FormattedValue) else _text(part) for part in values)
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case _:
            return "…"
