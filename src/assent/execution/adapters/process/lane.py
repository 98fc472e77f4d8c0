"""The process lane: runs one program to its end in a sandbox, and proves where it ran and that it is gone.

The lane chooses its mechanism once, by building a sandbox and reading it, never by asking what is installed: our own
namespaces, then bubblewrap, then a watched local process. The order's floor decides whether the class that was *read
for this run* is enough; a run that was refused or failed is never tried again on a weaker one.

Codes: `ok`, `exit_nonzero`, `signalled`, `wall_limit`, `output_limit`, `cpu_limit`, `memory_limit`,
`program_missing`; nothing ran for `order_malformed`, `sandbox_failed`, `confinement_unmet`; unknown for
`spawner_lost`, `sandbox_lost`, `death_unproved`. Before GO every failure is FAILED; after GO, what cannot be told is
UNKNOWN.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from assent.execution.adapters.process.runs import NAME, NOTHING_OBSERVED, OnAttested, Run
from assent.execution.adapters.sandboxes import selection, selftest
from assent.execution.adapters.sandboxes.attest import judged
from assent.execution.adapters.sandboxes.image import Image, check_order
from assent.execution.adapters.sandboxes.launches import Mechanism
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Order, ProcessOrder
from assent.execution.outcomes import Outcome
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.execution.targets import Offer
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError, InvariantBroken

MechanismName = Literal["namespaces", "bubblewrap", "local-weak"]
RUNS_MAX = 32
Ready = Callable[[], Awaitable[Mechanism]]


class ProcessLane:
    """Carries `ProcessOrder`s. Cheap to construct: nothing is started before the first carry.

    `state_dir` keeps the self-test's result and is never visible inside; `readable` are further host folders to show
    read-only; `mechanism` forces one instead of choosing; `runs_max` bounds how many run at once, others wait their
    turn. `artefacts` takes output beyond the first MiB of a stream.

    Another lane that speaks with a program carries it here, with a steering of its own.
    """

    name = NAME
    capabilities = Capabilities(words=("Input", "EndInput", "Signal"), streams=True, summary="one program, confined")

    def __init__(
        self,
        *,
        clock: Clock,
        state_dir: Path,
        readable: Iterable[Path] = (),
        mechanism: MechanismName | None = None,
        runs_max: int = RUNS_MAX,
        artefacts: Artefacts | None = None,
    ) -> None:
        self._clock = clock
        self._state_dir = state_dir
        self._readable = tuple(readable)
        self._forced = mechanism
        self._artefacts = artefacts
        self._slots = asyncio.Semaphore(runs_max)
        self._choosing = asyncio.Lock()
        self._mechanism: Mechanism | None = None
        self._image: Image | None = None
        self._testing = asyncio.Lock()
        self._verdict: Mapping[str, bool] | None = None

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
        )
        return await self._carried(run, order, floor, on_event, ready=self._tested)

    async def _carried(
        self, run: Run, order: ProcessOrder, floor: ConfinementClass, on_event: OnEvent, *, ready: Ready
    ) -> Outcome:
        try:
            check_order(order)
            mechanism = await ready()
            run.verdict = self._verdict or {}
            async with self._slots:
                return await run.carry(mechanism, floor, on_event)
        except AssentError as error:
            return run.failed(error.code, str(error), NOTHING_OBSERVED)
        except OSError as error:  # descriptors or memory of this process are used up
            return run.failed("sandbox_failed", f"the node could not supervise the run: {error}", NOTHING_OBSERVED)

    async def close(self) -> None:
        """End the mechanism and every sandbox it still has. Idempotent."""
        mechanism, self._mechanism = self._mechanism, None
        if mechanism is not None:
            await mechanism.close()

    async def offers(self, fresh: bool = False) -> list[Offer]:  # noqa: FBT001, FBT002 (a `Probe`)
        """Try every mechanism on this node, strongest first: which work, what was read, and why not the others.

        What the self-test found (taken anew when `fresh`) is told of the chosen one.
        """
        found = await selection.try_all(self._shared_image())
        report = await self.selftest(fresh=fresh)
        return [_tested_offer(offer, report) for offer in found]

    async def selftest(self, *, fresh: bool = False) -> selftest.Report:
        """Attack the chosen mechanism from inside and check from outside; cached per kernel, boot, user and source.

        The first carry runs it when no result is kept yet. The result stands in the attestations of later runs: what
        it proved is `probed`, a probe that failed makes the property it tests absent, so that floors above it refuse.
        """
        mechanism = await self._chosen()
        async with self._testing:
            report = None if fresh else selftest.cached(self._state_dir, mechanism.name)
            if report is None:
                report = await selftest.run(
                    self._carry_attack, mechanism=mechanism.name, clock=self._clock, victim_uid=mechanism.uid
                )
                selftest.keep(self._state_dir, report)
            self._verdict = report.verdict
        return report

    async def _carry_attack(self, order: ProcessOrder) -> Outcome:
        floor = ConfinementClass.LOCAL_WEAK
        run = Run(order=order, clock=self._clock)
        return await self._carried(run, order, floor, lambda _event: None, ready=self._chosen)

    async def _tested(self) -> Mechanism:
        """The chosen mechanism, once the self-test has said what it holds on this node."""
        if self._verdict is None:
            await self.selftest()
        return await self._chosen()

    def _shared_image(self) -> Image:
        if self._image is None:
            self._image = Image(readable=self._readable, protected=[self._state_dir])
        return self._image

    async def _chosen(self) -> Mechanism:
        async with self._choosing:
            if self._mechanism is None:
                self._mechanism = await selection.choose(self._shared_image(), forced=self._forced)
            return self._mechanism


def _tested_offer(offer: Offer, report: selftest.Report) -> Offer:
    """An offer in the light of the self-test of its mechanism."""
    if offer.attestation is None or offer.attestation.mechanism != report.mechanism:
        return offer
    return msgspec.structs.replace(offer, attestation=judged(offer.attestation, report.verdict))
