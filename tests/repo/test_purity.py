"""Every module is judged by an import contract, or stands on a list that says why not.

Values and rules (nouns) define no coroutine; a verb does, and is listed here with what it may wait for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.repo.sources import modules, project, tree

# Modules outside `operations` that wait, and for what. An entry that is no longer needed fails.
VERBS: dict[str, str] = {
    "assent.execution.carry": "hands an order to its lane and waits for the outcome",
    "assent.ledger.dispatch": "takes an accepted effect through execution to its receipt",
    "assent.registry.watching": "waits until something changes",
}

# Here the world is touched, on purpose.
OUTER = re.compile(r"assent\.(?:bootstrap|testing|surfaces)\b|assent\.__main__|assent(?:\.\w+)+\.adapters\b")


def test_every_module_is_judged_by_a_purity_contract() -> None:
    judged = [re.compile(_pattern(source)) for source in _sources("pure") + _sources("use-cases")]
    loose = [
        name
        for name, path in modules().items()
        if not OUTER.match(name)
        and not any(pattern.fullmatch(name) for pattern in judged)
        and not (path.name == "__init__.py" and name.count(".") < 2)
    ]
    assert not loose, f"no contract keeps I/O out of {loose}: add its folder to `pure` or `use-cases` in pyproject.toml"


def test_only_listed_verbs_wait() -> None:
    waiting = {
        name
        for name in modules()
        if not OUTER.match(name)
        and not name.startswith("assent.operations")
        and any(_coroutines(tree(modules()[name])))
    }
    assert waiting == set(VERBS) & set(modules()), "a noun defines no coroutine; list a verb with its reason"


def test_package_tops_import_nothing_that_touches_the_world() -> None:
    """A layer's `__init__` is loaded with every module of it, so it holds words only."""
    tops = [n for n, p in modules().items() if p.name == "__init__.py" and n.count(".") == 1 and not OUTER.match(n)]
    busy = [n for n in tops if any(isinstance(node, ast.Import) for node in tree(modules()[n]).body)]
    assert not busy


def _sources(contract_id: str) -> list[str]:
    contracts = project()["tool"]["importlinter"]["contracts"]
    (found,) = [contract for contract in contracts if contract["id"] == contract_id]
    return list(found["source_modules"])


def _pattern(expression: str) -> str:
    """An import-linter module expression as a regular expression."""
    escaped = expression.replace(".", r"\.")
    return escaped.replace("**", ".+") if "**" in escaped else escaped.replace("*", r"[^.]+")


def _coroutines(node: ast.AST) -> Iterator[ast.AsyncFunctionDef]:
    """Coroutines defined below `node`, those of Protocols left out: they only say what is needed."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Protocol" for b in child.bases):
            continue
        if isinstance(child, ast.AsyncFunctionDef):
            yield child
        yield from _coroutines(child)
