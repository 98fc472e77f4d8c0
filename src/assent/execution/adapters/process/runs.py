"""One carry of a program: its times, its streams, and how its end is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from assent.execution.adapters.process.verdicts import UNPROVED, shortfall, verdict
from assent.execution.adapters.sandboxes.attest import judged, namespace_facts
from assent.execution.adapters.sandboxes.brokering import NO_WAY_OUT, brokered, lacks_way_out
from assent.execution.adapters.sandboxes.image import folder_inside
from assent.execution.adapters.sandboxes.launches import Launch, Mechanism
from assent.execution.adapters.sandboxes.reports import read_report
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.adapters.sandboxes.supervision import Ended, Supervision
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import ProcessOrder
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.primitives.clock import Clock

if TYPE_CHECKING:
    from assent.execution.adapters.dialing import Dialer
    from assent.execution.adapters.egress import Broker

NAME = "process"
OnAttested = Callable[[Attestation], None]
NOTHING_OBSERVED = Attestation(mechanism="none")


class Run:
    """One carry: its times, and how its end is told."""

    def __init__(
        self,
        *,
        order: ProcessOrder,
        clock: Clock,
        artefacts: Artefacts | None = None,
        steering: Steering | None = None,
        on_attested: OnAttested | None = None,
        dialer: Callable[[], Dialer],
    ) -> None:
        self._order, self._clock, self._on_attested = order, clock, on_attested
        self._artefacts, self._steering, self._dialer = artefacts, steering, dialer
        self.begin()
        self.verdict: Mapping[str, bool] = {}
        self._went = False
        self._broker: Broker | None = None

    def begin(self) -> None:
        """Its time counts from now: waiting for a turn is part of it, this node's self-test is not."""
        self._started_ms, self._started_ns = self._clock.now_ms(), self._clock.monotonic_ns()

    async def carry(
        self, mechanism: Mechanism, floor: ConfinementClass, on_event: OnEvent, *, builds: asyncio.Semaphore
    ) -> Outcome:
        """Build, attest, go, supervise, and tell the end."""
        streams = Streams.of(self._order, spoken_to=self._steering is not None, artefacts=self._artefacts)
        try:
            async with builds:
                launch = await mechanism.launch(self._order, streams)
            try:
                return await self._drive(mechanism, launch, streams, floor, on_event)
            finally:
                launch.close()
        finally:
            streams.close()

    def failed(self, code: str, message: str, attestation: Attestation) -> Outcome:
        """The order was not carried: nothing of it ran, unless supervising broke after GO."""
        return Outcome(
            ending=Ending.UNKNOWN if self._went else Ending.FAILED,
            code=code,
            message=message,
            evidence=self._evidence(attestation, facts=self._reached(), streams=None),
        )

    async def _drive(
        self, mechanism: Mechanism, launch: Launch, streams: Streams, floor: ConfinementClass, on_event: OnEvent
    ) -> Outcome:
        watch = Supervision(launch=launch, streams=streams, limits=self._order.limits, clock=self._clock)
        attestation = NOTHING_OBSERVED
        try:
            attestation = judged(mechanism.attest(launch, self._order), self.verdict)
            if lacks_way_out(launch, self._order.hosts):
                await watch.destroy()
                return self.failed("confinement_unmet", NO_WAY_OUT, attestation)
            if not attestation.meets(floor):
                await watch.destroy()
                return self.failed("confinement_unmet", shortfall(attestation, floor), attestation)
            if self._on_attested is not None:
                self._on_attested(attestation)
            self._went = True
            ended = await self._brokered(launch, watch, on_event)
        except BaseException:
            if not await watch.destroy(grace_ms=self._order.limits.grace_ms if self._went else 0):
                return self.failed("death_unproved", UNPROVED, attestation)
            raise
        await streams.keep()
        return self._outcome(launch, ended, attestation, streams=streams, spawner_alive=mechanism.alive, watch=watch)

    async def _brokered(self, launch: Launch, watch: Supervision, on_event: OnEvent) -> Ended:
        """From GO to the end, with the egress broker beside it where the order names hosts."""
        async with brokered(launch, self._order.hosts, dialer=self._dialer, clock=self._clock) as self._broker:
            return await watch.run(on_event, wall_left_ms=self._wall_left_ms(), steering=self._steering)

    def _wall_left_ms(self) -> int:
        return max(0, self._order.limits.wall_ms - (self._clock.monotonic_ns() - self._started_ns) // 1_000_000)

    def _outcome(
        self,
        launch: Launch,
        ended: Ended,
        attestation: Attestation,
        *,
        streams: Streams,
        spawner_alive: bool,
        watch: Supervision,
    ) -> Outcome:
        report = read_report(ended.report)
        ending, code, limit, message = verdict(ended, report, self._order, spawner_alive=spawner_alive)
        facts = self._facts(launch, attestation, ended, report) | self._reached() | _spoken(streams, watch)
        value = {"exit": report.get("exit"), "signal": report.get("signal")}
        value |= {name: keeper.value for name, keeper in streams.keepers.items()}
        evidence = self._evidence(attestation, facts=facts, streams=streams, limit=limit)
        return Outcome(ending=ending, code=code, message=message, value=value, evidence=evidence)

    def _facts(self, launch: Launch, attestation: Attestation, ended: Ended, report: dict[str, Any]) -> dict[str, Any]:
        return {
            "argv": list(self._order.argv), "env_names": sorted(self._order.env), "cwd": folder_inside(self._order),
            "pid": launch.program_pid, "init_pid": launch.init_pid, "exit": report.get("exit"),
            "signal": report.get("signal"), "rusage": report.get("rusage", {}),
            "seen": report.get("seen", {}),
            "namespaces": namespace_facts(attestation.properties),
            "death": {"proved_by": "pidfd" if ended.dead else "nothing", "after_kill_ms": ended.death_ms},
        }  # fmt: skip

    def _reached(self) -> dict[str, Any]:
        """What the broker wrote down, where there was one."""
        return {"egress": self._broker.facts()} if self._broker is not None else {}

    def _evidence(
        self, attestation: Attestation, *, facts: dict[str, Any], streams: Streams | None, limit: str = ""
    ) -> Evidence:
        return Evidence(
            lane=NAME, attestation=attestation, started_at_ms=self._started_ms, ended_at_ms=self._clock.now_ms(),
            limit=limit, digests=streams.digests if streams else {}, facts=facts,
        )  # fmt: skip


def _spoken(streams: Streams, watch: Supervision) -> dict[str, Any]:
    """What was said to the program and came to nothing, and output that nobody took: only where there was any."""
    found = {
        "words_ignored": watch.words_ignored,
        "input_bytes_dropped": streams.feed.dropped_bytes if streams.feed is not None else 0,
        "output_bytes_withheld": watch.withheld_bytes,
    }
    return {name: count for name, count in found.items() if count}
