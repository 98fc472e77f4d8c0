"""The shape of the source: short modules, short functions, names that say something, no loose ends."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo.sources import ROOT, files, modules, text, tree

MODULE_LINES_MAX = 400
BODY_LINES_MAX = 50

# A function whose body is too long, and why. An entry that is no longer needed fails.
LONG_BODIES: dict[str, str] = {}

EMPTY_NAMES = frozenset(
    {"base", "bases", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
)
LOOSE_ENDS = re.compile(r"\b(?:T[O]DO|F[I]XME|X[X]X)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize("name", modules())
def test_module_stays_below_400_lines(name: str) -> None:
    lines = len(text(modules()[name]).splitlines())
    assert lines <= MODULE_LINES_MAX, f"{name} has {lines} lines: split it by noun"


def test_module_names_say_what_they_hold() -> None:
    empty = [name for name in modules() if EMPTY_NAMES & set(name.rpartition(".")[2].split("_"))]
    assert not empty, f"name these for what they hold: {empty}"


def test_function_bodies_stay_below_50_lines_unless_listed() -> None:
    long = {name: lines for name, lines in _bodies() if lines >= BODY_LINES_MAX}
    assert set(long) == set(LONG_BODIES), (
        f"too long and not listed: { {n: long[n] for n in set(long) - set(LONG_BODIES)} }; "
        f"listed and not too long any more: {sorted(set(LONG_BODIES) - set(long))}"
    )


def test_listed_long_functions_give_a_reason() -> None:
    assert all(len(reason.split()) >= 5 for reason in LONG_BODIES.values())


def test_no_loose_ends_are_written_down_instead_of_tied() -> None:
    suffixes = {".py", ".sh", ".toml", ".sql", ".cedar", ".md", ".html", ".css", ".js"}
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files()
        if path.suffix in suffixes
        for number, line in enumerate(text(path).splitlines(), 1)
        if LOOSE_ENDS.search(line)
    ]
    assert not found


@pytest.mark.parametrize("name", modules())
def test_everything_public_in_a_module_has_a_docstring(name: str) -> None:
    if any(part.startswith("_") and part != "__main__" for part in name.split(".")):
        return
    module = tree(modules()[name])
    bare = [node.name for node in _public(module) if not ast.get_docstring(node)]
    assert ast.get_docstring(module), f"{name} does not say what it holds"
    assert not bare, f"{name}: no docstring on {bare}"


def _public(module: ast.Module) -> Iterator[Function | ast.ClassDef]:
    for node in module.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def _bodies() -> Iterator[tuple[str, int]]:
    """Every function's name, as `module:Class.method`, and the lines of its body without its docstring."""
    for name, path in modules().items():
        yield from ((f"{name}:{inner}", lines) for inner, lines in _bodies_in(tree(path), path))


def _bodies_in(node: ast.AST, path: Path, prefix: str = "") -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        inner = f"{prefix}{child.name}." if isinstance(child, Function | ast.ClassDef) else prefix
        if isinstance(child, Function):
            body = child.body[1:] if ast.get_docstring(child) else child.body
            if body:
                yield inner.rstrip("."), (body[-1].end_lineno or 0) - body[0].lineno + 1
        yield from _bodies_in(child, path, inner)
