"""The host: drives every run that can go on, many side by side, for as long as it is asked to.

    look ──► runs that nobody works on · runs whose wait is over ──► drive ──► it waits, ends, or fails to be driven
      ▲                                                                            │
      └────────────────────────────────────────────────────────────────────────────┘

A run is on record whoever drives it, so a host holds nothing that could be lost. One run cannot stall the others: each
is driven by a task of its own, and one that cannot be driven again and again is paused for a person to look at. What
cannot be helped from in here is a step that never gives the event loop back; whoever started this process watches its
beat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from assent.ledger.commands import ExpireReviews
from assent.ledger.journals import Journal
from assent.ledger.ports import LedgerStore, Record
from assent.operations.runs.events import OnRunEvent
from assent.operations.runs.requests import line_of
from assent.operations.runs.runs import Runs
from assent.operations.runs.states import RunState
from assent.operations.runs.waits import Waits
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError, Conflict, Unavailable
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence

HOST = "assent"
AT_ONCE_MAX = 64
LOOK_S = 1.0
BEAT_S = 0.5
PAGE = 200
STRIKES_MAX = 3
HOLD_OFF_MS = 10_000
NEWER_HOLD_OFF_MS = 3_600_000
SWEEP_MS = 10_000
_ELSEWHERE = frozenset({"journal_held", "journal_moved", "run_over", "run_moved"})

OnBeat = Callable[[Sequence[str]], None]
OnFault = Callable[[str, str], None]


def _unheard(*_: object) -> None:
    pass


class Host:
    """Drives the runs of this node's tenants. Every dependency is given."""

    def __init__(
        self, *, runs: Runs, store: LedgerStore, tenants: Sequence[TenantId], fence: Fence, clock: Clock
    ) -> None:
        self._runs = runs
        self._store = store
        self._waits = Waits(store=store, clock=clock)
        self._fence = fence
        self._clock = clock
        self._pages: dict[TenantId, int | None] = dict.fromkeys(tenants)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._driving: set[str] = set()
        self._strikes: dict[str, int] = {}
        self._not_before_ms: dict[str, int] = {}
        self._swept_ms = 0

    async def serve(
        self, tell: OnRunEvent, *, beat: OnBeat = _unheard, fault: OnFault = _unheard, suspects: Collection[str] = ()
    ) -> None:
        """Drive what can go on until this is cancelled; what is under way then is settled first.

        `beat` is called every `BEAT_S` with the runs that are being driven; `fault` hears which run could not be, and
        why. Runs among `suspects` are driven one at a time, so that it shows which of them is at fault.

        Raises:
            Unavailable: `lease_lost`: this node is taken for dead, and must begin anew.
        """
        alone, lost = asyncio.Lock(), False
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(self._beat(beat))
            try:
                while not lost:
                    with suppress(Unavailable):  # a locked or full database may be well again at the next look
                        lost = not await self._is_alive()
                        await self._sweep()
                        for run in await self._look():
                            turn = alone if run.id in suspects else asyncio.Lock()
                            driving = self._in_turn(run, turn, tell, beat=beat, fault=fault)
                            self._tasks[run.id] = tasks.create_task(driving)
                    await asyncio.sleep(0 if lost else LOOK_S)
            finally:
                for task in (beating, *self._tasks.values()):
                    task.cancel()
        self._tasks.clear()
        raise Unavailable("lease_lost", "this node's lease lapsed or was taken", hint="start again")

    async def give_up(self, tenant: TenantId, run: str, why: str, fault: OnFault = _unheard) -> None:
        """Pause a run that does more harm than good when it is driven, for a person to look at."""
        with suppress(AssentError):  # it is over, or somebody else has it
            await self._runs.pause(tenant, run, by=HOST)
            fault(run, f"paused: {why}")

    async def _beat(self, beat: OnBeat) -> None:
        while True:
            beat(sorted(self._driving))
            await asyncio.sleep(BEAT_S)

    async def _is_alive(self) -> bool:
        return (self._fence.node, self._fence.number) in await self._nodes()

    async def _nodes(self) -> set[tuple[str, int]]:
        return {(lease.holder, lease.fence) for lease, lapsed in await self._store.leases() if not lapsed}

    async def _sweep(self) -> None:
        """End the reviews that nobody answered in time and escalate those that have waited, now and then: a run waits
        for one, and nobody may ever open the inbox."""
        now_ms = self._clock.now_ms()
        if now_ms - self._swept_ms >= SWEEP_MS:
            self._swept_ms = now_ms
            for tenant in self._pages:
                await self._store.apply(ExpireReviews(tenant=tenant))

    async def _look(self) -> list[Journal]:
        """The runs to be driven now, no more than there is room for. Of many runs, every look sees another page."""
        nodes = await self._nodes() - {(self._fence.node, self._fence.number)}
        found: list[Journal] = []
        for tenant, before in self._pages.items():
            page = await self._store.journals(
                tenant, "run", states=(RunState.RUNNING, RunState.WAITING), before=before, limit=PAGE
            )
            self._pages[tenant] = page[0].first_seq if len(page) == PAGE else None
            last = await self._store.records_at(tenant, [run.last_seq for run in page])
            free = [run for run in page if self._may_be_driven(run)]
            found += [run for run in free if await self._goes_on(run, last.get(run.last_seq), nodes)]
        return found[: AT_ONCE_MAX - len(self._tasks)]

    async def _goes_on(self, run: Journal, last: Record | None, nodes: Collection[tuple[str, int]]) -> bool:
        """Whether there is something to do: nobody of the living `nodes` works on it, or its wait is over."""
        if run.state == RunState.RUNNING:
            return (run.node, run.fence) not in nodes
        return await self._waits.over(run, last)

    def _may_be_driven(self, run: Journal) -> bool:
        """Whether it is this host's to drive: what was handed on is driven by whoever drives the run it came from."""
        return (
            run.id not in self._tasks
            and len(line_of(run.id)) == 1
            and run.name in self._runs.agents
            and self._clock.now_ms() >= self._not_before_ms.get(run.id, 0)
        )

    async def _in_turn(
        self, run: Journal, turn: asyncio.Lock, tell: OnRunEvent, *, beat: OnBeat, fault: OnFault
    ) -> None:
        try:
            async with turn:
                self._driving.add(run.id)
                beat(sorted(self._driving))  # before anything is done with it, which may be the last that is done
                await self._drive(run, tell, fault)
        finally:
            self._driving.discard(run.id)
            del self._tasks[run.id]

    async def _drive(self, run: Journal, tell: OnRunEvent, fault: OnFault) -> None:
        try:
            await self._runs.drive(run.tenant, run.id, tell=tell, by=HOST)
            self._strikes.pop(run.id, None)
            self._not_before_ms.pop(run.id, None)
        except Conflict as conflict:
            if conflict.code not in _ELSEWHERE:
                await self._strike(run, str(conflict), fault)
        except Exception as error:  # noqa: BLE001 (a fault in one run is that run's, whatever it is)
            known = isinstance(error, AssentError)
            if known and getattr(error, "code", "") == "run_newer":
                self._not_before_ms[run.id] = self._clock.now_ms() + NEWER_HOLD_OFF_MS
                fault(run.id, str(error))
                return
            await self._strike(run, str(error) if known else type(error).__name__, fault)

    async def _strike(self, run: Journal, why: str, fault: OnFault) -> None:
        """Leave it for a while; after some of these, until a person has looked at it."""
        strikes = self._strikes[run.id] = self._strikes.get(run.id, 0) + 1
        self._not_before_ms[run.id] = self._clock.now_ms() + HOLD_OFF_MS * strikes
        fault(run.id, why)
        if strikes >= STRIKES_MAX:
            await self.give_up(run.tenant, run.id, f"it could not be driven {strikes} times", fault)
            self._strikes.pop(run.id)
