"""Watching a registry: from another process, from another thread, and not by too many."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from assent.ledger.adapters.sqlite_agents import SqliteRegistry
from assent.ledger.commands import TakeLease
from assent.primitives.errors import Unavailable
from assent.primitives.leases import SYSTEM
from assent.registry import watching
from assent.registry.adapters.memory import MemoryRegistry
from assent.registry.watching import PAGE_MAX
from assent.testing.conformance.registries import ACME, MINE, PATIENCE_S, SCHEMA, TTL_MS, entry
from assent.testing.ledgers import LedgerFolder


def test_watcher_is_told_within_the_interval_when_another_process_writes(tmp_path: Path) -> None:
    folder = LedgerFolder(tmp_path)

    async def scene() -> None:
        with folder.opened() as here, folder.opened() as there:
            await here.apply(TakeLease(tenant=SYSTEM, fence=MINE, ttl_ms=TTL_MS))
            mine = SqliteRegistry(here, schema=SCHEMA, poll_s=0.01)
            other = SqliteRegistry(there, schema=SCHEMA)
            async with asyncio.timeout(PATIENCE_S), aclosing(mine.watch(ACME, after=0)) as told:
                async with asyncio.TaskGroup() as tasks:
                    first = tasks.create_task(anext(told))
                    await other.put([entry("one")], fence=MINE)
                assert first.result().id == "one"

    asyncio.run(scene())


def test_watcher_is_woken_when_a_loop_in_another_thread_writes() -> None:
    registry = MemoryRegistry(schema=SCHEMA, holds=lambda _: True)

    async def scene() -> str:
        async with asyncio.timeout(PATIENCE_S), aclosing(registry.watch(ACME, after=0)) as told:
            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(anext(told))
                await asyncio.to_thread(lambda: asyncio.run(registry.put([entry("one")], fence=MINE)))
            return first.result().id

    assert asyncio.run(scene()) == "one"


def test_watcher_is_told_all_pages_when_more_has_changed_than_one_holds() -> None:
    registry = MemoryRegistry(schema=SCHEMA, holds=lambda _: True)

    async def scene() -> list[str]:
        names = [f"a{n:04}" for n in range(2 * PAGE_MAX + 1)]
        await registry.put([entry(one) for one in names], fence=MINE)
        async with asyncio.timeout(PATIENCE_S), aclosing(registry.watch(ACME, after=0)) as told:
            assert [(await anext(told)).id for _ in names] == names
        return names

    assert len(asyncio.run(scene())) == 2 * PAGE_MAX + 1


def test_no_more_may_watch_than_the_limit_and_who_stops_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCHERS_MAX", 1)
    registry = MemoryRegistry(schema=SCHEMA, holds=lambda _: True)

    async def scene() -> None:
        await registry.put([entry("one")], fence=MINE)
        async with aclosing(registry.watch(ACME, after=0)) as first:
            await anext(first)
            async with aclosing(registry.watch(ACME, after=0)) as second:
                with pytest.raises(Unavailable, match="watch already"):
                    await anext(second)
        async with aclosing(registry.watch(ACME, after=0)) as third:
            assert (await anext(third)).id == "one"

    asyncio.run(scene())
