"""Links lead somewhere, and what the documentation names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FENCES = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)+)`")
_MODULE = re.compile(
    r"`((?:bootstrap|execution|ledger|operations|policy|primitives|storage|surfaces)/[\w/]+\.(?:py|sql))`"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    broken = [link for link in _LINK.findall(_FENCES.sub("", _text(page))) if not _leads_somewhere(page, link)]
    assert not broken


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.is_file() or page.suffix != ".md":
            continue
        reached.add(page)
        links = _LINK.findall(_FENCES.sub("", _text(page)))
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link]
    assert [page.relative_to(ROOT).as_posix() for page in PAGES if page not in reached] == []


def test_every_test_that_is_named_exists() -> None:
    named = [(file, names) for page in PAGES for file, names in _TEST.findall(_text(page))]
    assert len(named) > 40
    missing = [f"{file}{names}" for file, names in named if not _defines(ROOT / file, names.split("::")[1:])]
    assert not missing


def test_every_module_that_is_named_exists() -> None:
    named = {name for page in PAGES for name in _MODULE.findall(_text(page))}
    assert [name for name in sorted(named) if not (ROOT / "src" / "assent" / name).is_file()] == []


def test_every_invariant_names_a_test_or_says_not_yet() -> None:
    sections = _text(ROOT / "docs" / "explanation" / "invariants.md").split("\n## ")[1:]
    assert [section.split(".")[0] for section in sections[:15]] == [str(number) for number in range(1, 16)]
    assert [section[:40] for section in sections if not _TEST.search(section) and "*Not yet*" not in section] == []


def test_decisions_are_all_listed_and_have_their_three_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    index = _text(folder / "README.md")
    for page in sorted(folder.glob("0*.md")):
        assert f"]({page.name})" in index
        assert all(f"**{part}.**" in _text(page) for part in ("Context", "Decision", "Consequences")), page.name


def _leads_somewhere(page: Path, link: str) -> bool:
    if "://" in link:
        return link.startswith("https://")
    place, _, anchor = link.partition("#")
    target = (page.parent / place).resolve() if place else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(_FENCES.sub("", _text(page)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _defines(file: Path, names: list[str]) -> bool:
    """Whether pytest would find `names` in `file`. A class may inherit its tests from an exported conformance suite."""
    if not file.is_file():
        return False
    first, *rest = names
    found = [node for node in ast.parse(_text(file)).body if isinstance(node, _NAMED) and node.name == first]
    if not found or not rest:
        return bool(found)
    return rest[0] in {*_methods(found[0]), *_INHERITED}


def _methods(node: ast.AST) -> set[str]:
    return {one.name for one in ast.walk(node) if isinstance(one, _NAMED)}


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


_INHERITED = {
    name
    for path in (ROOT / "src" / "assent" / "testing" / "conformance").rglob("*.py")
    for name in _methods(ast.parse(_text(path)))
}
