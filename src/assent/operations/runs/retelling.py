"""A run told again from its record alone: what was said, and whether the models were told exactly that."""

from __future__ import annotations

from collections.abc import Sequence

from assent.ledger.ports import LedgerStore
from assent.operations.runs.entries import Compacted
from assent.operations.runs.story import Attempt, Story
from assent.operations.runs.transcript import named, pack_of, piece_bytes, piece_words, transcript_of
from assent.operations.runs.views import Retold, ToldTurn
from assent.operations.timelines import intent_of
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed
from assent.reasoning.context import Piece, read_pieces


class Retelling:
    """Tells again. Reads only."""

    def __init__(self, *, store: LedgerStore) -> None:
        self._store = store

    async def begins(self, story: Story, base: Compacted | None) -> tuple[Piece, ...]:
        """The pieces that a telling begins with.

        Raises:
            Malformed: `context_missing`, `context_changed`: they are no longer kept, or not as they were.
        """
        first = named(story, base)
        contents = await self._store.contents(story.journal.tenant, first) if first else {}
        changed = [name for name, data in contents.items() if digest(data) != name]
        if changed:
            raise Malformed("context_changed", f"what is kept as `{changed[0]}` is not what was told")
        return read_pieces(first, contents)

    async def retell(self, story: Story) -> Retold:
        """Tell it again and compare."""
        told = [
            await self._question(story, turn, attempt, asked)
            for turn, attempts in sorted(story.attempts.items())
            for attempt, asked in enumerate(attempts)
        ]
        told += [await self._shorter(story, place) for place in range(len(story.shorter))]
        words = [piece_words(one) for one in transcript_of(story, prior=(), base=None)]
        return Retold(run=story.journal.id, turns=tuple(told), words=tuple(words))

    async def _question(self, story: Story, turn: int, attempt: int, asked: Attempt) -> ToldTurn:
        """Whether a model was told what the record says that it was."""
        intent = intent_of(await self._store.history(story.journal.tenant, asked.effect))
        try:
            prior = await self.begins(story, story.base(turn, attempt))
            again = [*pack_of(story, prior=prior, turn=turn, attempt=attempt).digests]
        except Malformed as malformed:
            return ToldTurn(turn=turn, effect=asked.effect.id, same=False, why=str(malformed))
        if intent is None:
            return ToldTurn(turn=turn, effect=asked.effect.id, same=False, why="what it was asked was erased")
        why = _parting(intent.arguments["pieces"], again)
        return ToldTurn(turn=turn, effect=asked.effect.id, same=not why, why=why)

    async def _shorter(self, story: Story, place: int) -> ToldTurn:
        """Whether a shorter telling stands for what had been said by then, and for what a model made of it."""
        one = story.shorter[place]
        before = story.shorter[place - 1].compacted if place else None
        asked = [found for (turn, _), found in sorted(story.summaries.items()) if turn == one.turn]
        last = next((attempt for attempt in reversed(asked[-1]) if attempt.completion), None) if asked else None
        try:
            prior = await self.begins(story, before)
            summary, *_ = await self.begins(story, one.compacted)
        except Malformed as malformed:
            why = str(malformed)
        else:
            whole = transcript_of(story, prior=prior, base=before, through=one.compacted.through)
            why = _unlike(one.compacted, [digest(data) for data in piece_bytes(whole)], summary, last)
        effect = last.effect.id if last else ""
        return ToldTurn(turn=one.turn, effect=effect, same=not why, why=why, shorter=True)


def _unlike(compacted: Compacted, again: Sequence[str], summary: Piece, last: Attempt | None) -> str:
    """What is wrong with a shorter telling of these pieces, or an empty string."""
    kept = compacted.pieces[1:]
    if parting := _parting(compacted.originals, again):
        return parting
    if kept != tuple(again[len(again) - len(kept) :]):
        return "what was kept word for word is not the end of what was said"
    if last is None or last.completion is None or last.completion.text not in piece_words(summary)[1]:
        return "the summary is not what a model said"
    return ""


def _parting(recorded: Sequence[str], again: Sequence[str]) -> str:
    """Where two lists of pieces part, or an empty string when they are one."""
    if list(recorded) == list(again):
        return ""
    parts = next((n for n, (a, b) in enumerate(zip(recorded, again, strict=False)) if a != b), None)
    place = min(len(recorded), len(again)) if parts is None else parts
    return f"piece {place + 1} of {len(recorded)} is another"
