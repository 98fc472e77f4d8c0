"""What the suites of a ledger's store have in common: a fresh store for every test, with one node on it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

from assent.ledger.ports import LedgerStore
from assent.testing.clocks import SetClock
from assent.testing.desks import Desk

Body: TypeAlias = Callable[[Desk], Awaitable[None]]


class OpensLedger(ABC):
    """Opens a fresh store for every test."""

    @abstractmethod
    def opened(self, clock: SetClock) -> AbstractContextManager[LedgerStore]:
        """A fresh, open store that lives for the length of the block."""

    def check(self, body: Body) -> None:
        """Run `body` against a fresh store with one node."""
        clock = SetClock()

        async def run(store: LedgerStore) -> None:
            await body(await Desk(store, clock).start())

        with self.opened(clock) as store:
            asyncio.run(run(store))
