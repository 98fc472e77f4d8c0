"""What goes on while a connection is open: hearing, saying and the heartbeat, side by side, until one of them ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from assent.execution.adapters.websocket.lines import Line
from assent.execution.adapters.websocket.talks import Talk, is_text
from assent.execution.adapters.wires.taking import Taker
from assent.execution.orders import Message
from assent.execution.steering import EndInput, Input
from assent.primitives.errors import Unavailable

NORMAL, GOING_AWAY, TOO_BIG = 1000, 1001, 1009


class Conversation:
    """One open connection of a talk."""

    def __init__(self, talk: Talk, line: Line, taker: Taker, *, close_ms: int) -> None:
        self._talk, self.line, self._taker = talk, line, taker
        self._close_s = close_ms / 1000
        self._fault: Unavailable | None = None
        self._paused = False
        self._silent = False

    async def held(self) -> None:
        """Hold the conversation to its end; the line then says who closed it.

        Raises:
            Unavailable: `too_much`, `message_limit`, `protocol_broken`, `idle_limit`, `pong_missing`, `cut_short`,
                `artefact_failed`.
        """
        talk = self._talk
        listen_s = talk.order.listen_ms / 1000 if talk.order.listen_ms else None
        async with asyncio.TaskGroup() as group:
            hear = group.create_task(self._noted(self._hear()))
            say = group.create_task(self._noted(self._say()))
            beat = group.create_task(self._noted(self._beat()))
            await asyncio.wait({hear, say, beat}, timeout=listen_s, return_when=asyncio.FIRST_COMPLETED)
            if self._fault is None and not (hear.done() and self.line.over):
                talk.ended_by = talk.ended_by or ("asker" if say.done() else "listen_ms")
                beat.cancel()
                await self._leave(hear)
            elif say.done() and not hear.done():  # what broke the sending may have been announced by a close
                await asyncio.wait({hear}, timeout=self._close_s)
            for task in (hear, say, beat):
                task.cancel()
        fault = self._fault
        if fault is None or (fault.code == "cut_short" and (self.line.theirs is not None or talk.ended_by)):
            return  # whatever broke then, it is known how it ended
        await self._give_up(fault)
        raise fault

    async def _noted(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`; the first fault of all of them is kept."""
        try:
            await work
        except Unavailable as error:
            self._fault = self._fault or error

    async def _hear(self) -> None:
        """Hand up what comes. Returns when the line is over, or when as much has come as was wanted."""
        talk, line = self._talk, self.line
        while not line.over:
            await self._room()
            async with idle(talk.order.idle_ms):
                messages = await line.messages()
            for message in messages:
                if self._silent:
                    continue
                talk.hears(message)
                await self._room()
                kind = "message" if message.kind == "text" else "binary"
                await self._taker.hand_up_whole(kind, message.data)
                if talk.heard.count >= talk.order.messages_max:
                    talk.ended_by = "messages_max"
                    self._silent = True
                    return
        if line.broken:
            if line.too_long:
                raise Unavailable("message_limit", f"a message is too long: {line.broken}")
            raise Unavailable("protocol_broken", f"the server broke the protocol: {line.broken}")

    async def _room(self) -> None:
        if not self._taker.has_room():
            self._paused = True
            await self._taker.room()

    async def _say(self) -> None:
        """Say what the order says, then what the asker says. Returns when the asker ends the input."""
        for message in self._talk.order.messages:
            await self._send(message)
        while True:
            word = await self._taker.word()
            if isinstance(word, EndInput):
                return
            if isinstance(word, Input) and self._talk.order.stays_open:
                await self._send(Message(data=word.data, kind="text" if is_text(word.data) else "binary"))
            else:
                self._talk.unheeded += 1

    async def _send(self, message: Message) -> None:
        self.line.check_open()
        self._talk.says(message)
        await self.line.send(message)
        self._talk.sent_whole += 1

    async def _beat(self) -> None:
        """Ping. Returns never, and fails when neither a pong nor anything else comes although the socket is read."""
        order = self._talk.order
        while True:
            await asyncio.sleep(order.ping_ms / 1000)
            self._paused = not self._taker.has_room()
            before = self.line.bytes_in
            try:
                async with asyncio.timeout(order.pong_ms / 1000):
                    await self.line.ping()
            except TimeoutError:
                if not self._paused and self.line.bytes_in == before:
                    raise Unavailable("pong_missing", f"no pong came within {order.pong_ms} ms") from None

    async def _leave(self, hear: asyncio.Task[None]) -> None:
        """Say goodbye, and listen on for what the server still has to say and for its answer, but not for long."""
        try:
            async with asyncio.timeout(self._close_s):
                await self.line.goodbye(NORMAL)
                if hear.done():
                    await self._hear()
                else:
                    await asyncio.wait({hear})
        except (TimeoutError, Unavailable):
            pass  # the judgement says that it was not answered

    async def _give_up(self, fault: Unavailable) -> None:
        """Tell the server why, if it still listens."""
        code = {"message_limit": TOO_BIG, "too_much": TOO_BIG}.get(fault.code, GOING_AWAY)
        with contextlib.suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(self._close_s):
                await self.line.give_up(code, str(fault))


@contextlib.asynccontextmanager
async def idle(idle_ms: int) -> AsyncIterator[None]:
    """Raises Unavailable (`idle_limit`) when what is within takes longer than `idle_ms`."""
    limit = asyncio.timeout(idle_ms / 1000)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Unavailable("idle_limit", f"nothing came for {idle_ms} ms") from error
