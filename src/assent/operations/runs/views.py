"""Runs as they are shown. Plain values for surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.ledger.journals import Journal
from assent.ledger.ports import Record
from assent.operations.runs import steps
from assent.operations.runs.states import RunState
from assent.operations.runs.story import Attempt, Story, begun_of, unknown_flags, waits_for
from assent.operations.runs.transcript import result_text, text_of
from assent.reasoning.interpretation import Proposed
from assent.reasoning.messages import Usage


class ToldTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a model: whether the record, told again, makes exactly what the model was told, and if not, why.
    `shorter`: it is about what was said before the turn being told more shortly."""

    turn: int
    effect: str
    same: bool
    why: str = ""
    shorter: bool = False


class Retold(msgspec.Struct, frozen=True, kw_only=True):
    """A run told again: its turns, and all that was said in it, as (who, words)."""

    run: str
    turns: tuple[ToldTurn, ...]
    words: tuple[tuple[str, str], ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return all(turn.same for turn in self.turns)


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list: what its row and one or two of its entries tell, without folding its record."""

    id: str
    agent: str
    state: str
    session: str
    task: str
    waits_for: str
    updated_at_ms: int


def line_of(journal: Journal, records: Mapping[int, Record]) -> RunLine:
    """A run in a list, from its row and these of its entries."""
    first, last = records[journal.first_seq], records.get(journal.last_seq)
    if unknown_flags(first):
        session, task = "", "(begun by a newer release)"
    else:
        begun = begun_of(first)
        session, task = begun.session, text_of(begun.task)
    return RunLine(
        id=journal.id, agent=journal.name, state=journal.state, session=session, task=task,
        waits_for=waits_for(last) if last else "", updated_at_ms=journal.updated_at_ms,
    )  # fmt: skip


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is shown. `asks` is how often people were asked to approve something that it, or who
    works for it, proposed."""

    id: str
    agent: str
    state: str
    session: str
    turn: int
    task: str
    text: str
    failure: str
    input_tokens: int
    output_tokens: int
    effects: int
    updated_at_ms: int
    waits_for: str = ""
    asks: int = 0


def view(story: Story) -> RunView:
    """A run as it is shown."""
    journal, usage, end = story.journal, story.usage, story.ended
    step = steps.next_step(story) if RunState(journal.state) is RunState.WAITING else None
    waits = f"{step.reason} {step.of}" if isinstance(step, steps.Wait) else ""
    if isinstance(step, steps.Settle) and step.call:
        waits = story.waits_for or f"unknown {step.call.effect.id}"
    if isinstance(step, steps.Ask | steps.Attend):  # it goes on as soon as somebody has it go on
        waits = story.waits_for
    return RunView(
        id=journal.id, agent=story.begun.agent.name, state=journal.state, session=story.begun.session,
        turn=story.turn, task=text_of(story.begun.task), text=end.text if end else "",
        failure=f"{end.failure.kind}: {end.failure.message}" if end and end.failure else "",
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens,
        effects=len(story.calls) + sum(len(one) for one in story.attempts.values()),
        updated_at_ms=journal.updated_at_ms, waits_for=waits, asks=story.asks,
    )  # fmt: skip


class AskedView(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a model: which one, how it ended, what it used."""

    model: str
    effect: str
    state: str
    message: str
    input_tokens: int
    output_tokens: int


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """One proposed call: what was wished, what policy said by which rules, what came of it."""

    place: int
    tool: str
    operation: str
    arguments: dict[str, Any]
    effect: str
    state: str
    code: str
    rules: tuple[str, ...]
    reason: str
    review: str
    text: str


class TurnView(msgspec.Struct, frozen=True, kw_only=True):
    """One turn: which models were asked, what was said, what was proposed, what people said meanwhile. `shortened`:
    what was said before was told more shortly from this turn on."""

    turn: int
    shortened: bool
    asked: tuple[AskedView, ...]
    text: str
    calls: tuple[CallView, ...]
    faults: tuple[str, ...]
    heard: tuple[tuple[str, str], ...]


def turns_of(story: Story) -> tuple[TurnView, ...]:
    """The turns of a run."""
    return tuple(_turn(story, turn) for turn in sorted(story.attempts))


def _turn(story: Story, turn: int) -> TurnView:
    answer, meaning = story.answer(turn), steps.meaning_of(story, turn)
    summaries = [one for (of, _), found in sorted(story.summaries.items()) if of == turn for one in found]
    faults = meaning.faults if isinstance(meaning, Proposed) else ()
    return TurnView(
        turn=turn,
        shortened=any(one.turn == turn for one in story.shorter),
        asked=tuple(_asked(one) for one in (*summaries, *story.attempts[turn])),
        text=answer.text if answer else "",
        calls=tuple(_call(story, turn, place) for (of, place) in sorted(story.calls) if of == turn),
        faults=tuple(f"{one.name}: {why}" for _, one, why in faults),
        heard=tuple((one.by, text_of(one.message)) for one in story.heard if one.after == turn),
    )


def _asked(attempt: Attempt) -> AskedView:
    usage = attempt.completion.usage if attempt.completion else Usage()
    return AskedView(
        model=attempt.model, effect=attempt.effect.id, state=attempt.effect.state,
        message=attempt.fault.message if attempt.fault else "", input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
    )  # fmt: skip


def _call(story: Story, turn: int, place: int) -> CallView:
    call = story.calls[turn, place]
    effect = call.effect
    return CallView(
        place=place, tool=story.tool_of(turn, place), operation=effect.operation, arguments=call.arguments,
        effect=effect.id, state=effect.state, code=effect.code, rules=call.rules, reason=call.reason,
        review=effect.review, text=result_text(story, call)[0],
    )  # fmt: skip
