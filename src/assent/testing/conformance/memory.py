"""What everything that recalls must do, and must never do."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from msgspec.structs import replace

from assent.memory.fragments import FRAGMENTS_MAX, Fragment, Question, Recalled
from assent.memory.ports import Memory
from assent.primitives.ids import TenantId
from assent.primitives.labels import Label

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
NOTES = (
    ("notes/tea.md", "Ann likes green tea in the morning.", 3 * DAY_MS),
    ("notes/coffee.md", "Ben likes black coffee, and no tea.", 2 * DAY_MS),
    ("notes/deep/old.md", "Green tea was out of fashion.", 400 * DAY_MS),
    ("letters/one.md", "Dear Ann, green tea is on its way.", DAY_MS),
)
"""Place, text and age of what is remembered for `ACME` in every test."""


class MemorySuite(ABC):
    """Recall, for every adapter."""

    @abstractmethod
    def holding(self, notes: tuple[tuple[str, str, int], ...], *, tenant: TenantId) -> Memory:
        """Something that remembers these notes (place, text, age in ms at `NOW_MS`) for `tenant`."""

    def ask(self, query: str, *sources: str, limit: int = 5, tenant: TenantId = ACME) -> tuple[Recalled, ...]:
        """Ask what holds `NOTES`."""
        question = Question(
            tenant=tenant, reader="", query=query, sources=sources or ("**",), now_ms=NOW_MS, limit=limit
        )
        return asyncio.run(self.holding(NOTES, tenant=ACME).recall(question))

    def places(self, query: str, *sources: str, limit: int = 5, tenant: TenantId = ACME) -> list[str]:
        """Where what is recalled stands."""
        return [one.fragment.place for one in self.ask(query, *sources, limit=limit, tenant=tenant)]

    def test_what_has_the_most_of_the_words_comes_first_and_of_equals_the_newest(self) -> None:
        assert self.places("green TEA") == ["letters/one.md", "notes/tea.md", "notes/deep/old.md", "notes/coffee.md"]
        assert self.places("coffee") == ["notes/coffee.md"]

    def test_nothing_is_recalled_when_no_word_fits(self) -> None:
        for query in ("", " ", "?!", "wine", "\0", "te", "*", "\u202e"):
            assert self.places(query) == []

    def test_only_the_places_that_are_asked_for_are_looked_in(self) -> None:
        assert self.places("tea", "notes/*.md") == ["notes/coffee.md", "notes/tea.md"]
        assert self.places("tea", "notes/**") == ["notes/coffee.md", "notes/tea.md", "notes/deep/old.md"]
        assert self.places("tea", "letters/one.md", "notes/tea.md") == ["letters/one.md", "notes/tea.md"]
        for source in ("", "/", "..", "/etc/*", "../**", "notes", "notes/", "*.md", "letters/ONE.md"):
            assert self.places("tea", source) == []
        question = Question(tenant=ACME, reader="", query="tea", sources=(), now_ms=NOW_MS)
        assert asyncio.run(self.holding(NOTES, tenant=ACME).recall(question)) == ()

    def test_no_other_tenant_is_told(self) -> None:
        assert self.places("tea", tenant=GLOBEX) == []

    def test_no_more_is_recalled_than_was_asked_for_or_may_be(self) -> None:
        assert len(self.ask("tea", limit=2)) == 2
        assert self.ask("tea", limit=0) == self.ask("tea", limit=-1) == ()
        many = tuple((f"notes/{number}.md", "tea", 0) for number in range(FRAGMENTS_MAX + 5))
        question = Question(tenant=ACME, reader="", query="tea", sources=("**",), now_ms=NOW_MS, limit=1_000)
        assert len(asyncio.run(self.holding(many, tenant=ACME).recall(question))) == FRAGMENTS_MAX

    def test_fragment_says_where_it_comes_from_and_how_old_it_is(self) -> None:
        (tea,) = self.ask("morning")
        assert tea.fragment.source.startswith("file:notes/tea.md")
        assert tea.fragment.text == "Ann likes green tea in the morning."
        assert tea.fragment.recorded_at_ms == NOW_MS - 3 * DAY_MS
        assert not tea.stale
        (old,) = self.ask("fashion")
        assert old.stale

    def test_asking_changes_nothing(self) -> None:
        memory = self.holding(NOTES, tenant=ACME)
        question = Question(tenant=ACME, reader="", query="green tea", sources=("**",), now_ms=NOW_MS)
        assert asyncio.run(memory.recall(question)) == asyncio.run(memory.recall(question))


class KeptMemorySuite(MemorySuite):
    """What is more, for adapters that keep who may read a fragment, and until when."""

    @abstractmethod
    def keeping(self, *fragments: Fragment) -> Memory:
        """Something that remembers exactly these."""

    def fragment(self) -> Fragment:
        """A fragment that everybody of `ACME` may read."""
        return Fragment(
            tenant=ACME, place="a.md", source="file:a.md#1", text="tea", label=Label(), recorded_at_ms=NOW_MS - DAY_MS
        )

    def test_fragment_is_told_to_its_readers_alone(self) -> None:
        secret = replace(self.fragment(), label=Label(readers=("person:ann",)))
        asked = Question(tenant=ACME, reader="person:ann", query="tea", sources=("*",), now_ms=NOW_MS)
        memory = self.keeping(secret)
        assert len(asyncio.run(memory.recall(asked))) == 1
        for reader in ("person:ben", "", "person:an", "person:anna"):
            assert asyncio.run(memory.recall(replace(asked, reader=reader))) == ()
        assert asyncio.run(self.keeping(replace(secret, label=Label(readers=()))).recall(asked)) == ()

    def test_fragment_is_told_no_more_once_it_expired(self) -> None:
        for expires_at_ms, count in ((0, 1), (NOW_MS + 1, 1), (NOW_MS, 0), (1, 0)):
            asked = Question(tenant=ACME, reader="", query="tea", sources=("*",), now_ms=NOW_MS)
            memory = self.keeping(replace(self.fragment(), expires_at_ms=expires_at_ms))
            assert len(asyncio.run(memory.recall(asked))) == count
