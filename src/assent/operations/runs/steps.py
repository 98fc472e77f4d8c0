"""What a run does next, from its story alone. Pure: one function owns the branching.

A turn: a model is asked; its answer is interpreted; every proposal becomes a call of its own, which policy decides;
what came of each is told to the model in the next turn. Everything that repeats is counted and has a named limit.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import msgspec

from assent.ledger.effects import EffectState
from assent.operations.runs.entries import Ended, Heard, Started
from assent.operations.runs.handles import arguments_of
from assent.operations.runs.states import RunMove
from assent.operations.runs.story import Attempt, Call, Story
from assent.primitives.errors import Malformed
from assent.reasoning.failures import FailureKind, Fault, failure
from assent.reasoning.interpretation import Answered, Declined, Meaning, Proposed, Unusable, interpret
from assent.reasoning.messages import ToolCall

ASK = "assistant.ask"
DELEGATE = "assistant.delegate"
HAND_OFF = "assistant.hand_off"
PLAN = "assistant.plan"
HANDS_ON = frozenset({DELEGATE, HAND_OFF})
HALTED = "halted"
DEPTH_MAX = 4
REPAIRS_MAX = 2
"""How often in a row an answer may be unusable, or hold nothing but proposals that nobody can ask for."""
ROUNDS_MAX = 3
"""How often the whole chain of models is tried before the run waits for better times."""
AGAIN_MAX = 10
"""How often a call is asked for again that was lost with its node and surely did not happen."""
NOT_DONE = frozenset({"not_happened", "attested"})
SAME_MAX = 3
"""How often the very same call may come to the very same result."""
BACKOFF_MS = (2_000, 10_000)
RETRY_AFTER_MS_MAX = 60_000


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a model, after `delay_ms`. `compact`: what it is told was too large for its provider, so first make that
    smaller."""

    turn: int
    attempt: int
    model: str
    delay_ms: int = 0
    compact: bool = False


class Perform(msgspec.Struct, frozen=True, kw_only=True):
    """Ask policy for these proposals: their place, and the call."""

    turn: int
    calls: tuple[tuple[int, ToolCall], ...]


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """Find out what became of an effect that is neither over nor waits for a person."""

    attempt: Attempt | None = None
    call: Call | None = None


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing can be done until somebody else has done something."""

    reason: str
    of: str
    question: str = ""


class Attend(msgspec.Struct, frozen=True, kw_only=True):
    """See to the run that was begun for a proposal."""

    turn: int
    place: int
    call: Call


class End(msgspec.Struct, frozen=True, kw_only=True):
    """It is over."""

    move: RunMove
    payload: Ended


Step: TypeAlias = Ask | Perform | Settle | Wait | Attend | End


def next_step(story: Story) -> Step:
    """What is to be done next."""
    turn = story.turn
    meaning = meaning_of(story, turn)
    match meaning:
        case None:
            return _ask(story, turn)
        case Answered(text=text):
            return _next_turn(story) if unheard(story) else _finished(text)
        case Declined(failure=told):
            return _failed(told.kind, told.message)
        case Unusable(failure=told):
            return _next_turn(story) if _repairs(story) <= REPAIRS_MAX else _failed(told.kind, told.message)
        case Proposed():
            return _proposed(story, turn, meaning)


def meaning_of(story: Story, turn: int) -> Meaning | None:
    """What the answer of a turn means, or None while there is none."""
    answer = story.answer(turn)
    meaning = interpret(answer, tools=[one.tool.name for one in story.begun.offers]) if answer else None
    return _well_spelled(story, turn, meaning) if isinstance(meaning, Proposed) else meaning


def _well_spelled(story: Story, turn: int, meaning: Proposed) -> Proposed:
    """What is proposed, without what its tool cannot take: a fault like an unknown tool, and never asked for."""
    calls, faults = [], list(meaning.faults)
    for place, call in meaning.calls:
        try:
            arguments_of(story, turn, call)
            calls.append((place, call))
        except Malformed as malformed:
            faults.append((place, call, str(malformed)))
    return Proposed(text=meaning.text, calls=tuple(calls), faults=tuple(sorted(faults, key=lambda one: one[0])))


def unheard(story: Story) -> list[Heard]:
    """What people said in this turn that answers no call: it is told in the next one."""
    return [one for one in story.heard if one.after == story.turn and not one.answers]


def answered(story: Story, call: Call) -> Heard | None:
    """What a person said to a call that asks."""
    return next((one for one in story.heard if one.answers == call.effect.id), None)


def _ask(story: Story, turn: int) -> Step:
    """Ask the next model of the chain, wait, or give up."""
    attempts = story.attempts.get(turn, [])
    if attempts and attempts[-1].fault is None:
        return _open_attempt(attempts[-1])
    since = story.asked_since.get(turn, 0)
    tried = [one for one in attempts[since:] if not one.called_off]
    chain = story.begun.agent.models
    number, model = len(attempts), chain[len(tried) % len(chain)]
    if not tried:
        limit = _limit(story, turn)
        return limit or Ask(turn=turn, attempt=number, model=model)
    fault = tried[-1].fault
    assert fault is not None, "an attempt that is over has an answer or a fault"
    if tried[-1].effect.code == HALTED:  # once it is lifted it is asked again
        return Wait(reason="halted", of=tried[-1].effect.id, question=fault.message)
    if fault.kind is FailureKind.BUDGET_EXHAUSTED:  # it stands in the inbox; once there is room it is asked again
        return Wait(reason="budget", of=tried[-1].effect.id, question=fault.message)
    if fault.kind is FailureKind.CONTEXT_TOO_LARGE:
        again = sum(one.fault is not None and one.fault.kind is fault.kind for one in attempts)
        repeat = chain[(len(tried) - 1) % len(chain)]
        return Ask(turn=turn, attempt=number, model=repeat, compact=True) if again < 2 else _given_up(tried)
    if fault.kind is FailureKind.PROVIDER_FILTERED:
        return _given_up(tried)
    return _fall_back(story, turn, tried, model=model, number=number)


def _fall_back(story: Story, turn: int, tried: list[Attempt], *, model: str, number: int) -> Step:
    chain = story.begun.agent.models
    rounds, within = divmod(len(tried), len(chain))
    if within:
        return Ask(turn=turn, attempt=number, model=model)
    last = [one.fault for one in tried[-len(chain) :] if one.fault]
    if all(fault.kind is FailureKind.ADAPTER_REJECTED for fault in last):
        return _given_up(tried)
    if rounds >= ROUNDS_MAX:
        return Wait(reason="provider", of=tried[-1].effect.operation, question=last[-1].message)
    return Ask(turn=turn, attempt=number, model=model, delay_ms=_delay_ms(last, rounds))


def _delay_ms(faults: list[Fault], rounds: int) -> int:
    """How long to wait before the next round: the shortest of what the providers ask for, else longer every time."""
    asked = [fault.retry_after_ms for fault in faults if fault.retry_after_ms is not None]
    return min(*asked, RETRY_AFTER_MS_MAX) if asked else BACKOFF_MS[min(rounds, len(BACKOFF_MS)) - 1]


def _open_attempt(attempt: Attempt) -> Step:
    if attempt.effect.state is EffectState.IN_REVIEW:
        return Wait(reason="review", of=attempt.effect.review)
    return Settle(attempt=attempt)


def _limit(story: Story, turn: int) -> Step | None:
    agent = story.begun.agent
    used = story.usage.input_tokens + story.usage.output_tokens
    if turn > agent.turns_max:
        return _failed(FailureKind.BUDGET_EXHAUSTED, f"the run has had its {agent.turns_max} turns (`turns_max`)")
    if agent.tokens_max and used >= agent.tokens_max:
        return _failed(
            FailureKind.BUDGET_EXHAUSTED, f"the run has used up its {agent.tokens_max} tokens (`tokens_max`)"
        )
    return None


def _proposed(story: Story, turn: int, meaning: Proposed) -> Step:
    """First what is not on record yet, then what is still open, then what is waited for; then the next turn."""
    calls = [(place, call, story.calls.get((turn, place))) for place, call in meaning.calls]
    new = tuple((place, call) for place, call, record in calls if record is None or _once_more(story, turn, place))
    if new:
        return Perform(turn=turn, calls=new)
    open_ = [step for place, _, record in calls if record and (step := _still_open(story, turn, place, record))]
    if open_:
        return min(open_, key=lambda step: _PATIENCE[type(step)])
    taken = next((found for _, _, record in calls if record and (found := taken_over(story, record))), None)
    if taken is not None:
        return _ended_by(taken)
    if _loops(story):
        return _failed(FailureKind.LOOP_DETECTED, f"the same call came to the same result {SAME_MAX} times")
    if not meaning.calls and _repairs(story) > REPAIRS_MAX:
        return _failed(FailureKind.TOOL_MISMATCH, meaning.faults[0][2])
    return _next_turn(story)


def taken_over(story: Story, call: Call) -> Ended | None:
    """How the run ended that took over by this call, if one did."""
    if call.effect.operation != HAND_OFF or refused(story.begun, call):
        return None
    return story.children.get(call.effect.id)


def refused(begun: Started, call: Call) -> str:
    """Why a run may not hand its work to whom it names, or an empty string. From its own record alone."""
    name = str(call.arguments.get("agent", ""))
    those = begun.agent.hands_to if call.effect.operation == HAND_OFF else begun.agent.delegates
    if name not in those:
        return nobody(begun, call)
    if name in (*begun.ancestors, begun.agent.name):
        return f"`{name}` works on this already: handing it on would go in a circle"
    return f"work is handed on at most {DEPTH_MAX} times" if begun.depth + 1 > DEPTH_MAX else ""


def nobody(begun: Started, call: Call) -> str:
    """That whom it names is nobody it may hand work to."""
    those = begun.agent.hands_to if call.effect.operation == HAND_OFF else begun.agent.delegates
    name, known = str(call.arguments.get("agent", "")), ", ".join(those) or "nobody"
    return f"`{name[:80]}` is nobody it may hand work to; there are: {known}"


def _ended_by(taken: Ended) -> End:
    if taken.failure is not None:
        return End(move=RunMove.FAIL, payload=taken)
    if not taken.text:
        return _failed(FailureKind.TOOL_MISMATCH, "the run that took over was cancelled")
    return _finished(taken.text)


def _once_more(story: Story, turn: int, place: int) -> bool:
    """Whether a call has to be asked for again: its node died, and it is known that it did not happen."""
    call = story.calls[turn, place]
    lost = call.effect.state is EffectState.FAILED and call.effect.code in NOT_DONE
    return lost and story.tries.get((turn, place), 0) < AGAIN_MAX


_PATIENCE: dict[type, int] = {Settle: 0, Attend: 1, Wait: 2}
"""First what can be done here; what others must do is waited for last."""


def _still_open(story: Story, turn: int, place: int, call: Call) -> Settle | Attend | Wait | None:
    """What is left to do about a call on record, or None when the model can be told what came of it."""
    effect = call.effect
    match effect.state:
        case EffectState.GRANTED | EffectState.DISPATCHED | EffectState.UNKNOWN:
            return Settle(call=call)
        case EffectState.IN_REVIEW:
            return Wait(reason="review", of=effect.review)
        case EffectState.SUCCEEDED if effect.operation == ASK and answered(story, call) is None:
            return Wait(reason="person", of=effect.id, question=str(call.arguments.get("question", "")))
        case EffectState.SUCCEEDED if effect.operation in HANDS_ON and effect.id not in story.children:
            return Attend(turn=turn, place=place, call=call)
        case _:
            return None


def _next_turn(story: Story) -> Step:
    turn = story.turn + 1
    return _limit(story, turn) or Ask(turn=turn, attempt=0, model=story.begun.agent.models[0])


def _repairs(story: Story) -> int:
    """How many of the latest answers in a row came to nothing."""
    count = 0
    for turn in range(story.turn, 0, -1):
        meaning = meaning_of(story, turn)
        if not (isinstance(meaning, Unusable) or (isinstance(meaning, Proposed) and not meaning.calls)):
            break
        count += 1
    return count


def _loops(story: Story) -> bool:
    """Whether some call, with the same arguments and the same result, stands in each of the last `SAME_MAX` turns."""
    turns = range(max(1, story.turn - SAME_MAX + 1), story.turn + 1)
    seen: Counter[str] = Counter()
    for turn in turns:
        calls = [call for (of, _), call in story.calls.items() if of == turn]
        seen.update({f"{call.effect.intent}{call.effect.state}{call.text}" for call in calls})
    return any(count >= SAME_MAX for count in seen.values())


def _given_up(tried: list[Attempt]) -> End:
    fault = next(one.fault for one in reversed(tried) if one.fault)
    return _failed(fault.kind, fault.message)


def _finished(text: str) -> End:
    return End(move=RunMove.FINISH, payload=Ended(text=text))


def _failed(kind: FailureKind, message: str) -> End:
    return End(move=RunMove.FAIL, payload=Ended(failure=failure(kind, message)))
