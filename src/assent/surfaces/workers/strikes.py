"""Which run is to blame when a worker stands still. A rule without I/O.

A worker that stands still says nothing about why: all that is known is which runs it was driving. The first time each
of them is a suspect, and from then on suspects are driven one at a time. So when it happens again, the suspect that was
being driven did it.
"""

from __future__ import annotations

from collections.abc import Iterable

STUCK = 2


class Strikes:
    """Counts how often a worker stood still under a run."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}
        self._driving: frozenset[str] = frozenset()

    @property
    def suspects(self) -> tuple[str, ...]:
        """The runs to be driven one at a time."""
        return tuple(sorted(run for run, count in self._count.items() if count < STUCK))

    @property
    def stuck(self) -> tuple[str, ...]:
        """The runs that must not be driven again before a person has looked at them."""
        return tuple(sorted(run for run, count in self._count.items() if count >= STUCK))

    def beat(self, driving: Iterable[str]) -> None:
        """The worker lives: whatever it drove before and drives no more did no harm."""
        now = frozenset(driving)
        for run in self._driving - now:
            self._count.pop(run, None)
        self._driving = now

    def fell(self) -> None:
        """The worker stood still, or died."""
        suspects = {run for run in self._driving if run in self._count}
        for run in suspects or self._driving:
            self._count[run] = self._count.get(run, 0) + 1
        self._driving = frozenset()
