"""Things in order, to which one more is added or taken away without moving all that follow.

A sorted list is quick to read and slow to write: one more in the middle moves half of it. Here it is cut into blocks,
so that at most one block is moved, and the last of each block says which one that is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T", str, int)
BLOCK_MAX = 256


class Ordered(Generic[T]):
    """Different things, in their order."""

    __slots__ = ("_blocks", "_lasts", "_size")

    def __init__(self) -> None:
        self._blocks: list[list[T]] = []
        self._lasts: list[T] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._blocks)

    def after(self, one: T) -> Iterator[T]:
        """What comes after `one`, whether it is there or not."""
        place = bisect_right(self._lasts, one)
        if place == len(self._lasts):
            return iter(())
        block = self._blocks[place]
        more = map(self._blocks.__getitem__, range(place + 1, len(self._blocks)))
        return chain(block[bisect_right(block, one) :], chain.from_iterable(more))

    def add(self, one: T) -> None:
        """Put one in that is not there."""
        self._size += 1
        place = bisect_left(self._lasts, one)
        if place == len(self._lasts):
            self._append(one)
            return
        insort(self._blocks[place], one)
        self._halve(place)

    def remove(self, one: T) -> None:
        """Take one out that is there."""
        self._size -= 1
        place = bisect_left(self._lasts, one)
        block = self._blocks[place]
        del block[bisect_left(block, one)]
        if not block:
            del self._blocks[place], self._lasts[place]
        else:
            self._lasts[place] = block[-1]

    def _append(self, one: T) -> None:
        if not self._blocks:
            self._blocks.append([])
            self._lasts.append(one)
        self._blocks[-1].append(one)
        self._lasts[-1] = one
        self._halve(len(self._blocks) - 1)

    def _halve(self, place: int) -> None:
        block = self._blocks[place]
        if len(block) > BLOCK_MAX:
            half = BLOCK_MAX // 2
            self._blocks[place : place + 1] = [block[:half], block[half:]]
            self._lasts[place : place + 1] = [block[half - 1], block[-1]]
