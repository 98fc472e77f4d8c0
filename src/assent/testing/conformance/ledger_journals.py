"""How a ledger's store keeps journals, and whose they are."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from assent.ledger.commands import FenceOut
from assent.ledger.journals import Content, Journal, JournalKind, Note, content, note
from assent.primitives.leases import SYSTEM
from assent.testing.conformance.opening import OpensLedger
from assent.testing.desks import ACME, GLOBEX, TTL_MS, Desk, code_of

WRITERS = 16


def said(
    id_: str = "run_1",
    *,
    before: int = -1,
    words: str = "hello",
    state: str = "running",
    owned: bool = False,
    key: str = "",
    kind: JournalKind = "run",
    parent: str = "",
) -> Note:
    """A note that says `words`."""
    return note(
        kind=kind, id_=id_, before=before, state=state, owned=owned, type_=f"{kind}.said", body={}, salt=b"s" * 16,
        payload=words.encode(), name="writer", parent=parent, key=key,
    )  # fmt: skip


async def stands(desk: Desk, id_: str = "run_1", kind: JournalKind = "run") -> Journal:
    """The journal as it stands; it must be there."""
    found = await desk.store.journal(ACME, kind, id_)
    assert found is not None, f"journal {id_} is missing"
    return found


class LedgerJournalsSuite(OpensLedger):
    """Writing into journals, holding them, reading them."""

    # Writing

    def test_journal_stands_where_its_last_note_says_when_several_were_written(self) -> None:
        async def body(desk: Desk) -> None:
            first = await desk.write(said(owned=True))
            second = await desk.write(said(before=0, state="waiting", words="and more"))
            assert (first.seqs, second.seqs, first.fresh, second.fresh) == ((0,), (1,), True, True)
            assert await stands(desk) == Journal(
                tenant=ACME, kind="run", id="run_1", state="waiting", name="writer", parent="", node="", fence=0,
                entries=2, first_seq=0, last_seq=1, updated_at_ms=desk.clock.now_ms(),
            )  # fmt: skip
            told = await desk.store.notes(ACME, "run", "run_1")
            assert [(one.seq, one.payload, one.body["before"]) for one in told] == [
                (0, b"hello", -1), (1, b"and more", 0),
            ]  # fmt: skip

        self.check(body)

    def test_note_is_refused_and_nothing_is_kept_when_the_journal_has_moved_on(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.write(said())
            await desk.write(said(before=0, words="faster"))
            piece = content(b"a piece")
            late = desk.write(said("run_2"), said(before=0, words="slower"), contents=(piece,))
            assert await code_of(late) == "journal_moved"
            assert await code_of(desk.write(said())) == "journal_moved"
            assert await code_of(desk.write(said("run_3", before=7))) == "journal_moved"
            assert await desk.store.journal(ACME, "run", "run_2") is None
            assert await desk.store.contents(ACME, [piece.digest]) == {}
            assert (await stands(desk)).entries == 2
            assert await desk.size() == 2

        self.check(body)

    def test_one_of_many_writers_succeeds_when_all_saw_the_same_journal(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.write(said())
            written = (desk.write(said(before=0, words=str(number))) for number in range(WRITERS))
            results: list[Any] = await asyncio.gather(*written, return_exceptions=True)
            codes = [getattr(one, "code", "") for one in results]
            assert sorted(codes) == [""] + ["journal_moved"] * (WRITERS - 1)
            assert await desk.size() == 2

        self.check(body)

    def test_key_stands_once_when_the_same_note_comes_again(self) -> None:
        async def body(desk: Desk) -> None:
            first = await desk.write(said(key="k"))
            again = await desk.write(said(before=0, key="k"))
            assert (again.seqs, again.fresh) == (first.seqs, False)
            assert await code_of(desk.write(said(before=0, key="k", words="other"))) == "journal_key_conflict"
            assert (await desk.write(said("run_2", key="k", words="other"))).fresh
            assert (await stands(desk)).entries == 1

        self.check(body)

    def test_notes_are_refused_when_a_key_of_theirs_stands_and_the_rest_does_not(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.write(said(key="k"))
            half = desk.write(said("run_2"), said(before=0, key="k"))
            assert await code_of(half) == "journal_moved"
            assert await desk.store.journal(ACME, "run", "run_2") is None
            twice = desk.write(said("run_3", key="k"), said("run_4"), said("run_3", before=1, key="k", words="hello"))
            assert await code_of(twice) == "journal_moved"
            assert await desk.size() == 1

        self.check(body)

    # Holding

    def test_journal_is_held_by_the_node_that_works_on_it_until_that_lets_go(self) -> None:
        async def body(desk: Desk) -> None:
            other = await Desk(desk.store, desk.clock, seed=1).start()
            await desk.write(said(owned=True))
            held = await stands(desk)
            assert (held.node, held.fence) == (desk.scribe.fence.node, desk.scribe.fence.number)
            assert await code_of(other.write(said(before=0))) == "journal_held"
            await desk.write(said(before=0, owned=True))
            assert await code_of(other.write(said(before=1))) == "journal_held"
            assert await code_of(other.write(said(before=0))) == "journal_moved"
            await desk.write(said(before=1, owned=False))
            await other.write(said(before=2, owned=True))
            assert (await stands(desk)).node == other.scribe.fence.node

        self.check(body)

    def test_journal_is_free_when_the_lease_of_its_node_lapsed_or_was_taken(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.write(said(owned=True), said("run_2", owned=True))
            desk.clock.pass_ms(TTL_MS)
            other = await Desk(desk.store, desk.clock, seed=1).start()
            await other.write(said(before=0, owned=True))
            assert await code_of(desk.write(said("run_2", before=1))) == "lease_lost"
            await desk.store.apply(FenceOut(tenant=SYSTEM, fence=desk.scribe.fence, dead=True))
            await other.write(said("run_2", before=1, owned=True))
            assert (await stands(desk, "run_2")).node == other.scribe.fence.node
            assert await desk.size() == 4

        self.check(body)

    # Reading

    def test_journals_are_listed_oldest_first_by_state_parent_and_place(self) -> None:
        async def body(desk: Desk) -> None:
            for number in range(6):
                state, parent = ("waiting", "ses_1") if number % 2 else ("running", "")
                await desk.write(said(f"run_{number}", state=state, parent=parent))
            await desk.write(said("ses_1", kind="session"))
            await desk.write(said("run_0", before=0, state="finished"))

            ask = partial(desk.store.journals, ACME, "run")
            asked = {
                "0 1 2 3 4 5": ask(limit=9), "4 5": ask(limit=2), "3 5": ask(states=("waiting",), limit=2),
                "0 2 4": ask(states=("finished", "running"), limit=9), "1 3 5": ask(parent="ses_1", limit=9),
                "2 4": ask(parent="", limit=2), "2 3": ask(before=4, limit=2), "": ask(before=0, limit=9),
            }  # fmt: skip
            for expected, asking in asked.items():
                assert " ".join(one.id.removeprefix("run_") for one in await asking) == expected
            assert [one.id for one in await desk.store.journals(ACME, "session", limit=9)] == ["ses_1"]

        self.check(body)

    def test_records_are_found_by_their_places_and_what_is_not_there_is_left_out(self) -> None:
        async def body(desk: Desk) -> None:
            for number in range(5):
                await desk.write(said(f"run_{number}", words=f"words {number}"))
            every = {one.seq: one for one in await desk.store.records(ACME, after=-1, limit=9)}
            found = await desk.store.records_at(ACME, [3, 0, 3, 99, -1])
            assert found == {0: every[0], 3: every[3]}
            assert found[3].payload == b"words 3"
            assert await desk.store.records_at(ACME, range(-9, 1_000)) == every
            assert await desk.store.records_at(ACME, []) == {}
            assert await desk.store.records_at(GLOBEX, [0, 3]) == {}

        self.check(body)

    def test_piece_is_kept_once_under_its_digest_for_its_tenant_alone(self) -> None:
        async def body(desk: Desk) -> None:
            one, two = content(b"one"), content(b"two")
            await desk.write(said(), contents=(one, one))
            await desk.write(said("run_2"), contents=(one, Content(digest=two.digest, data=two.data, kept=True)))
            assert await desk.store.contents(ACME, [one.digest, two.digest]) == {one.digest: b"one"}
            await desk.write(contents=(two,))
            assert await desk.store.contents(ACME, [one.digest, two.digest]) == {
                one.digest: b"one", two.digest: b"two",
            }  # fmt: skip
            assert await desk.store.contents(GLOBEX, [one.digest]) == {}
            assert await desk.size() == 2

        self.check(body)

    def test_tenants_do_not_meet_in_a_journal_when_its_name_and_key_are_the_same(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.write(said(key="k"))
            assert await desk.store.journal(GLOBEX, "run", "run_1") is None
            assert await desk.store.journals(GLOBEX, "run", limit=9) == []
            assert await desk.store.notes(GLOBEX, "run", "run_1") == []
            assert await code_of(desk.write(said(before=0), tenant=GLOBEX)) == "journal_moved"
            assert (await desk.write(said(key="k", words="theirs"), tenant=GLOBEX)).fresh
            assert (await stands(desk)).entries == 1
            assert await desk.store.notes(ACME, "session", "run_1") == []

        self.check(body)

    def test_effects_of_a_run_come_with_their_histories_newest_kept_when_there_are_more(self) -> None:
        async def body(desk: Desk) -> None:
            mine = [await desk.accept(run="run_1") for _ in range(3)]
            await desk.accept(run="run_2")
            await desk.accept()
            await desk.settle(mine[1])
            found = await desk.store.histories(ACME, "run_1", limit=2)
            assert [effect.id for effect, _ in found] == [one.id for one in mine[1:]]
            assert [[one.type for one in history] for _, history in found] == [
                ["effect.accepted", "effect.settled"], ["effect.accepted"],
            ]  # fmt: skip
            assert await desk.store.histories(ACME, "", limit=9) == []
            assert await desk.store.histories(GLOBEX, "run_1", limit=9) == []

        self.check(body)
