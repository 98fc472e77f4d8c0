"""What the registry in SQLite reads does not grow with how many entries there are: counted in steps of its machine."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from assent.ledger.adapters import sqlite_agents
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_agents import SqliteRegistry
from assent.ledger.commands import ReleaseLease, TakeLease
from assent.primitives.leases import SYSTEM
from assent.registry.agents import BATCH_MAX, Query
from assent.testing.conformance.registries import ACME, MINE, OTHER, SCHEMA, TTL_MS, entry
from assent.testing.ledgers import LedgerFolder

FEW, MANY = 20, 3 * BATCH_MAX


def steps(store: SqliteLedger, look: Callable[[sqlite3.Connection], Any]) -> int:
    """How many steps a query takes, counted ten by ten."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    def counted(connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(step, 10)
        try:
            look(connection)
        finally:
            connection.set_progress_handler(None, 0)

    store.look_now(counted)
    return count * 10


def asked(query: Query, connection: sqlite3.Connection) -> list[Any]:
    return sqlite_agents._found(connection, ACME, query)


def spent(folder: Path, many: int) -> dict[str, int]:
    """The steps of every kind of question, where so many entries of the living stand beside two of a dead node."""
    folder.mkdir()
    with LedgerFolder(folder).opened() as store:
        registry = SqliteRegistry(store, schema=SCHEMA)

        async def fill() -> None:
            for fence in (MINE, OTHER):
                await store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=TTL_MS))
            for start in range(0, many, BATCH_MAX):
                entries = [entry(f"a{n:05}", "all", floor=n) for n in range(start, min(start + BATCH_MAX, many))]
                await registry.put(entries, fence=MINE)
            await registry.put([entry("x-dead"), entry("x-gone")], fence=OTHER)
            await registry.drop(ACME, ["x-gone"], fence=OTHER)
            await store.apply(ReleaseLease(tenant=SYSTEM, fence=OTHER))

        asyncio.run(fill())
        assert store.look_now(lambda c: sqlite_agents._left_behind(c, ACME, 10)) == ["x-dead"]
        queries = {
            "all": Query(limit=5), "capability": Query(capabilities=("all",), limit=5),
            "field": Query(fields={"floor": 7}, limit=5), "both": Query(capabilities=("all",), fields={"floor": 7}),
            "page": Query(capabilities=("all",), after="a00010", limit=5),
        }  # fmt: skip
        found = {name: steps(store, partial(asked, query)) for name, query in queries.items()}
        found["left behind"] = steps(store, lambda c: sqlite_agents._left_behind(c, ACME, 10))
        found["forgotten"] = steps(store, lambda c: sqlite_agents._forgotten(c, ACME, 1))
        return found


@pytest.mark.slow
def test_questions_take_no_more_steps_when_there_are_many_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_agents, "COUNTED_MAX", FEW)
    few, many = spent(tmp_path / "few", FEW), spent(tmp_path / "many", MANY)
    grown = {name: (few[name], many[name]) for name in few if many[name] > 2 * few[name] + 300}
    assert not grown
