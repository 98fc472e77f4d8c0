"""Life cycles are tables: (state, event) → state. Diagrams and checks are drawn from the same table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from assent.primitives.errors import InvariantBroken

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class Transitions(Generic[S, E]):
    """A finite life cycle. `moves` maps (state, event) to the next state; what is absent is forbidden."""

    def __init__(self, *, start: S, moves: Mapping[tuple[S, E], S]) -> None:
        self.start = start
        self.moves = dict(moves)
        self.states = frozenset({start, *(s for s, _ in self.moves), *self.moves.values()})
        self.terminal = frozenset(self.states - {s for s, _ in self.moves})

    def allows(self, state: S, event: E) -> bool:
        """Whether the table has a move from `state` by `event`."""
        return (state, event) in self.moves

    def after(self, state: S, event: E) -> S:
        """Return the state that follows.

        Raises:
            InvariantBroken: the table has no such move.
        """
        try:
            return self.moves[state, event]
        except KeyError as missing:
            raise InvariantBroken("transition_forbidden", f"no move from `{state}` by `{event}`") from missing

    def fold(self, events: Iterable[E]) -> S:
        """Return the state reached from the start by `events` in order."""
        state = self.start
        for event in events:
            state = self.after(state, event)
        return state
