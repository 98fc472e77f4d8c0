"""Entropy that repeats: the same seed gives the same bytes."""

from __future__ import annotations

import random
import threading


class SeededEntropy:
    """Bytes from a seeded generator. For tests only: whoever knows the seed knows every byte."""

    def __init__(self, seed: int | str = 0) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, count: int, /) -> bytes:
        """Return the next `count` bytes."""
        with self._lock:
            return self._random.randbytes(count)
