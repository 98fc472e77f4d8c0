"""Watching a registry: its changes one after another, as soon as they are known here.

Nothing is pushed. Who watches reads the changes after the last one that was told, a page at a time, so somebody slow
holds one page and hinders nobody; when what he has not read yet is forgotten, he is told. Between two pages he waits
for a bell, which rings when this process writes, or for a while: what another process writes rings no bell here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from assent.primitives.errors import Unavailable
from assent.primitives.ids import TenantId
from assent.registry.agents import Change

POLL_S = 1.0
PAGE_MAX = 256
WATCHERS_MAX = 1_024


class Changes(Protocol):
    """Reads a page of changes, as `registry.ports.Registry.changes` does."""

    async def __call__(self, tenant: TenantId, *, after: int, limit: int) -> list[Change]:
        """What changed after a revision."""
        ...


class Bell:
    """Wakes those who wait for changes of a tenant, in whichever thread their loop runs."""

    def __init__(self) -> None:
        self._ears: dict[TenantId, set[_Ear]] = {}

    def ring(self, tenant: TenantId) -> None:
        """Something of the tenant has changed."""
        for ear in tuple(self._ears.get(tenant, ())):
            ear.wake()

    @contextmanager
    def listening(self, tenant: TenantId) -> Iterator[_Ear]:
        """Hear it for the length of the block.

        Raises:
            Unavailable: `watchers_full`.
        """
        if sum(map(len, self._ears.values())) >= WATCHERS_MAX:
            raise Unavailable("watchers_full", f"{WATCHERS_MAX} watch already", hint="stop watching somewhere")
        ear = _Ear()
        self._ears.setdefault(tenant, set()).add(ear)
        try:
            yield ear
        finally:
            self._ears[tenant].discard(ear)
            if not self._ears[tenant]:
                del self._ears[tenant]


class _Ear:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rang = asyncio.Event()

    def wake(self) -> None:
        with suppress(RuntimeError):  # its loop is closed: nobody waits there
            self._loop.call_soon_threadsafe(self._rang.set)

    def forget(self) -> None:
        """What rang until now is what is read next."""
        self._rang.clear()

    async def wait(self, *, at_most_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._rang.wait()


async def watched(
    changes: Changes, bell: Bell, tenant: TenantId, *, after: int, poll_s: float
) -> AsyncGenerator[Change]:
    """Every change after a revision, for ever. Raises what `changes` raises, and Unavailable: `watchers_full`."""
    with bell.listening(tenant) as ear:
        while True:
            ear.forget()
            page = await changes(tenant, after=after, limit=PAGE_MAX)
            for change in page:
                yield change
                after = change.revision
            if not page:
                await ear.wait(at_most_s=poll_s)
