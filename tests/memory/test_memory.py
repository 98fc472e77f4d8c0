"""Memory: both adapters by one suite, the rules by themselves, and the notes of a workspace with traps in it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.bootstrap import remembering
from assent.bootstrap.remembering import WorkspaceNotes
from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder
from assent.ledger.operations import Place
from assent.memory.adapters.memory import InProcessMemory
from assent.memory.adapters.notes import STALE_MS, DeclaredNotes
from assent.memory.fragments import FRAGMENT_CHARACTERS_MAX, Fragment, Question, matches, pieces_of
from assent.memory.ports import Memory
from assent.operations.remembering import MEMORY_SEARCH
from assent.operations.runs.events import CallEnded, RunEvent
from assent.primitives.errors import Malformed, Unavailable
from assent.primitives.ids import TenantId
from assent.primitives.labels import Label
from assent.testing.conformance.memory import ACME, NOW_MS, KeptMemorySuite, MemorySuite
from tests.operations.agents_house import TENANT, agent, answered, house, line


class TestInProcess(KeptMemorySuite):
    def holding(self, notes: tuple[tuple[str, str, int], ...], *, tenant: TenantId) -> Memory:
        return self.keeping(
            *(
                Fragment(
                    tenant=tenant, place=place, source=f"file:{place}#1", text=text, label=Label(),
                    recorded_at_ms=NOW_MS - age_ms, stale_at_ms=NOW_MS - age_ms + STALE_MS,
                )
                for place, text, age_ms in notes
            )
        )  # fmt: skip

    def keeping(self, *fragments: Fragment) -> Memory:
        memory = InProcessMemory()
        memory.keep(*fragments)
        return memory

    def test_nothing_is_recalled_once_it_is_revoked(self) -> None:
        memory = InProcessMemory()
        memory.keep(self.fragment())
        asked = Question(tenant=ACME, reader="", query="tea", sources=("*",), now_ms=NOW_MS)
        assert len(asyncio.run(memory.recall(asked))) == 1
        memory.revoke(self.fragment().source)
        assert asyncio.run(memory.recall(asked)) == ()


class TestDeclaredNotes(MemorySuite):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.root = tmp_path

    def holding(self, notes: tuple[tuple[str, str, int], ...], *, tenant: TenantId) -> Memory:
        for place, text, age_ms in notes:
            path = self.root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, ns=((NOW_MS - age_ms) * 1_000_000, (NOW_MS - age_ms) * 1_000_000))
        return DeclaredNotes(WorkspaceNotes(self.root), tenants=[tenant])


@pytest.mark.parametrize(
    ("glob", "place", "fits"),
    [
        ("notes/*.md", "notes/a.md", True),
        ("notes/*.md", "notes/b/a.md", False),
        ("**", "a/b/c", True),
        ("**/c", "c", True),
        ("**/c", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/b/c", True),
        ("a/**", "a", True),
        ("a/**", "b", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("*a*b*", "xxaxxbxx", True),
        ("*a*b", "xxbxxa", False),
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
    ],
)
def test_glob_fits_a_place_or_not(glob, place, fits):
    assert matches(glob, place) is fits


@given(st.text("*?/ab", max_size=12), st.text("ab/", max_size=12))
def test_glob_fits_what_is_spelled_without_stars_only_when_it_is_the_same(glob, place):
    if "*" not in glob and "?" not in glob:
        assert matches(glob, place) is (glob == place)
    assert matches("**", place)


def test_glob_takes_no_time_that_grows_with_its_stars():
    before = time.monotonic()
    assert not matches("*a" * 200 + "b", "a" * 2_000)
    assert not matches("**/" * 200 + "b", "a/" * 2_000)
    assert time.monotonic() - before < 5


def test_notes_are_told_by_paragraph_with_their_heading():
    text = "# Tea\n\nGreen is best.\n\n## Cups\nOf glass.\n\nTwo of them.\n\n\n#\n" + "x" * 3_000
    pieces = pieces_of(text)
    assert pieces[:3] == ["# Tea\nGreen is best.", "## Cups\nOf glass.", "## Cups\nTwo of them."]
    assert all(len(piece) <= FRAGMENT_CHARACTERS_MAX for piece in pieces)
    assert pieces_of("") == pieces_of("\n \n") == pieces_of("# only a heading") == []


def test_notes_are_read_beneath_the_workspace_only(tmp_path, monkeypatch):
    place = tmp_path / "ws"
    for folder in ("notes", ".git", "node_modules"):
        (place / folder).mkdir(parents=True)
        (place / folder / "tea.md").write_text("tea")
    (tmp_path / "secret.md").write_text("tea")
    (place / "link.md").symlink_to("../secret.md")
    (place / "away").symlink_to("..")
    (place / "binary.md").write_bytes(b"tea\0")
    (place / "latin.md").write_bytes(b"tea \xe9")
    os.mkfifo(place / "fifo.md")
    read = WorkspaceNotes(place)
    assert [file.path for file in read(["**"])] == ["latin.md", "notes/tea.md"]
    assert read([]) == []
    monkeypatch.setattr(remembering, "FILES_MAX", 1)
    with pytest.raises(Unavailable) as unavailable:
        read(["**"])
    assert unavailable.value.code == "notes_unreadable"
    monkeypatch.setattr(remembering, "NAMES_MAX", 3)
    with pytest.raises(Unavailable):
        read(["nothing"])
    with pytest.raises(Unavailable):
        WorkspaceNotes(tmp_path / "missing")(["**"])


def test_search_carries_the_tenant_of_the_call_whatever_is_asked():
    place = Place(workspace="/srv/ws", tenant="acme")
    order = MEMORY_SEARCH.plan({"query": "tea", "sources": ["*"]}, place, Obligations(), "")
    assert order == FunctionOrder(
        function="memory.search",
        definition=MEMORY_SEARCH.definition,
        arguments='{"limit":5,"query":"tea","sources":["*"],"tenant":"acme"}',
    )
    wrong: list[dict[str, Any]] = [
        {"tenant": "globex"},
        {"limit": 0},
        {"limit": 21},
        {"sources": ["*"] * 65},
        {"query": "x" * 3_000},
    ]
    for arguments in wrong:
        with pytest.raises(Malformed):
            MEMORY_SEARCH.plan({"query": "tea", "sources": ["*"], **arguments}, place, Obligations(), "")


@pytest.mark.slow
def test_agent_recalls_from_the_notes_it_declares_and_from_no_others(tmp_path: Path) -> None:
    async def body() -> None:
        notes = tmp_path / "workspace" / "notes"
        notes.mkdir(parents=True)
        (notes / "tea.md").write_text("# Tea\n\nAnn likes green tea.\n")
        (tmp_path / "workspace" / "other.md").write_text("Green tea is a secret.\n")
        worker = agent(memory=("notes/*.md",))
        script = [
            line("", ("memory_search", {"query": "green tea"})),
            line("", ("memory_search", {"query": "tea", "sources": ["**"]}), ("memory_search", {"query": "wine"})),
            line("done"),
        ]
        events: list[RunEvent] = []
        async with house(tmp_path, worker, lines=script) as node:
            seen = await answered(node, "what does Ann like?", of=worker, events=events)
            assert seen.state == "finished"
            told = {(one.turn, one.place): one.text for one in events if isinstance(one, CallEnded)}
            assert told.keys() == {(1, 0), (2, 1)}
            assert told[1, 0].startswith("file:notes/tea.md#1 (third_party, ")
            assert told[1, 0].endswith("# Tea\nAnn likes green tea.")
            assert told[2, 1] == "[nothing is remembered about it]"
            story = await node.runs.story(TENANT, seen.id)
            assert story.calls[1, 0].arguments["sources"] == ["notes/*.md"]

    asyncio.run(body())
