"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading

START_MS = 1_800_000_000_000


class SetClock:
    """Wall time and monotonic time, each moved by hand. Safe to read from any thread."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._lock = threading.Lock()
        self._now_ms = now_ms
        self._monotonic_ns = 0

    def now_ms(self) -> int:
        """Wall time as it was last set."""
        with self._lock:
            return self._now_ms

    def monotonic_ns(self) -> int:
        """Time that passed through `pass_ms`, and nothing else."""
        with self._lock:
            return self._monotonic_ns

    def pass_ms(self, duration_ms: int) -> None:
        """Let time pass, on both clocks.

        Raises:
            ValueError: time does not pass backwards; a wall clock that is set back is a `jump_ms`.
        """
        if duration_ms < 0:
            raise ValueError("time does not pass backwards")
        with self._lock:
            self._now_ms += duration_ms
            self._monotonic_ns += duration_ms * 1_000_000

    def jump_ms(self, offset_ms: int) -> None:
        """Set the wall clock forward or back, as an operator or a time server does. The monotonic clock goes on."""
        with self._lock:
            self._now_ms += offset_ms
