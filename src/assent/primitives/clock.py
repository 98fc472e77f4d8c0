"""The clock is a port: nothing in Assent reads the time but through one of these."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for durations."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970-01-01T00:00:00Z."""
        ...

    def monotonic_ns(self) -> int:
        """A clock that never goes back, in nanoseconds from an arbitrary start."""
        ...


class Entropy(Protocol):
    """Unpredictable bytes for ids, salts and keys."""

    def __call__(self, count: int, /) -> bytes:
        """Return `count` unpredictable bytes."""
        ...
