from __future__ import annotations

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.ledger.effects import EFFECT, MOVE_OF_ENDING, EffectState, Move
from assent.ledger.reviews import REVIEW, ReviewMove, ReviewState
from assent.primitives.errors import InvariantBroken
from assent.primitives.transitions import Transitions


class Light(StrEnum):
    RED = "red"
    GREEN = "green"
    DARK = "dark"


class Turn(StrEnum):
    ON = "on"
    OFF = "off"


LIGHT = Transitions(start=Light.RED, moves={(Light.RED, Turn.ON): Light.GREEN, (Light.GREEN, Turn.OFF): Light.DARK})


def test_table_knows_its_states_and_which_are_the_end():
    assert LIGHT.states == {Light.RED, Light.GREEN, Light.DARK}
    assert LIGHT.terminal == {Light.DARK}


def test_move_leads_on_when_the_table_has_it_and_breaks_when_not():
    assert LIGHT.after(Light.RED, Turn.ON) is Light.GREEN
    assert not LIGHT.allows(Light.RED, Turn.OFF)
    with pytest.raises(InvariantBroken) as broken:
        LIGHT.after(Light.RED, Turn.OFF)
    assert broken.value.code == "transition_forbidden"
    assert "`red`" in broken.value.message


def test_fold_gives_the_state_that_the_moves_lead_to():
    assert LIGHT.fold([]) is Light.RED
    assert LIGHT.fold([Turn.ON, Turn.OFF]) is Light.DARK
    with pytest.raises(InvariantBroken):
        LIGHT.fold([Turn.OFF])


def test_table_does_not_change_when_what_it_was_made_of_does():
    moves = {(Light.RED, Turn.ON): Light.GREEN}
    table = Transitions(start=Light.RED, moves=moves)
    moves[Light.GREEN, Turn.OFF] = Light.DARK
    assert not table.allows(Light.GREEN, Turn.OFF)


# The two life cycles of the ledger


def test_every_state_of_an_effect_can_be_reached_and_left_unless_it_is_the_end():
    assert EFFECT.states == set(EffectState)
    assert EFFECT.terminal == {
        EffectState.REFUSED, EffectState.EXPIRED, EffectState.REVOKED, EffectState.SUCCEEDED, EffectState.FAILED,
        EffectState.CANCELLED, EffectState.QUARANTINED,
    }  # fmt: skip
    assert REVIEW.states == set(ReviewState)
    assert _reached(EFFECT) == set(EffectState)
    assert _reached(REVIEW) == set(ReviewState)


def test_every_ending_of_a_lane_is_a_move_from_dispatched():
    assert all(EFFECT.allows(EffectState.DISPATCHED, move) for move in MOVE_OF_ENDING.values())


@given(st.lists(st.sampled_from(Move)))
def test_nothing_is_done_without_having_been_granted_whatever_the_moves(moves):
    seen = [EFFECT.start]
    for move in moves:
        if EFFECT.allows(seen[-1], move):
            seen.append(EFFECT.after(seen[-1], move))
    if EffectState.DISPATCHED in seen:
        assert seen[seen.index(EffectState.DISPATCHED) - 1] is EffectState.GRANTED
    done = {EffectState.SUCCEEDED, EffectState.FAILED, EffectState.CANCELLED, EffectState.UNKNOWN}
    assert not done & set(seen) or EffectState.DISPATCHED in seen
    assert all(state not in EFFECT.terminal for state in seen[:-1])


@given(st.lists(st.sampled_from(ReviewMove)))
def test_no_review_is_consumed_twice_or_without_an_approval_whatever_the_moves(moves):
    seen = [REVIEW.start]
    for move in moves:
        if REVIEW.allows(seen[-1], move):
            seen.append(REVIEW.after(seen[-1], move))
    assert seen.count(ReviewState.CONSUMED) <= 1
    assert ReviewState.CONSUMED not in seen or ReviewState.APPROVED in seen


def _reached(table):
    found, grew = {table.start}, True
    while grew:
        new = {after for (state, _), after in table.moves.items() if state in found} - found
        found |= new
        grew = bool(new)
    return found
