"""What every registry does: a suite for adapters. Subclass it and say how one is opened.

class TestMine(RegistryConformance):
    @pytest.fixture
    def world(self) -> Iterator[RegistryWorld]: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from assent.primitives.errors import Conflict, Malformed, Unavailable
from assent.primitives.ids import NodeId, TenantId
from assent.primitives.leases import Fence
from assent.registry.agents import BATCH_MAX, FOUND_MAX, KEYS_ASKED_MAX, Entry, Health, Query, Schema
from assent.registry.fields import TEXTS_MAX, Field, Value
from assent.registry.ports import Registry

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
MINE, OTHER = Fence(node=NodeId("nod_mine"), number=1), Fence(node=NodeId("nod_other"), number=1)
SCHEMA = Schema(
    (
        Field(name="team", required=True, indexed=True),
        Field(name="floor", kind="integer", indexed=True),
        Field(name="on_call", kind="boolean", indexed=True),
        Field(name="load", kind="number", indexed=True),
        Field(name="tools", kind="texts", indexed=True),
        Field(name="note"),
        Field(name="notes", kind="texts"),
    )
)


TTL_MS = 60_000
PATIENCE_S = 20.0
KEPT = 8


class RegistryWorld(NamedTuple):
    """A registry under `SCHEMA` that keeps `KEPT` revisions, on a clock that stands still until `pass_ms` moves it.
    It looks for what other processes write so seldom that whoever waits for it waits longer than `PATIENCE_S`.

    `MINE` and `OTHER` hold leases of `TTL_MS` until `lapse` takes one away; `renew` renews one.
    """

    registry: Registry
    lapse: Callable[[Fence], None]
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    pass_ms: Callable[[int], None]
    renew: Callable[[Fence], None]


def entry(
    id_: str, *capabilities: str, tenant: TenantId = ACME, health: Health = Health.HEALTHY, **fields: Value
) -> Entry:
    """An entry of `MINE`."""
    return Entry(
        tenant=tenant, id=id_, owner=MINE, capabilities=capabilities, health=health, fields={"team": "a", **fields}
    )


class RegistryConformance:
    """Subclass and give a `world` fixture."""

    @pytest.fixture
    def world(self) -> RegistryWorld:
        """An empty registry."""
        raise NotImplementedError

    def test_entry_is_found_by_all_it_says_and_by_nothing_else(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        run(registry.put([entry("one", "read", "write", floor=3), entry("two", "read", on_call=True)], fence=MINE))

        def ids(**asked: Any) -> list[str]:  # noqa: ANN401
            return [one.id for one in run(registry.find(ACME, Query(**asked)))]

        assert ids() == ["one", "two"]
        assert ids(capabilities=("read",)) == ["one", "two"]
        assert ids(capabilities=("read", "write")) == ["one"]
        assert ids(health=Health.UNHEALTHY) == []
        assert ids(fields={"floor": 3}) == ["one"]
        assert ids(fields={"on_call": True}) == ["two"]
        assert ids(fields={"floor": True}) == ids(fields={"team": "3"}) == []
        assert ids(capabilities=("read",), health=Health.HEALTHY, fields={"team": "a"}) == ["one", "two"]
        assert run(registry.get(ACME, "one")).capabilities == ("read", "write")
        assert run(registry.get(ACME, "three")) is None

    def test_numbers_are_found_by_what_they_are_and_texts_by_each(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        entries = [
            entry("one", load=2, tools=("read", "write"), notes=("x",)),
            entry("two", load=0.5, tools=("read",)),
            entry("three", load=-0.0, tools=()),
        ]
        run(registry.put(entries, fence=MINE))

        def ids(**fields: Value) -> list[str]:
            return [one.id for one in run(registry.find(ACME, Query(fields=fields)))]

        assert (ids(load=2), ids(load=2.0), ids(load=0.5), ids(load=0)) == (["one"], ["one"], ["two"], ["three"])
        assert ids(load=True) == ids(load="2") == ids(load=float("nan")) == []
        assert (ids(tools="read"), ids(tools=("read", "write"))) == (["one", "two"], ["one"])
        assert ids(tools=("read",), load=0.5) == ["two"]
        assert ids(tools="rea") == ids(tools=("read", "bash")) == []
        assert run(registry.get(ACME, "one")).fields == {
            "team": "a", "load": 2.0, "tools": ("read", "write"), "notes": ("x",)
        }  # fmt: skip
        run(registry.put([entry("one", load=1.0, tools=("write",))], fence=MINE))
        assert (ids(tools="read"), ids(tools="write"), ids(load=2)) == (["two"], ["one"], [])

    def test_pages_follow_each_other_without_a_gap(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        run(registry.put([entry(f"a{n:02}", "read") for n in range(25)], fence=MINE))
        for asked in (Query(limit=10), Query(limit=10, capabilities=("read",))):
            seen: list[str] = []
            while page := run(registry.find(ACME, replace(asked, after=seen[-1] if seen else ""))):
                seen += [one.id for one in page]
            assert seen == [f"a{n:02}" for n in range(25)]

    def test_changed_entry_is_found_by_what_it_says_now(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        run(registry.put([entry("one", "read", floor=1)], fence=MINE))
        run(registry.put([entry("one", "write", floor=2, health=Health.DEGRADED)], fence=MINE))
        assert run(registry.find(ACME, Query(capabilities=("read",)))) == []
        assert run(registry.find(ACME, Query(fields={"floor": 1}))) == []
        (found,) = run(registry.find(ACME, Query(capabilities=("write",), health=Health.DEGRADED)))
        assert (found.id, found.revision) == ("one", 2)

    def test_entry_is_gone_when_it_is_dropped(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        run(registry.put([entry("one", "read"), entry("two", "read")], fence=MINE))
        run(registry.drop(ACME, ["one", "nobody"], fence=MINE))
        assert [one.id for one in run(registry.find(ACME, Query(capabilities=("read",))))] == ["two"]
        assert run(registry.get(ACME, "one")) is None
        run(registry.put([entry("one", "read")], fence=MINE))
        assert run(registry.get(ACME, "one")) is not None

    def test_entries_of_a_dead_node_are_not_there_and_can_be_taken_over(self, world: RegistryWorld) -> None:
        registry, lapse, run, *_ = world
        run(registry.put([entry("one", "read")], fence=MINE))
        with pytest.raises(Conflict, match="another node"):
            run(registry.put([entry("one", "read")], fence=OTHER))
        with pytest.raises(Conflict):
            run(registry.drop(ACME, ["one"], fence=OTHER))
        lapse(MINE)
        assert run(registry.find(ACME, Query())) == run(registry.find(ACME, Query(capabilities=("read",)))) == []
        assert run(registry.get(ACME, "one")) is None
        with pytest.raises(Unavailable):
            run(registry.put([entry("two")], fence=MINE))
        run(registry.put([entry("one", "read")], fence=OTHER))
        assert run(registry.get(ACME, "one")).owner == OTHER

    def test_foreign_tenant_sees_nothing_and_changes_nothing(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        run(registry.put([entry("one", "read")], fence=MINE))
        run(registry.put([entry("one", "write", tenant=GLOBEX)], fence=OTHER))
        assert run(registry.get(ACME, "one")).capabilities == ("read",)
        assert run(registry.find(GLOBEX, Query(capabilities=("read",)))) == []
        run(registry.drop(GLOBEX, ["one"], fence=OTHER))
        assert run(registry.get(ACME, "one")) is not None
        assert [one.entry for one in run(registry.changes(GLOBEX, after=0, limit=10))] == [None]

    def test_changes_are_told_in_order_the_newest_of_each_entry_alone(self, world: RegistryWorld) -> None:
        registry, lapse, run, *_ = world
        run(registry.put([entry("one"), entry("two")], fence=MINE))
        run(registry.put([entry("one", "read")], fence=MINE))
        last = run(registry.drop(ACME, ["two", "two"], fence=MINE))
        told = run(registry.changes(ACME, after=0, limit=10))
        assert [(one.revision, one.id, one.entry is not None) for one in told] == [(3, "one", True), (4, "two", False)]
        assert last == 4
        assert [one.id for one in run(registry.changes(ACME, after=3, limit=10))] == ["two"]
        assert [one.id for one in run(registry.changes(ACME, after=0, limit=1))] == ["one"]
        lapse(MINE)
        assert [one.entry for one in run(registry.changes(ACME, after=0, limit=10))] == [None, None]

    def test_entry_is_there_to_the_last_moment_of_its_lease_and_no_longer(self, world: RegistryWorld) -> None:
        registry, _, run, pass_ms, renew = world
        run(registry.put([entry("one", "read")], fence=MINE))
        pass_ms(TTL_MS - 1)
        renew(OTHER)
        assert run(registry.get(ACME, "one")) is not None
        renew(MINE)
        pass_ms(TTL_MS - 1)
        renew(OTHER)
        assert [one.id for one in run(registry.find(ACME, Query(capabilities=("read",))))] == ["one"]
        assert run(registry.sweep(ACME, limit=10, fence=OTHER)) == 0
        pass_ms(1)
        assert run(registry.get(ACME, "one")) is None
        assert run(registry.find(ACME, Query(capabilities=("read",)))) == run(registry.find(ACME, Query())) == []
        assert run(registry.sweep(ACME, limit=10, fence=OTHER)) == 1

    def test_sweep_takes_out_what_the_dead_left_and_tells_of_it(self, world: RegistryWorld) -> None:
        registry, lapse, run, *_ = world
        run(registry.put([entry("one", "read"), entry("two"), entry("three")], fence=MINE))
        run(registry.put([entry("one", tenant=GLOBEX)], fence=MINE))
        run(registry.put([entry("four", "read")], fence=OTHER))
        assert run(registry.sweep(ACME, limit=10, fence=OTHER)) == 0
        lapse(MINE)
        assert run(registry.revision(ACME)) == 4
        assert [run(registry.sweep(ACME, limit=2, fence=OTHER)) for _ in range(3)] == [2, 1, 0]
        told = run(registry.changes(ACME, after=4, limit=10))
        assert [(one.revision, one.entry) for one in told] == [(5, None), (6, None), (7, None)]
        assert {one.id for one in told} == {"one", "two", "three"}
        assert [one.id for one in run(registry.find(ACME, Query()))] == ["four"]
        assert run(registry.revision(ACME)) == 7
        assert run(registry.revision(GLOBEX)) == 1
        with pytest.raises(Unavailable, match="lease"):
            run(registry.sweep(ACME, limit=10, fence=MINE))
        run(registry.put([entry("one")], fence=OTHER))
        assert run(registry.revision(ACME)) == 8

    def test_what_is_gone_is_told_within_the_horizon_and_said_to_be_forgotten_behind_it(
        self, world: RegistryWorld
    ) -> None:
        registry, _, run, *_ = world
        run(registry.put([entry("stays"), entry("one"), entry("two")], fence=MINE))
        run(registry.drop(ACME, ["one", "two"], fence=MINE))
        for _ in range(KEPT - 2):
            run(registry.put([entry("other")], fence=MINE))
        told = run(registry.changes(ACME, after=0, limit=10))
        assert [(one.id, one.entry is None) for one in told[:3]] == [("stays", False), ("one", True), ("two", True)]
        run(registry.put([entry("other")], fence=MINE))
        for after in (0, 3):
            with pytest.raises(Conflict, match="revision") as lagged:
                run(registry.changes(ACME, after=after, limit=10))
            assert lagged.value.code == "watch_lagged"
        assert [one.id for one in run(registry.changes(ACME, after=4, limit=10))] == ["two", "other"]
        assert run(registry.changes(GLOBEX, after=0, limit=10)) == []
        last = run(registry.revision(ACME))
        assert last == 5 + KEPT - 1
        assert [one.id for one in run(registry.find(ACME, Query()))] == ["other", "stays"]
        assert run(registry.changes(ACME, after=last, limit=10)) == []

    def test_watcher_is_told_of_every_change_as_it_is_made(self, world: RegistryWorld) -> None:
        registry, lapse, run, *_ = world

        async def scene() -> list[tuple[int, str, bool]]:
            told: list[tuple[int, str, bool]] = []
            async with asyncio.timeout(PATIENCE_S), aclosing(registry.watch(ACME, after=1)) as watching:

                async def hear(count: int) -> None:
                    for _ in range(count):
                        one = await anext(watching)
                        told.append((one.revision, one.id, one.entry is not None))

                await registry.put([entry("before"), entry("two")], fence=MINE)
                await hear(1)
                async with asyncio.TaskGroup() as tasks:  # who waits is woken
                    tasks.create_task(hear(1))
                    tasks.create_task(registry.put([entry("three")], fence=OTHER))
                await registry.put([entry("hidden", tenant=GLOBEX)], fence=MINE)
                await registry.drop(ACME, ["three"], fence=OTHER)
                await hear(1)
            return told

        assert run(scene()) == [(2, "two", True), (3, "three", True), (4, "three", False)]
        lapse(MINE)

        async def deaths() -> set[str]:
            async with asyncio.timeout(PATIENCE_S), aclosing(registry.watch(ACME, after=4)) as watching:
                await registry.sweep(ACME, limit=10, fence=OTHER)
                found = [await anext(watching), await anext(watching)]
            assert [one.entry for one in found] == [None, None]
            return {one.id for one in found}

        assert run(deaths()) == {"before", "two"}

    def test_watcher_who_is_too_slow_is_told_that_he_missed_something(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world

        async def scene() -> None:
            await registry.put([entry("one")], fence=MINE)
            async with asyncio.timeout(PATIENCE_S), aclosing(registry.watch(ACME, after=0)) as watching:
                assert (await anext(watching)).id == "one"
                await registry.drop(ACME, ["one"], fence=MINE)
                for _ in range(KEPT):
                    await registry.put([entry("two")], fence=MINE)
                with pytest.raises(Conflict) as lagged:
                    await anext(watching)
            assert lagged.value.code == "watch_lagged"
            async with asyncio.timeout(PATIENCE_S), aclosing(registry.watch(ACME, after=99)) as watching:
                with pytest.raises(Conflict, match="99"):  # a revision of a registry that was another
                    await anext(watching)

        run(scene())

    def test_batch_is_written_whole_or_not_at_all(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        wrong = [
            [entry("one"), entry("two", floor="three")],
            [entry("one"), entry("UPPER")],
            [entry("one"), entry("two", unheard="of")],
            [entry("one"), entry("one")],
            [entry("one"), entry("two", tenant=GLOBEX)],
            [Entry(tenant=ACME, id="one", owner=MINE)],
            [entry("one"), entry("two", "read", "read")],
            [entry("one"), entry("two", floor=2**70)],
            [entry("one"), entry("two", note="\ud800")],
            [entry("one"), entry("two", team="a\0b")],
            [entry("one"), entry("two", load=float("inf"))],
            [entry("one"), entry("two", load=2**53 + 1)],
            [entry("one"), entry("two", load=True)],
            [entry("one"), entry("two", tools="read")],
            [entry("one"), entry("two", tools=("read", "read"))],
            [entry("one"), entry("two", tools=("a\0b",))],
            [entry("one"), entry("two", tools=tuple(f"t{n}" for n in range(TEXTS_MAX + 1)))],
            [],
        ]
        for entries in wrong:
            with pytest.raises(Malformed, match="entr"):
                run(registry.put(entries, fence=MINE))
        run(registry.put([entry("held")], fence=OTHER))
        with pytest.raises(Conflict):
            run(registry.put([entry("one"), entry("held")], fence=MINE))
        assert [one.id for one in run(registry.find(ACME, Query()))] == ["held"]

    def test_what_has_no_index_cannot_be_asked_for(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        for query in (
            Query(fields={"note": "x"}), Query(fields={"unheard": 1}), Query(limit=0), Query(limit=10**6),
            Query(capabilities=tuple(f"c{n}" for n in range(3_000))), Query(after="\ud800"),
            Query(fields={"tools": ()}), Query(fields={"team": ("a",)}), Query(fields={"floor": 10**5_000}),
            Query(fields={"notes": "x"}),
            Query(fields={"tools": tuple(f"t{n}" for n in range(KEYS_ASKED_MAX + 1))}),
        ):  # fmt: skip
            with pytest.raises(Malformed):
                run(registry.find(ACME, query))

    def test_no_more_is_done_at_once_than_the_limits_say(self, world: RegistryWorld) -> None:
        registry, _, run, *_ = world
        run(registry.put([entry("one")], fence=MINE))
        for limit in (0, -1, FOUND_MAX + 1):
            with pytest.raises(Malformed):
                run(registry.changes(ACME, after=0, limit=limit))
        for limit in (0, -1, BATCH_MAX + 1):
            with pytest.raises(Malformed):
                run(registry.sweep(ACME, limit=limit, fence=MINE))
        for ids in ([], [f"a{n}" for n in range(BATCH_MAX + 1)]):
            with pytest.raises(Malformed):
                run(registry.drop(ACME, ids, fence=MINE))
