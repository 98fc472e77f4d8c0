"""The process lane: runs one program to its end in a sandbox, and proves where it ran and that it is gone.

Each order gets the cheapest mechanism of this node whose class meets the order's floor (`sandboxes/roster.py`): what
each holds was found by building a sandbox, reading and attacking it, never by asking what is installed. Then the class
that is *read for this run* decides once more; a run that was refused or failed is never tried again on another.

Codes: `ok`, `exit_nonzero`, `signalled`, `wall_limit`, `output_limit`, `line_limit`, `cpu_limit`, `memory_limit`,
`disk_limit`, `program_missing`; nothing ran for `order_malformed`, `sandbox_failed`, `confinement_unmet`; unknown for
`spawner_lost`, `sandbox_lost`, `death_unproved`. Before GO every failure is FAILED; after GO, what cannot be told is
UNKNOWN.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from assent.execution.adapters.process.runs import NAME, NOTHING_OBSERVED, OnAttested, Run
from assent.execution.adapters.sandboxes import selftest
from assent.execution.adapters.sandboxes.image import check_order
from assent.execution.adapters.sandboxes.launches import Mechanism
from assent.execution.adapters.sandboxes.roster import Held, Roster
from assent.execution.adapters.sandboxes.selection import MechanismName
from assent.execution.attestations import LADDER, ConfinementClass, tightest
from assent.execution.orders import Order, ProcessOrder
from assent.execution.outcomes import Outcome
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.execution.targets import Offer
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError, InvariantBroken

if TYPE_CHECKING:
    from assent.execution.adapters.dialing import Dialer, Resolver

RUNS_MAX = 2_048  # at once; each holds a handful of descriptors here and two processes
BUILDS_MAX = 8  # sandboxes being built at once: more would only wait for each other, and then for too long
Ready = Callable[[], Awaitable[Held | str]]


class ProcessLane:
    """Carries `ProcessOrder`s. Cheap to construct: nothing is started before the first carry.

    `state_dir` keeps the self-test's result and is never visible inside; `readable` are further host folders to show
    read-only; `mechanism` forces one instead of choosing; `runs_max` bounds how many run at once, others wait their
    turn. `artefacts` takes output beyond the first MiB of a stream. `resolver` replaces the system's name service for
    the hosts that orders may reach.

    Another lane that speaks with a program carries it here, with a steering of its own.
    """

    name = NAME
    capabilities = Capabilities(
        words=("Input", "EndInput", "Signal", "Resize"), streams=True, summary="one program, confined"
    )

    def __init__(
        self,
        *,
        clock: Clock,
        state_dir: Path,
        readable: Iterable[Path] = (),
        mechanism: MechanismName | None = None,
        runs_max: int = RUNS_MAX,
        artefacts: Artefacts | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._dialer: Dialer | None = None
        self._artefacts = artefacts
        self._slots, self._builds = asyncio.Semaphore(runs_max), asyncio.Semaphore(BUILDS_MAX)
        self.roster = Roster(
            clock=clock, state_dir=state_dir, readable=readable, forced=mechanism, attack=self._carry_attack
        )

    async def carry(
        self,
        order: Order,
        *,
        floor: ConfinementClass,
        on_event: OnEvent,
        steering: Steering | None = None,
        on_attested: OnAttested | None = None,
    ) -> Outcome:
        """Carry one order to its end. Input is taken from the steering where the order says `stdin_open`.

        `on_attested` is told what was read of the sandbox, just before GO: lanes that speak with a program answer for
        what it does while it still runs.

        Raises:
            InvariantBroken: the order is not a `ProcessOrder`.
        """
        if not isinstance(order, ProcessOrder):
            raise InvariantBroken("order_of_other_lane", f"the process lane was given a `{type(order).__name__}`")
        run = Run(
            order=order,
            clock=self._clock,
            artefacts=self._artefacts,
            steering=steering,
            on_attested=on_attested,
            dialer=self._dialing,
        )
        needed = _floor_of(order, floor)
        return await self._carried(run, order, floor, on_event, ready=lambda: self.roster.meeting(needed))

    async def _carried(
        self, run: Run, order: ProcessOrder, floor: ConfinementClass, on_event: OnEvent, *, ready: Ready
    ) -> Outcome:
        try:
            check_order(order)
            held = await ready()
            if isinstance(held, str):
                return run.failed("confinement_unmet", held, NOTHING_OBSERVED)
            run.verdict = held.verdict
            run.begin()
            async with self._slots:
                return await run.carry(held.mechanism, floor, on_event, builds=self._builds)
        except AssentError as error:
            return run.failed(error.code, str(error), NOTHING_OBSERVED)
        except OSError as error:  # descriptors or memory of this process are used up
            return run.failed("sandbox_failed", f"the node could not supervise the run: {error}", NOTHING_OBSERVED)

    async def close(self) -> None:
        """End every mechanism and every sandbox it still has. Idempotent."""
        await self.roster.close()

    async def offers(self, fresh: bool = False) -> list[Offer]:  # noqa: FBT001, FBT002 (a `Probe`)
        """Every mechanism on this node, cheapest first: what was read of it, or why it does not work and what mends it.

        Each is attacked by its own self-test (anew when `fresh`), and its offer counts what that said.
        """
        return await self.roster.offers(fresh=fresh)

    async def selftest(self, *, fresh: bool = False) -> selftest.Report:
        """Attack the default mechanism from inside and check from outside; cached per kernel, boot, user and source.

        The first carry runs it when no result is kept yet. The result stands in the attestations of later runs: what
        it proved is `probed`, a probe that failed makes the property it tests absent, so that floors above it refuse.
        """
        return await self.roster.selftest(fresh=fresh)

    def _dialing(self) -> Dialer:
        """The dialer of every broker of this lane: one, so that its look-ups are bounded over all runs."""
        if self._dialer is None:
            from assent.execution.adapters.dialing import Dialer  # noqa: PLC0415 (loads anyio)

            self._dialer = Dialer(resolver=self._resolver)
        return self._dialer

    async def _carry_attack(self, mechanism: Mechanism, order: ProcessOrder) -> Outcome:
        async def given() -> Held:
            return Held(mechanism=mechanism, verdict={})

        run = Run(order=order, clock=self._clock, dialer=self._dialing)
        return await self._carried(run, order, ConfinementClass.LOCAL_WEAK, lambda _event: None, ready=given)


def _floor_of(order: ProcessOrder, floor: ConfinementClass) -> ConfinementClass:
    """Where to look for a mechanism: an order that names hosts needs a network of its own, whatever its floor."""
    return tightest(floor, ConfinementClass.NAMESPACED) if order.hosts and floor in LADDER else floor
