"""Handles: results of a run that its model passes on by name, so that a value arrives as what it is. Pure.

There are handles only in a run one of whose tools says something about the fields of its results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from assent.ledger.contracts import Output
from assent.ledger.effects import EffectState
from assent.operations.runs.story import Story
from assent.operations.toolbox import Offer
from assent.policy.flow import Flow, has_handle
from assent.primitives.labels import Label, joined
from assent.reasoning.messages import ToolCall

NEVER = frozenset({EffectState.REFUSED, EffectState.EXPIRED, EffectState.REVOKED, EffectState.CANCELLED})
"""Calls of which nothing came, and nothing can."""
ASSISTANT = "assistant."
"""How the operations begin that give back what they were given (`operations.assistant`)."""


def handle_of(turn: int, place: int) -> str:
    """The name of a call's result in handles."""
    return f"{turn}-{place}"


def shown_by(turn: int) -> Callable[[str], bool]:
    """Which results a person could know of who spoke after `turn` (0: before the first), by their handles."""
    return lambda handle: int(handle.partition("-")[0]) <= turn


def offer_at(story: Story, turn: int, place: int) -> Offer:
    """The tool that was meant in this place of an answer."""
    return story.begun.offer_of(story.tool_of(turn, place))


def outputs_of(story: Story, turn: int, place: int) -> tuple[Output, ...]:
    """What is known of the fields of a call's result. What Assent's own tools for an agent give back is what they were
    given, so it is no better than that: a model that says something to itself has nobody's word for it."""
    offer, call = offer_at(story, turn, place), story.calls[turn, place]
    if not offer.operation.startswith(ASSISTANT):
        return offer.outputs
    given = [call.provenance.of(name) for name in call.arguments]
    labels = [joined((one.label, *given)) for one in offer.outputs]
    return tuple(
        replace(one, integrity=label.integrity, readers=label.readers)
        for one, label in zip(offer.outputs, labels, strict=True)
    )


def results_before(story: Story, turn: int) -> Flow:
    """A flow that has seen the results of all calls before `turn`, and nothing else."""
    flow = Flow()
    for (of, place), call in sorted(story.calls.items()):
        if of < turn and call.effect.state not in NEVER:
            asked = call.provenance.context
            flow.observe(handle_of(of, place), call.value, outputs_of(story, of, place), asked=asked)
            if child := story.children.get(call.effect.id):
                flow.weaken(child.label)
            if call.failed:
                flow.weaken(Label())  # what went wrong is told in somebody else's words
    return flow


def arguments_of(
    story: Story, turn: int, call: ToolCall, *, flow: Flow | None = None
) -> tuple[dict[str, Any], dict[str, Label]]:
    """The arguments of the operation that a proposal of `turn` means, and the labels of those that were handles; with
    `flow` as it knows them, who has heard what people said as well.

    Raises:
        Malformed: `arguments_invalid`; `handle_unknown`.
    """
    proposed: dict[str, Any] = call.arguments
    held: dict[str, Label] = {}
    offer = story.begun.offer_of(call.name)
    if _has_handles(story) and has_handle(proposed):
        proposed, held = (flow or results_before(story, turn)).resolve(proposed)
    return offer.arguments_of(proposed), {} if offer.spelling else held


def _has_handles(story: Story) -> bool:
    return any(output.field for offer in story.begun.offers for output in offer.outputs)
