"""The story of a run: what the log says of it, folded. Pure: the same record gives the same story, on any node.

Two kinds of record are folded. The run's own journal says what it began with, what people said, where it waited and
how it ended. Its effects say what was asked of models and of the world: a model call of turn 3 has the key `run_…/3`,
its further attempts `run_…/3~1`, …, and the call proposed in its place 2 the key `run_…/3/2`. Where what was said had
to be summed up before turn 3, the questions for that are `run_…/3^0`, …. Whatever has a record is never asked for
again; what has none is what is left to do (`steps`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from assent.execution.outcomes import Outcome
from assent.ledger.effects import Effect, EffectState
from assent.ledger.journals import Journal
from assent.ledger.ports import Record
from assent.ledger.provenance import UNVOUCHED, Provenance
from assent.operations.models import COMPLETION, FAULT
from assent.operations.runs.entries import FLAGS, PATIENCE, Compacted, Ended, Heard, Started
from assent.operations.runs.states import ALIVE, RunState
from assent.operations.runs.telling import told
from assent.operations.timelines import intent_of, outcome_of, provenance_of, reason_of
from assent.primitives.errors import InvariantBroken, Refused
from assent.reasoning.failures import FailureKind, Fault
from assent.reasoning.interpretation import CALLS_MAX
from assent.reasoning.messages import BrokenCall, Completion, ToolCall, Usage


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a model, as it is on record. `completion` is there when it was answered, `fault` when it is known
    why not; with neither it is still open."""

    effect: Effect
    model: str = ""
    completion: Completion | None = None
    fault: Fault | None = None

    @property
    def called_off(self) -> bool:
        """Whether a person stopped it: that says nothing about the model."""
        return self.effect.state is EffectState.CANCELLED


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One proposed call, as it is on record. `text` is what the model is told once nothing more can come of it."""

    effect: Effect
    text: str
    failed: bool
    value: dict[str, Any]
    arguments: dict[str, Any]
    rules: tuple[str, ...] = ()
    reason: str = ""
    provenance: Provenance = UNVOUCHED

    @property
    def over(self) -> bool:
        """Whether the model can be told what came of it."""
        return self.effect.settled


class Shorter(msgspec.Struct, frozen=True, kw_only=True):
    """From this attempt of this turn on, what was said before the turn is told more shortly."""

    turn: int
    attempt: int
    compacted: Compacted


class Asks(msgspec.Struct, frozen=True, kw_only=True):
    """How often people were asked in a run that was begun for a call, and below it; and how much of what they may be
    asked is `taken` by that: all that it was given while it lives, and what it made of it afterwards."""

    made: int
    taken: int


class Story(msgspec.Struct, kw_only=True):
    """Everything that is on record about one run. A notebook: `note_*` write into it what came to be recorded."""

    journal: Journal
    begun: Started
    flags: tuple[str, ...]
    """The behaviours it was begun with."""
    attempts: dict[int, list[Attempt]] = {}
    calls: dict[tuple[int, int], Call] = {}
    tries: dict[tuple[int, int], int] = {}
    """How often a call was asked for again, because it surely had not happened."""
    heard: list[Heard] = []
    shorter: list[Shorter] = []
    """Where it came to be told more shortly, in order."""
    summaries: dict[tuple[int, int], list[Attempt]] = {}
    """What a model was asked so that it can be told more shortly: by turn and part."""
    ended: Ended | None = None
    waits_for: str = ""
    """What it last came to wait for."""
    children: dict[str, Ended] = {}
    """How the runs ended that were begun for calls, by the call's effect."""
    reviews: set[str] = set()
    """What people were asked to approve of what it proposed."""
    asks_below: dict[str, Asks] = {}
    """How often people were asked by the runs that were begun for calls, by the call's effect."""
    asked_since: dict[int, int] = {}
    """By turn: how many attempts were over when the run was last resumed. Patience begins anew each time."""

    def note_effect(self, effect: Effect, history: Sequence[Record]) -> None:
        """Take in an effect of the run as it stands now."""
        place = place_of(effect.key, self.journal.id)
        if place is None:
            self._note_summary(effect, history)
            return
        turn, call, attempt = place
        outcome = outcome_of(history)
        if call is not None:
            self.reviews.update({effect.review} - {""})
            if attempt < self.tries.get((turn, call), 0):
                return  # it was asked for again since
            self.tries[turn, call] = attempt
            self.calls[turn, call] = _call(effect, outcome, history)
            return
        attempts = self.attempts.setdefault(turn, [])
        if attempt > len(attempts):
            raise InvariantBroken(
                "run_broken", f"attempt {attempt} of turn {turn} of `{self.journal.id}` has none before"
            )
        attempts[attempt : attempt + 1] = [attempt_of(effect, history)]

    def _note_summary(self, effect: Effect, history: Sequence[Record]) -> None:
        place = summary_place_of(effect.key, self.journal.id)
        if place is not None:
            turn, part, attempt = place
            self.summaries.setdefault((turn, part), [])[attempt : attempt + 1] = [attempt_of(effect, history)]

    def note_child(self, call: str, child: Story) -> None:
        """Take in the run that was begun for a call, as it stands now."""
        lives = RunState(child.journal.state) in ALIVE
        if not lives:
            self.children[call] = child.ended or Ended()
        bound = child.asks_max if lives else None
        self.asks_below[call] = Asks(made=child.asks, taken=child.asks if bound is None else bound)

    def note_shorter(self, compacted: Compacted) -> None:
        """Take in that it is told more shortly from the question on that comes next."""
        turn = compacted.through + 1
        self.shorter.append(Shorter(turn=turn, attempt=len(self.attempts.get(turn, ())), compacted=compacted))

    def note_entry(self, record: Record) -> None:
        """Take in an entry of the run's journal."""
        match record.type:
            case "run.heard":
                self.heard.append(_payload(record, Heard))
            case "run.compacted":
                self.note_shorter(_payload(record, Compacted))
            case "run.ended":
                self.ended = _payload(record, Ended)
            case "run.waiting":
                self.waits_for = waits_for(record)
            case "run.resumed":
                self.asked_since[self.turn] = self._over_by(record.seq)
            case _:
                pass

    def _over_by(self, seq: int) -> int:
        """How many attempts of this turn were over by then; a run without the flag counts those that were open too."""
        attempts = self.attempts.get(self.turn, ())
        over = [one.effect.settled and one.effect.last_seq < seq for one in attempts]
        return over.index(False) if PATIENCE in self.flags and False in over else len(over)

    def base(self, turn: int, attempt: int = 0) -> Compacted | None:
        """Which shorter telling a question begins with, if there is one."""
        found = [one.compacted for one in self.shorter if (one.turn, one.attempt) <= (turn, attempt)]
        return found[-1] if found else None

    @property
    def latest(self) -> Compacted | None:
        """The shortest telling there is."""
        return self.shorter[-1].compacted if self.shorter else None

    @property
    def asks(self) -> int:
        """How often people were asked to approve something that it, or who works for it, proposed."""
        return len(self.reviews) + sum(one.made for one in self.asks_below.values())

    @property
    def asks_max(self) -> int | None:
        """How often people may be asked in all: as its agent may, and no more than was left to whoever handed the work
        on. None: there is no limit."""
        given = (self.begun.agent.asks_max or None, self.begun.asks_left)
        return min((bound for bound in given if bound is not None), default=None)

    @property
    def asks_left(self) -> int | None:
        """How often it may still ask, or let others ask. What a run that works for it may ask, is that run's as long as
        it lives: so they never ask too often together, whoever asks first. None: there is no limit."""
        bound = self.asks_max
        if bound is None:
            return None
        return max(0, bound - len(self.reviews) - sum(one.taken for one in self.asks_below.values()))

    @property
    def turn(self) -> int:
        """The turn it is in, from 1."""
        return max(self.attempts, default=1)

    def answer(self, turn: int) -> Completion | None:
        """What the model said in a turn, once it has."""
        return next((one.completion for one in self.attempts.get(turn, ()) if one.completion), None)

    def tool_of(self, turn: int, place: int) -> str:
        """The tool that the model named in this place of its answer."""
        answer = self.answer(turn)
        return proposals_of(answer)[place].name if answer else ""

    @property
    def usage(self) -> Usage:
        """All tokens that were used up so far."""
        asked = [*self.attempts.values(), *self.summaries.values()]
        found = [one.completion.usage for attempts in asked for one in attempts if one.completion]
        return Usage(
            input_tokens=sum(one.input_tokens for one in found),
            output_tokens=sum(one.output_tokens for one in found),
            cache_read_tokens=sum(one.cache_read_tokens for one in found),
            cache_write_tokens=sum(one.cache_write_tokens for one in found),
        )

    def todo_before(self, turn: int) -> list[dict[str, Any]]:
        """The to-do list as the model had last set it before `turn`."""
        lists = [
            call.value
            for (of, _), call in sorted(self.calls.items())
            if of < turn and call.effect.operation == "assistant.todo" and call.effect.state is EffectState.SUCCEEDED
        ]
        found: list[dict[str, Any]] = lists[-1].get("result", {}).get("items", []) if lists else [*self.begun.todo]
        return found


def tell_story(
    journal: Journal, entries: Sequence[Record], effects: Sequence[tuple[Effect, Sequence[Record]]]
) -> Story:
    """Fold the record of a run.

    Raises:
        Refused: `run_newer`: a newer release began it, and what it does is not known here.
        InvariantBroken: `run_broken`: the record is not one of a run.
    """
    if not entries or entries[0].type != "run.started":
        raise InvariantBroken("run_broken", f"the journal of `{journal.id}` does not begin with its start")
    _must_be_known(journal, entries[0])
    flags = tuple(entries[0].body["flags"])
    story = Story(journal=journal, begun=_payload(entries[0], Started), flags=flags)
    later = [(record.seq, record) for record in entries[1:]]
    for effect, history in sorted(effects, key=lambda pair: pair[0].first_seq):
        while later and later[0][0] < effect.first_seq:
            story.note_entry(later.pop(0)[1])
        story.note_effect(effect, history)
    for _, record in later:
        story.note_entry(record)
    return story


def unknown_flags(started: Record) -> list[str]:
    """The behaviours that a run was begun with and that this release does not have."""
    return [flag for flag in started.body["flags"] if flag not in FLAGS]


def _must_be_known(journal: Journal, started: Record) -> None:
    unknown = unknown_flags(started)
    if unknown:
        raise Refused(
            "run_newer", f"run `{journal.id}` was begun by a newer release (it does {', '.join(unknown)[:200]})",
            hint="go on with that release; nothing was changed",
        )  # fmt: skip


def waits_for(record: Record) -> str:
    """What an entry says that a run waits for."""
    return f"{record.body['reason']} {record.body['of']}" if record.type == "run.waiting" else ""


def begun_of(record: Record) -> Started:
    """What a run began with, from its first entry.

    Raises:
        InvariantBroken: `run_erased`.
    """
    found: Started = _payload(record, Started)
    return found


def key_of_attempt(run: str, turn: int, attempt: int) -> str:
    """The idempotency key of a question to a model."""
    return f"{run}/{turn}~{attempt}" if attempt else f"{run}/{turn}"


def key_of_call(run: str, turn: int, place: int, attempt: int = 0) -> str:
    """The idempotency key of a proposed call."""
    return f"{run}/{turn}/{place}~{attempt}" if attempt else f"{run}/{turn}/{place}"


def key_of_summary(run: str, turn: int, part: int, attempt: int) -> str:
    """The idempotency key of a question that sums up a part of what was said before a turn."""
    return f"{run}/{turn}^{part}~{attempt}" if attempt else f"{run}/{turn}^{part}"


def summary_place_of(key: str, run: str) -> tuple[int, int, int] | None:
    """Turn, part and attempt of a question that sums up; None when it is none."""
    head, slash, rest = key.partition("/")
    turn, caret, rest = rest.partition("^")
    part, _, attempt = rest.partition("~")
    if head != run or not slash or not caret or not all(one.isdecimal() for one in (turn, part, attempt or "0")):
        return None
    return int(turn), int(part), int(attempt or 0)


def place_of(key: str, run: str) -> tuple[int, int | None, int] | None:
    """Turn, place (None: a question to a model) and attempt of an effect by its key; None when it is none of the run's
    own steps."""
    head, slash, rest = key.partition("/")
    if head != run or not slash:
        return None
    step, _, attempt = rest.partition("~")
    turn, _, place = step.partition("/")
    if not all(one.isdecimal() for one in (turn, place or "0", attempt or "0")):
        return None
    return int(turn), int(place) if place else None, int(attempt or 0)


def proposals_of(completion: Completion) -> list[ToolCall | BrokenCall]:
    """What a completion proposes, as far as it is looked at."""
    return [part for part in completion.parts if isinstance(part, ToolCall | BrokenCall)][:CALLS_MAX]


def attempt_of(effect: Effect, history: Sequence[Record]) -> Attempt:
    """A question to a model, from its record."""
    intent, outcome = intent_of(history), outcome_of(history)
    model = f"{effect.operation.removeprefix('model.')}:{intent.arguments.get('model', '')}" if intent else ""
    value = outcome.value if outcome else {}
    if effect.state is EffectState.SUCCEEDED and COMPLETION in value:
        return Attempt(effect=effect, model=model, completion=msgspec.convert(value[COMPLETION], Completion))
    return Attempt(effect=effect, model=model, fault=_fault(effect, outcome, history))


def _fault(effect: Effect, outcome: Outcome | None, history: Sequence[Record]) -> Fault | None:
    """Why a question was not answered; None while it may still be."""
    if outcome and FAULT in outcome.value:
        return msgspec.convert(outcome.value[FAULT], Fault)
    if effect.state is EffectState.REFUSED:
        kind = FailureKind.BUDGET_EXHAUSTED if effect.code == "budget_exhausted" else FailureKind.ADAPTER_REJECTED
        return Fault(kind=kind, message=reason_of(history) or effect.code)
    if effect.settled:
        message = (outcome.message if outcome else "") or f"the question ended as `{effect.code or effect.state}`"
        return Fault(kind=FailureKind.ADAPTER_UNAVAILABLE, message=message)
    return None


def _call(effect: Effect, outcome: Outcome | None, history: Sequence[Record]) -> Call:
    intent = intent_of(history)
    text, failed = told(effect, outcome, reason=reason_of(history), arguments=intent.arguments if intent else {})
    ruled = [record.body["rules"] for record in history if "rules" in record.body]
    return Call(
        effect=effect,
        text=text,
        failed=failed,
        value=outcome.value if outcome else {},
        arguments=intent.arguments if intent else {},
        rules=tuple(ruled[-1]) if ruled else (),
        reason=reason_of(history),
        provenance=provenance_of(history),
    )


def _payload(record: Record, type_: type[Any]) -> Any:  # noqa: ANN401 (the type that is asked for)
    if record.payload is None:
        raise InvariantBroken("run_erased", f"what entry {record.seq} held was erased, so the run cannot be told")
    return msgspec.json.decode(record.payload, type=type_)
