"""What a ledger's store shows, and to whom."""

from __future__ import annotations

from msgspec.structs import replace

from assent.ledger.commands import (
    ActivatePolicy,
    ExpireReviews,
    KeepCheckpoint,
    OpenLog,
)
from assent.ledger.decisions import Verdict
from assent.ledger.effects import EffectState, Move
from assent.ledger.reviews import ReviewState
from assent.primitives.digests import digest
from assent.primitives.ids import EffectId, ReviewId
from assent.testing.conformance.opening import OpensLedger
from assent.testing.desks import ACME, GLOBEX, Desk, code_of


class LedgerReadsSuite(OpensLedger):
    """Reading, and what other tenants do not see."""

    # Reading

    def test_tenants_do_not_see_each_other_whatever_they_ask(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.store.apply(OpenLog(tenant=GLOBEX))
            store, scribe = desk.store, desk.scribe
            sent, granted, unknown = await desk.accept(run="r", key="k"), await desk.granted(), await desk.unknown()
            asked = await desk.accept(ACME, Verdict.REVIEW)
            for effect in (sent, granted, unknown, asked):
                assert await store.effect(GLOBEX, effect.id) is None
                assert await store.history(GLOBEX, effect) == []
                assert not effect.review or await store.review(GLOBEX, ReviewId(effect.review)) is None
            assert await store.effect_by_key(GLOBEX, "k") is None
            assert await store.effects(GLOBEX, limit=100) == []
            assert await store.effects(GLOBEX, run="r", limit=100) == []
            assert await store.reviews(GLOBEX, states=tuple(ReviewState), limit=100) == []
            assert await store.names(GLOBEX, "", limit=100) == []
            assert await store.size(GLOBEX) == 1
            foreign = [replace(e, tenant=GLOBEX) for e in (sent, granted, unknown, asked)]
            commands = {
                "settle": scribe.settle(tenant=GLOBEX, effect=sent.id, seq=sent.last_seq),
                "dispatch": scribe.dispatch(foreign[1]),
                "resend": scribe.dispatch(foreign[2], again=True),
                "judge": scribe.judge(foreign[2], Move.SUCCEED),
                "withdraw": scribe.withdraw(foreign[1]),
                "answer": scribe.answer(GLOBEX, asked.review, by="person:bob"),
            }
            found = {name: await code_of(store.apply(command)) for name, command in commands.items()}
            assert found == {n: "review_not_found" if n == "answer" else "effect_not_found" for n in commands}
            assert await store.apply(ExpireReviews(tenant=GLOBEX)) == 0
            assert await desk.size(GLOBEX) == 1
            for effect in (sent, granted, unknown, asked):
                assert await store.effect(ACME, effect.id) == effect

        self.check(body)

    def test_effects_are_listed_oldest_first_when_more_are_there_than_asked_for(self) -> None:
        async def body(desk: Desk) -> None:
            made = [await desk.accept(run="r" if i % 2 else "") for i in range(6)]
            await desk.settle(made[5])
            ids = [e.id for e in made]
            store = desk.store
            assert [e.id for e in await store.effects(ACME, limit=4)] == ids[2:]
            assert [e.id for e in await store.effects(ACME, run="r", limit=9)] == ids[1::2]
            open_ones = await store.effects(ACME, states=(EffectState.DISPATCHED,), run="r", limit=9)
            assert [e.id for e in open_ones] == [ids[1], ids[3]]
            done = await store.effects(ACME, states=(EffectState.SUCCEEDED, EffectState.FAILED), limit=9)
            assert [e.id for e in done] == [ids[5]]

        self.check(body)

    def test_questions_about_no_text_are_malformed_and_change_nothing(self) -> None:
        async def body(desk: Desk) -> None:
            store, odd = desk.store, "\udcff"
            asked = (
                store.effect(ACME, EffectId(odd)),
                store.effect_by_key(ACME, odd),
                store.effects(ACME, run=odd, limit=1),
                store.review(ACME, ReviewId(odd)),
                store.names(ACME, odd, limit=1),
                store.policy_revision(ACME, odd),
                store.apply(desk.scribe.answer(ACME, odd, by="person:bob")),
            )
            assert {await code_of(one) for one in asked} == {"text_malformed"}
            assert (await desk.accept()).first_seq == 0

        self.check(body)

    def test_names_are_found_by_a_part_of_them(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept(run="nightly-report")
            assert await desk.store.names(ACME, "ghtly", limit=9) == ["nightly-report"]
            assert await desk.store.names(ACME, effect.id[6:20], limit=9) == [effect.id]
            assert await desk.store.names(ACME, "%", limit=9) == []
            assert len(await desk.store.names(ACME, "", limit=1)) == 1

        self.check(body)

    def test_policy_revisions_are_found_by_their_name_with_their_last_number(self) -> None:
        async def body(desk: Desk) -> None:
            before = ""
            for text in ("one", "two", "one"):
                revision = digest(text.encode())
                await desk.store.apply(
                    ActivatePolicy(tenant=ACME, revision=revision, text=text, by="person:ann", expected=before)
                )
                before = revision
            assert await desk.store.policy_revision(ACME, digest(b"one")) == (3, "one")
            assert await desk.store.policy_revision(ACME, digest(b"two")) == (2, "two")
            assert await desk.store.policy_revision(GLOBEX, digest(b"one")) is None

        self.check(body)

    def test_records_are_paged_in_order_when_asked_after_a_place(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.store.apply(OpenLog(tenant=ACME))
            await desk.store.apply(OpenLog(tenant=ACME))
            for _ in range(5):
                await desk.accept()
            page = await desk.store.records(ACME, after=2, limit=2)
            assert [r.seq for r in page] == [3, 4]
            assert (await desk.store.records(ACME, after=-1, limit=1))[0].type == "log.opened"
            assert await desk.size() == 6

        self.check(body)

    def test_checkpoint_is_a_signed_note_of_the_log_as_it_stands_when_kept(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.accept()
            note = await desk.store.apply(KeepCheckpoint(tenant=ACME))
            assert note.splitlines()[0].endswith("/acme")
            assert note.splitlines()[1] == "1"
            assert await desk.store.size(ACME) == 1
            assert await code_of(desk.store.apply(KeepCheckpoint(tenant=GLOBEX))) == "log_not_found"

        self.check(body)
