"""On whose word the calls of a turn stand, and in what they go beyond what was asked for. Pure, from the story."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from assent.ledger.budgets import Hold, Unit, Window
from assent.ledger.contracts import OperationContract
from assent.ledger.effects import EffectState
from assent.ledger.provenance import OWN, Provenance
from assent.operations.runs.handles import NEVER, arguments_of, results_before, shown_by
from assent.operations.runs.steps import PLAN
from assent.operations.runs.story import Story
from assent.operations.runs.transcript import sources_of, text_of
from assent.policy.flow import Flow
from assent.policy.mandates import Mandate, beyond, read_mandate
from assent.primitives.labels import Integrity, Label
from assent.reasoning.context import Piece, Said
from assent.reasoning.messages import ToolCall

_USER = Label(integrity=Integrity.USER)


def flow_of(story: Story, *, prior: Sequence[Piece], turn: int) -> Flow:
    """What the run has seen before `turn`; `prior` are the pieces that its telling begins with."""
    flow = results_before(story, turn)
    for source in sources_of(story, turn=turn):
        flow.weaken(source.label)
    for piece in prior:
        flow.weaken(piece.label)
        if piece.label.integrity is Integrity.USER and isinstance(piece.what, Said):
            flow.tell(text_of(piece.what.message), piece.label, shown=shown_by(0))
    flow.tell(text_of(story.begun.task), story.begun.task_label, shown=shown_by(0))
    for heard in story.heard:
        if heard.after < turn:
            flow.tell(text_of(heard.message), _USER, shown=shown_by(heard.after))
    return flow


def may_hear(label: Label, person: str) -> bool:
    """Whether a person may be told what was made of something with this label."""
    return label.readers is None or person in label.readers


def withheld(story: Story, *, prior: Sequence[Piece]) -> str:
    """Why the last words of a run are not for whom it works for, or an empty string: an answer is a sink, too."""
    person = story.begun.on_behalf_of[-1]
    context = flow_of(story, prior=prior, turn=story.turn + 1).context
    return "" if may_hear(context, person) else f"the answer may rest on what `{person}` may not read, and is withheld"


def provenance_of(
    story: Story,
    flow: Flow,
    *,
    turn: int,
    call: ToolCall,
    contract: OperationContract | None,
    before: Iterable[ToolCall],
    now_ms: int,
) -> tuple[dict[str, Any], Provenance]:
    """The arguments of a proposed call, on whose word they stand, and in what it goes beyond what was asked for.
    `before` are proposals that are asked for together with it and stand before it.

    Raises:
        Malformed: as `arguments_of`.
    """
    offer = story.begun.offer_of(call.name)
    arguments, held = arguments_of(story, turn, call, flow=flow)
    found = flow.provenance(arguments, held | dict.fromkeys(offer.given, OWN.context))
    mandates = [mandate for mandate, _ in mandates_of(story, turn)]
    if contract is None or not mandates:
        return arguments, found
    used = [*_used(story), *((story.begun.offer_of(one.name).operation, one.arguments) for one in before)]
    why = beyond(mandates, contract, arguments, used=used, now_ms=now_ms)
    return arguments, replace(found, beyond=why)


def taken_of(story: Story, turn: int, operation: str, arguments: Mapping[str, Any]) -> tuple[Hold, ...]:
    """What a call takes of the mandates that count how often: one of a pool that is the run's whose mandate it is, so
    runs that work side by side under one mandate share what it permits, whoever is faster."""
    holds = []
    for number, (mandate, owner) in enumerate(mandates_of(story, turn)):
        covering = [(place, one) for place, one in enumerate(mandate.allowances) if one.covers(operation, arguments)]
        if covering and all(one.times for _, one in covering):
            place, one = covering[0]
            scope = f"run:{owner}/mandate-{number}-{place}"
            holds.append(Hold(scope=scope, unit=Unit.CALLS, window=Window.ALL, amount=1, limit=one.times))
    return tuple(holds)


def mandates_of(story: Story, turn: int) -> list[tuple[Mandate, str]]:
    """What binds a run in a turn, and whose each is; the order never changes, what is new comes last."""
    run = story.journal.id
    given = zip(story.begun.mandates, story.begun.owners(run), strict=True)
    return [*given, *((one, run) for one in _confirmed(story, turn))]


def _confirmed(story: Story, turn: int) -> list[Mandate]:
    """The plans that a person confirmed before a turn: each narrows what was asked for further."""
    done = [
        call
        for (of, _), call in sorted(story.calls.items())
        if of < turn and call.effect.operation == PLAN and call.effect.state is EffectState.SUCCEEDED
    ]
    return [read_mandate(call.arguments["calls"], by="the confirmed plan") for call in done]


def _used(story: Story) -> list[tuple[str, Mapping[str, Any]]]:
    """The calls that something came of, or still may."""
    return [(one.effect.operation, one.arguments) for one in story.calls.values() if one.effect.state not in NEVER]
