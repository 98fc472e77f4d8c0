"""Runs as they are shown. Plain values for surfaces."""

from __future__ import annotations

import msgspec

from assent.operations.runs import steps
from assent.operations.runs.states import RunState
from assent.operations.runs.story import Story
from assent.reasoning.messages import Text


class ToldTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a model: whether the record, told again, makes exactly what the model was told."""

    turn: int
    effect: str
    same: bool


class Retold(msgspec.Struct, frozen=True, kw_only=True):
    """A run told again: its turns, and all that was said, as (who, words)."""

    run: str
    turns: tuple[ToldTurn, ...]
    words: tuple[tuple[str, str], ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return all(turn.same for turn in self.turns)


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is shown."""

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


def view(story: Story) -> RunView:
    """A run as it is shown."""
    journal, usage, end = story.journal, story.usage, story.ended
    step = steps.next_step(story) if RunState(journal.state) is RunState.WAITING else None
    waits = f"{step.reason} {step.of}" if isinstance(step, steps.Wait) else ""
    if isinstance(step, steps.Settle) and step.call:
        waits = f"unknown {step.call.effect.id}"
    task = "".join(part.text for part in story.begun.task.parts if isinstance(part, Text))
    return RunView(
        id=journal.id, agent=story.begun.agent.name, state=journal.state, session=story.begun.session,
        turn=story.turn, task=task, text=end.text if end else "",
        failure=f"{end.failure.kind}: {end.failure.message}" if end and end.failure else "",
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens,
        effects=len(story.calls) + sum(len(one) for one in story.attempts.values()),
        updated_at_ms=journal.updated_at_ms, waits_for=waits,
    )  # fmt: skip
