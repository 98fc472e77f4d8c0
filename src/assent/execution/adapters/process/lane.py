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
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from assent.execution.adapters.sandboxes import selection, selftest
from assent.execution.adapters.sandboxes.attest import judged, namespace_facts
from assent.execution.adapters.sandboxes.image import Image, check_order, folder_inside
from assent.execution.adapters.sandboxes.launches import Launch, Mechanism
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.adapters.sandboxes.supervision import Ended, Supervision
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import Order, ProcessOrder
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.execution.targets import Offer
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError, InvariantBroken

NAME = "process"
MechanismName = Literal["namespaces", "bubblewrap", "local-weak"]
RUNS_MAX = 32
Ready = Callable[[], Awaitable[Mechanism]]
OnAttested = Callable[[Attestation], None]
_NOTHING_OBSERVED = Attestation(mechanism="none")
_REPORT_FIELDS = ("user_us", "system_us", "maxrss_kb", "minor_faults", "major_faults", "switches", "preemptions")
_LIMIT_WORDS = {"wall": "wall_limit", "output": "output_limit", "cpu": "cpu_limit", "memory": "memory_limit"}


class ProcessLane:
    """Carries `ProcessOrder`s. Cheap to construct: nothing is started before the first carry.

    `state_dir` keeps the self-test's result and is never visible inside; `readable` are further host folders to show
    read-only; `mechanism` forces one instead of choosing; `runs_max` bounds how many run at once, others wait their
    turn.
    """

    name = NAME
    capabilities = Capabilities(streams=True, summary="one program, confined")

    def __init__(
        self,
        *,
        clock: Clock,
        state_dir: Path,
        readable: Iterable[Path] = (),
        mechanism: MechanismName | None = None,
        runs_max: int = RUNS_MAX,
    ) -> None:
        self._clock = clock
        self._state_dir = state_dir
        self._readable = tuple(readable)
        self._forced = mechanism
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
        steering: Steering | None = None,  # noqa: ARG002
        on_attested: OnAttested | None = None,
    ) -> Outcome:
        """Carry one order to its end. `on_attested` is told what was read of the sandbox, just before GO: lanes that
        speak with a program answer for what it does while it still runs.

        Raises:
            InvariantBroken: the order is not a `ProcessOrder`.
        """
        if not isinstance(order, ProcessOrder):
            raise InvariantBroken("order_of_other_lane", f"the process lane was given a `{type(order).__name__}`")
        return await self._carried(order, floor, on_event, ready=self._tested, on_attested=on_attested)

    async def _carried(
        self,
        order: ProcessOrder,
        floor: ConfinementClass,
        on_event: OnEvent,
        *,
        ready: Ready,
        on_attested: OnAttested | None = None,
    ) -> Outcome:
        run = _Run(order=order, clock=self._clock, on_attested=on_attested)
        try:
            check_order(order)
            mechanism = await ready()
            run.verdict = self._verdict or {}
            async with self._slots:
                return await run.carry(mechanism, floor, on_event)
        except AssentError as error:
            return run.failed(error.code, str(error), _NOTHING_OBSERVED)
        except OSError as error:  # descriptors or memory of this process are used up
            return run.failed("sandbox_failed", f"the node could not supervise the run: {error}", _NOTHING_OBSERVED)

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
        return await self._carried(order, floor, lambda _event: None, ready=self._chosen)

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


class _Run:
    """One carry: its times, and how its end is told."""

    def __init__(self, *, order: ProcessOrder, clock: Clock, on_attested: OnAttested | None = None) -> None:
        self._order, self._clock, self._on_attested = order, clock, on_attested
        self._started_ms, self._started_ns = clock.now_ms(), clock.monotonic_ns()
        self.verdict: Mapping[str, bool] = {}
        self._went = False

    async def carry(self, mechanism: Mechanism, floor: ConfinementClass, on_event: OnEvent) -> Outcome:
        streams = Streams(self._order.stdin)
        try:
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
            evidence=self._evidence(attestation, facts={}, streams=None),
        )

    async def _drive(
        self, mechanism: Mechanism, launch: Launch, streams: Streams, floor: ConfinementClass, on_event: OnEvent
    ) -> Outcome:
        watch = Supervision(launch=launch, streams=streams, limits=self._order.limits, clock=self._clock)
        ended = None
        try:
            attestation = judged(mechanism.attest(launch, self._order), self.verdict)
            if not attestation.meets(floor):
                return self.failed("confinement_unmet", _shortfall(attestation, floor), attestation)
            if self._on_attested is not None:
                self._on_attested(attestation)
            self._went = True
            ended = await watch.run(on_event, wall_left_ms=self._wall_left_ms())
        finally:
            if ended is None:
                await watch.destroy()  # the kill is sent before the first wait: no second cancellation can prevent it
        return self._outcome(mechanism, launch, streams, attestation, ended)

    def _wall_left_ms(self) -> int:
        return max(0, self._order.limits.wall_ms - (self._clock.monotonic_ns() - self._started_ns) // 1_000_000)

    def _outcome(
        self, mechanism: Mechanism, launch: Launch, streams: Streams, attestation: Attestation, ended: Ended
    ) -> Outcome:
        report = _read_report(ended.report)
        ending, code, limit, message = _verdict(ended, report, self._order, spawner_alive=mechanism.alive)
        facts = self._facts(launch, attestation, ended, report)
        value = {
            "exit": report.get("exit"), "signal": report.get("signal"),
            "stdout": streams.taps[0].value, "stderr": streams.taps[1].value,
        }  # fmt: skip
        evidence = self._evidence(attestation, facts=facts, streams=streams, limit=limit)
        return Outcome(ending=ending, code=code, message=message, value=value, evidence=evidence)

    def _facts(self, launch: Launch, attestation: Attestation, ended: Ended, report: dict[str, Any]) -> dict[str, Any]:
        return {
            "argv": list(self._order.argv), "env_names": sorted(self._order.env), "cwd": folder_inside(self._order),
            "pid": launch.program_pid, "init_pid": launch.init_pid, "exit": report.get("exit"),
            "signal": report.get("signal"), "rusage": report.get("rusage", {}),
            "namespaces": namespace_facts(attestation.properties),
            "death": {"proved_by": "pidfd" if ended.dead else "nothing", "after_kill_ms": ended.death_ms},
        }  # fmt: skip

    def _evidence(
        self, attestation: Attestation, *, facts: dict[str, Any], streams: Streams | None, limit: str = ""
    ) -> Evidence:
        return Evidence(
            lane=NAME, attestation=attestation, started_at_ms=self._started_ms, ended_at_ms=self._clock.now_ms(),
            limit=limit, digests={tap.name: tap.digest for tap in streams.taps} if streams else {}, facts=facts,
        )  # fmt: skip


def _read_report(text: str | None) -> dict[str, Any]:
    """The warden's report in the words of the evidence; empty when there is none."""
    if text is None:
        return {}
    status, *numbers, tripped = text.split()
    code = os.waitstatus_to_exitcode(int(status))
    return {
        "exit": code if code >= 0 else None,
        "signal": _signal_name(-code) if code < 0 else None,
        "rusage": dict(zip(_REPORT_FIELDS, map(int, numbers), strict=True)),
        "tripped": tripped.strip("-"),
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the two that have names
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _verdict(
    ended: Ended, report: dict[str, Any], order: ProcessOrder, *, spawner_alive: bool
) -> tuple[Ending, str, str, str]:
    """Ending, code, limit and message, from what is known; the first thing that explains the end wins."""
    if not ended.dead:
        return Ending.UNKNOWN, "death_unproved", ended.limit, "the sandbox was killed but its end was not seen"
    if ended.unstartable:
        reason = os.strerror(ended.unstartable).lower()
        return Ending.FAILED, "program_missing", "", f"`{order.argv[0][:200]}` cannot be run: {reason}"
    limit = ended.limit or report.get("tripped", "") or _limit_by_signal(report, order)
    if limit in _LIMIT_WORDS:
        return Ending.FAILED, _LIMIT_WORDS[limit], limit, f"ended by its {limit} limit"
    if not report:
        code = "sandbox_lost" if spawner_alive else "spawner_lost"
        return Ending.UNKNOWN, code, "", "the sandbox died under the program; how far it got is not known"
    if report["signal"]:
        return Ending.FAILED, "signalled", limit, f"ended by {report['signal']}"
    if report["exit"]:
        return Ending.FAILED, "exit_nonzero", "", f"exit status {report['exit']}"
    return Ending.SUCCEEDED, "ok", "", ""


def _limit_by_signal(report: dict[str, Any], order: ProcessOrder) -> str:
    """The kernel's own limits end a process by signal."""
    usage = report.get("rusage", {})
    spent_s = (usage.get("user_us", 0) + usage.get("system_us", 0)) / 1e6
    name = report.get("signal")
    if name == "SIGXCPU" or (name == "SIGKILL" and spent_s >= order.limits.cpu_s_max):
        return "cpu"
    return "file" if name == "SIGXFSZ" else ""


def _shortfall(attestation: Attestation, floor: ConfinementClass) -> str:
    missing = sorted(
        name for name, one in attestation.properties.items() if one.known.value in ("absent", "configured")
    )
    have = f"`{attestation.confinement.value}` by `{attestation.mechanism}`"
    return f"the floor is `{floor.value}`, this run would be {have} (not held: {', '.join(missing)})"
