"""Handing output up as fast as it is taken, and no faster."""

from __future__ import annotations

import asyncio

from assent.execution.outcomes import StreamEvent
from assent.execution.ports import OnEvent, Steering
from assent.execution.steering import EndInput, Word

PIECE_BYTES_MAX = 65_536


class Taker:
    """The asker's side of one carry: waits for credit before each piece, so that whoever calls reads nothing more."""

    def __init__(self, on_event: OnEvent, steering: Steering | None) -> None:
        self._on_event = on_event
        self._steering = steering

    def has_room(self) -> bool:
        """Whether a piece may be handed up now."""
        return self._steering is None or self._steering.has_room()

    async def room(self) -> None:
        """Wait until a piece may be handed up."""
        if self._steering is not None and not self._steering.has_room():
            await self._steering.room()

    async def input_ended(self) -> None:
        """Wait until the asker ends the input. Other words mean nothing."""
        while not isinstance(await self.word(), EndInput):
            pass

    async def word(self) -> Word:
        """The asker's next word; waits for ever when nobody is there to say one."""
        if self._steering is not None:
            return await self._steering.word()
        never: asyncio.Future[Word] = asyncio.get_running_loop().create_future()
        return await never

    async def hand_up(self, stream: str, data: bytes) -> None:
        """Hand up one piece of at most 64 KiB."""
        await self.room()
        self._on_event(StreamEvent(stream=stream, data=data))

    async def hand_up_whole(self, stream: str, data: bytes) -> None:
        """Hand up something whose end matters: all pieces but its last are called `part`."""
        at = 0
        while len(data) - at > PIECE_BYTES_MAX:
            await self.hand_up("part", data[at : at + PIECE_BYTES_MAX])
            at += PIECE_BYTES_MAX
        await self.hand_up(stream, data[at:])
