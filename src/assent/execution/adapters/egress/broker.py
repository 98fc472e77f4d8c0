"""The broker of one run: accepts, judges, dials, moves bytes, writes down, ends. See the package."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from functools import partial
from typing import Any

from assent.execution.adapters.dialing import Dialer, Goal, Pins
from assent.execution.adapters.egress.clients import Client
from assent.execution.adapters.egress.records import Contacts, EgressLimits
from assent.execution.adapters.egress.visits import House, Visit
from assent.execution.hosts import AllowList
from assent.primitives.clock import Clock

_DRAIN_S = 0.5
_SHORTAGE_WAIT_S = 0.05
_TURNED_AWAY_MAX = 64  # of those too many at one time, so many are told why; the others meet a closed door
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Broker:
    """Serves one listening socket for one run, whose `allowed` hosts are all it dials.

    It owns `listener` and closes it. `state` is `serving`, then `ended` (with the run), `cancelled`, or `broken`: then
    the program has met errors from there on, and the record says what was known.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        allowed: AllowList,
        dialer: Dialer,
        clock: Clock,
        limits: EgressLimits | None = None,
    ) -> None:
        limits = EgressLimits() if limits is None else limits
        self._listener = listener
        self._limits = limits
        self._contacts = Contacts(limits)
        goal = partial(Goal, allowed=allowed, pins=Pins())
        self._house = House(goal=goal, dialer=dialer, contacts=self._contacts, limits=limits, clock=clock)
        self._open: dict[asyncio.Task[None], Client] = {}
        self._turned_away = 0
        self._ending = False
        self.state = "not started"

    async def serve(self) -> None:
        """Serve until cancelled, or until `finish`. A failure of its own ends the service, never the run."""
        self.state = "serving"
        try:
            async with asyncio.TaskGroup() as group:
                await self._accept(group)
                await self._drain()
            self.state = "ended"
        except asyncio.CancelledError:
            self.state = "cancelled"
            raise
        except Exception as error:  # noqa: BLE001 (the top of a worker loop: the record says what broke)
            self.state = f"broken: {_cause(error)}"[:200]
        finally:
            self._listener.close()
            for client in self._open.values():
                client.close()

    def facts(self) -> dict[str, Any]:
        """The record of this run, for its evidence."""
        return {"broker": self.state, **self._contacts.facts()}

    def finish(self) -> None:
        """The program is gone: hand on what it had sent, for a moment, and end."""
        self._ending = True
        self._house.end()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept, which then fails

    async def _accept(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while not self._ending:
            try:
                bare, _address = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno not in _SHORTAGES:
                    return
                await asyncio.sleep(_SHORTAGE_WAIT_S)  # until somebody's end gives a descriptor back
                continue
            self._take(group, bare)

    def _take(self, group: asyncio.TaskGroup, bare: socket.socket) -> None:
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(bare, self._limits)
        if len(self._open) - self._turned_away < self._limits.connections_max:
            work = Visit(self._house, client).stay()
        elif self._turned_away < _TURNED_AWAY_MAX:
            self._turned_away += 1
            work = self._turn_away(client)
        else:
            self._house.note_refusal("connections_limit", "more connections at one time than there may be")
            bare.close()
            return
        task = group.create_task(work)
        self._open[task] = client
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task).close()

    async def _turn_away(self, client: Client) -> None:
        try:
            message = f"more than {self._limits.connections_max} connections at one time"
            self._house.note_refusal("connections_limit", message)
            await client.refuse("connections_limit", message)
        finally:
            self._turned_away -= 1

    async def _drain(self) -> None:
        if self._open:
            await asyncio.wait(self._open, timeout=_DRAIN_S)
        for task in self._open:
            task.cancel()


def _cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
