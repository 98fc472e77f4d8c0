"""Connections that are kept between orders: leased to one order at a time, closed when idle, bounded in number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from assent.execution.adapters.jsonrpc.links import Gone
from assent.execution.adapters.mcp.clients import Client
from assent.execution.outcomes import Ending

SESSIONS_MAX = 16
IDLE_MS = 300_000
GRACE_MS = 500


class Held:
    """One connection, and who has it. `key` is empty for one that ends with its order."""

    def __init__(self, key: str, client: Client) -> None:
        self.key, self.client = key, client
        self.lock = asyncio.Lock()
        self.closed = False
        self.orders = 0
        self.born_s = asyncio.get_running_loop().time()
        self.timer: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Whether the next order can have it."""
        return not self.closed and self.client.link.alive


class Sessions:
    """The connections of one lane. Orders of one session come one after the other.

    A connection that would not live long enough for the whole of the next order (`life_ms`) is not given to it.
    """

    def __init__(self, *, sessions_max: int, idle_ms: int, life_ms: int) -> None:
        self._max, self._idle_s, self._life_s = sessions_max, idle_ms / 1000, life_ms / 1000
        self._all: dict[str, Held] = {}  # the one that was used last stands last
        self._closing: set[asyncio.Future[None]] = set()

    async def take(self, key: str, make: Callable[[], Client], *, for_ms: int) -> Held:
        """The connection for `key`, for `for_ms` at most, made when none can be used. It has to be given back.

        Raises:
            Gone: `sessions_limit`, all connections there may be are at work.
        """
        if not key:
            return Held("", make())
        while True:
            held = self._all.get(key)
            if held is None:
                await self._make_room()
                if key in self._all:
                    continue
                held = self._all[key] = Held(key, make())
            await held.lock.acquire()
            if (held.usable and self._lives(held, for_ms / 1000)) or (held.orders == 0 and not held.closed):
                _stop(held)
                self._all[key] = self._all.pop(key)
                return held
            await self.give(held, keep=False)

    async def give(self, held: Held, *, keep: bool, grace_ms: int = GRACE_MS) -> None:
        """Give a connection back; unless it is kept, it is closed now, and nothing of it is left."""
        held.orders += 1
        if keep and held.key and held.usable:
            held.client.pause()
            held.timer = asyncio.get_running_loop().call_later(self._idle_s, self._expire, held)
        else:
            try:
                await self._close(held, grace_ms)
            finally:
                if held.lock.locked():
                    held.lock.release()
            return
        held.lock.release()

    async def close(self) -> None:
        """Close every connection, whoever has it. Idempotent."""
        for held in tuple(self._all.values()):
            self._begin_close(held)
        if self._closing:
            await asyncio.wait(set(self._closing))

    def _lives(self, held: Held, for_s: float) -> bool:
        return asyncio.get_running_loop().time() + for_s < held.born_s + self._life_s

    async def _make_room(self) -> None:
        while len(self._all) >= self._max:
            idle = next((held for held in self._all.values() if not held.lock.locked()), None)
            if idle is None:
                message = f"{self._max} MCP connections are at work already"
                raise Gone("sessions_limit", message, ending=Ending.FAILED, limit="sessions")
            await self._close(idle, GRACE_MS)

    def _expire(self, held: Held) -> None:
        if not held.lock.locked():
            self._begin_close(held)

    def _begin_close(self, held: Held) -> None:
        work = asyncio.ensure_future(self._close(held, GRACE_MS))  # noqa: TID251 (`close` awaits it)
        self._closing.add(work)
        work.add_done_callback(self._closing.discard)

    async def _close(self, held: Held, grace_ms: int) -> None:
        _stop(held)
        held.closed = True
        if self._all.get(held.key) is held:
            del self._all[held.key]
        await held.client.link.close(grace_ms=grace_ms)


def _stop(held: Held) -> None:
    if held.timer is not None:
        held.timer.cancel()
        held.timer = None
