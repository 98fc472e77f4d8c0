"""Quick reads are made where they are asked for, long ones elsewhere, and no event loop waits for a reader."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from assent.primitives.errors import InvariantBroken, Unavailable
from assent.storage.adapters.sqlite_readers import READERS_MAX
from assent.testing.ledgers import LedgerFolder

LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT count(*) FROM n"


class Asked:
    """A query that says in which threads it was tried."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.threads: list[int] = []

    def __call__(self, connection: sqlite3.Connection) -> int:
        self.threads.append(threading.get_ident())
        return int(connection.execute(self.sql).fetchone()[0])


def test_quick_query_stays_in_its_thread_and_a_long_one_is_given_up_and_made_elsewhere(tmp_path: Path) -> None:
    here = threading.get_ident()

    async def scene() -> None:
        with LedgerFolder(tmp_path).opened() as store:
            quick, long = Asked("SELECT 7"), Asked(LONG)
            for _ in range(3_000):  # the steps of earlier runs do not count against a later one
                assert await store.look_quick(quick) == 7
            assert set(quick.threads) == {here}
            assert await store.look_quick(long) == 20_000
            assert long.threads[0] == here
            assert len(long.threads) == 2
            assert long.threads[1] != here
            assert await store.look(long) == 20_000, "what limited the reader is gone"
            with pytest.raises(InvariantBroken):
                await store.look_quick(Asked("SELECT nothing"))
            assert await store.look_quick(quick) == 7
        with pytest.raises(Unavailable):
            await store.look_quick(quick)

    asyncio.run(scene())


def test_event_loop_goes_on_while_a_quick_query_waits_for_a_reader(tmp_path: Path) -> None:
    async def scene() -> None:
        with LedgerFolder(tmp_path).opened() as store:
            readers = store._database._readers
            taken = [readers._at_once() for _ in range(READERS_MAX)]
            assert readers._at_once() is None
            quick = Asked("SELECT 7")
            waiting = asyncio.ensure_future(store.look_quick(quick))
            await asyncio.wait([waiting], timeout=0.05)
            assert not quick.threads
            for reader in taken:
                readers._free.put(reader)
            assert await waiting == 7
            assert quick.threads != [threading.get_ident()]

    asyncio.run(scene())
