"""A steering that a test holds in its hand: words when they are said, room when it is given."""

from __future__ import annotations

import asyncio

from assent.execution.outcomes import StreamEvent
from assent.execution.steering import Word


class HeldSteering:
    """Says the words it was given, in order, and those said later; takes output while there is room (`ports.Steering`).

    `heard` are the pieces of output, when `hear` is given to the lane; `piece` is set with each of them.
    """

    def __init__(self, *words: Word, room: bool = True) -> None:
        self._words: asyncio.Queue[Word] = asyncio.Queue()
        for word in words:
            self._words.put_nowait(word)
        self._room = asyncio.Event()
        if room:
            self._room.set()
        self.heard: list[StreamEvent] = []
        self.piece = asyncio.Event()

    async def word(self) -> Word:
        """The next word."""
        return await self._words.get()

    def has_room(self) -> bool:
        """Whether there is room."""
        return self._room.is_set()

    async def room(self) -> None:
        """Wait for room."""
        await self._room.wait()

    def say(self, word: Word) -> None:
        """Say one more word."""
        self._words.put_nowait(word)

    def give_room(self) -> None:
        """Take output from now on."""
        self._room.set()

    def take_no_more(self) -> None:
        """Take no output from now on."""
        self._room.clear()

    def hear(self, event: StreamEvent) -> None:
        """Keep a piece of output (an `OnEvent`)."""
        self.heard.append(event)
        self.piece.set()

    @property
    def output(self) -> bytes:
        """Everything that was heard, whatever the stream."""
        return b"".join(event.data for event in self.heard)
