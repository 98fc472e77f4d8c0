"""The python lane: source runs in a jailed interpreter that was warm before.

Fresh state is the rule: each call gets an interpreter of its own, a clone of a zygote whose imports are done. It is
confined and read from outside exactly as a program is, before a line of the source runs, and gone with everything it
started when the call ends. An order that names a session is carried by a worker that stays (`sessions.py`).

There is one mechanism, our own namespaces: what cannot clone itself into a jail cannot be warm. Where this node does
not allow it the lane answers `sandbox_failed`, and programs can still be run by the process lane's other mechanisms.

Codes: `ok`, `exception`, `exit_nonzero`, `signalled`, `result_missing`, `protocol_broken`, `wall_limit`,
`output_limit`, `cpu_limit`, `memory_limit`; nothing ran for `order_malformed`, `sandbox_failed`, `confinement_unmet`,
`worker_limit`, `session_lost`, `session_busy`, `session_limit`, `session_mismatch`; unknown for `spawner_lost`,
`sandbox_lost`, `death_unproved`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assent.execution.adapters.python.carried import NAME, Carried
from assent.execution.adapters.python.planning import Plan, planned
from assent.execution.adapters.python.sessions import SessionRules, Sessions, SessionStatus
from assent.execution.adapters.python.spares import SPARES_MAX, Spares
from assent.execution.adapters.sandboxes.brokering import brokered
from assent.execution.adapters.sandboxes.endings import UNPROVED, end_of
from assent.execution.adapters.sandboxes.frames import NONCE_BYTES
from assent.execution.adapters.sandboxes.image import Image
from assent.execution.adapters.sandboxes.namespaces import NAME as MECHANISM
from assent.execution.adapters.sandboxes.reports import read_report
from assent.execution.adapters.sandboxes.selftest import Report
from assent.execution.adapters.sandboxes.talks import Talk
from assent.execution.adapters.sandboxes.zygotes import Zygotes
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Order, PythonOrder
from assent.execution.outcomes import Outcome
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import AssentError, InvariantBroken

if TYPE_CHECKING:
    from assent.execution.adapters.dialing import Dialer, Resolver

RUNS_MAX = 32
Tested = Callable[[], Awaitable[Report]]


class PythonLane:
    """Carries `PythonOrder`s. Cheap to construct: nothing is started before the first carry.

    `protected` is never visible inside; `readable` are further host folders to show read-only. `preloadable` names the
    modules that an order may have imported before its sandbox is built, outside of it: name only what you trust as you
    trust Assent. Every other module that an order preloads is imported inside. `tested` tells what the self-test of the
    node's sandboxes found. `runs_max` bounds how many calls with fresh state run at once, `spares_max` how many
    interpreters wait for calls to come (0: each is built when it is called for). `resolver` replaces the system's name
    service for the hosts that orders may reach.
    """

    name = NAME
    capabilities = Capabilities(
        words=("Signal",), streams=True, sessions=True, summary="Python source in a warm interpreter, confined"
    )

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy,
        protected: Iterable[Path] = (),
        readable: Iterable[Path] = (),
        preloadable: Iterable[str] = (),
        artefacts: Artefacts | None = None,
        tested: Tested | None = None,
        runs_max: int = RUNS_MAX,
        spares_max: int = SPARES_MAX,
        rules: SessionRules | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._clock, self._entropy, self._artefacts, self._tested = clock, entropy, artefacts, tested
        self._protected, self._readable = tuple(protected), tuple(readable)
        self._preloadable = frozenset(preloadable)
        self._resolver = resolver
        self._dialer: Dialer | None = None
        self._rules = rules or SessionRules()
        self._spares_max = spares_max
        self._slots = asyncio.Semaphore(runs_max)
        self._zygotes: Zygotes | None = None
        self._sessions: Sessions | None = None
        self._spares: Spares | None = None

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry one order to its end.

        Raises:
            InvariantBroken: the order is not a `PythonOrder`.
        """
        if not isinstance(order, PythonOrder):
            raise InvariantBroken("order_of_other_lane", f"the python lane was given a `{type(order).__name__}`")
        run = Carried(order, self._clock, floor=floor, on_event=on_event, steering=steering)
        try:
            plan = planned(order, preloadable=self._preloadable)
            run.verdict = await self._verdict()
            if order.session:
                return await self._kept_sessions().carry(run, plan)
            async with self._slots:
                return await self._fresh(run, plan)
        except AssentError as error:
            return run.failed(error.code, str(error))
        except OSError as error:  # descriptors, memory or disk of this process are used up
            return run.failed("sandbox_failed", f"the node could not supervise the call: {error}")

    async def ready(self) -> None:
        """Wait until the interpreters that are being built for calls to come are built."""
        if self._spares is not None:
            await self._spares.ready()

    def sessions(self) -> list[SessionStatus]:
        """The open sessions and how they fare."""
        return self._sessions.statuses() if self._sessions is not None else []

    async def close(self) -> None:
        """End every session, every zygote and with them every sandbox. Idempotent."""
        sessions, self._sessions = self._sessions, None
        spares, self._spares = self._spares, None
        zygotes, self._zygotes = self._zygotes, None
        if spares is not None:
            await spares.close()
        if sessions is not None:
            await sessions.close()
        if zygotes is not None:
            await zygotes.close()

    async def _fresh(self, run: Carried, plan: Plan) -> Outcome:
        spares = self._kept_spares()
        held = await spares.taken(plan)
        worker = held.worker
        try:
            run.attest(worker)
            run.went = True
            worker.launch.go()
            talk = Talk(
                worker, nonce=self._entropy(NONCE_BYTES), limits=run.order.limits, clock=self._clock,
                on_event=run.on_event, steering=run.steering, artefacts=self._artefacts,
            )  # fmt: skip
            async with brokered(worker.launch, run.order.hosts, dialer=self._dialing, clock=self._clock) as broker:
                said = await talk.run(plan.request, wall_left_ms=run.wall_left_ms(), last=True)
        except BaseException:
            if not await held.end():  # the kill is sent before the first wait: no second cancellation can prevent it
                return run.failed("death_unproved", UNPROVED)
            raise
        await held.end()
        spares.replenish(plan)
        report, alive = read_report(said.report), held.zygote.mechanism.alive
        end = end_of(said, talk, report, limits=run.order.limits, lasting=False, alive=alive)
        facts = (
            run.facts(worker, said, report)
            | {"built_before": held.waited}
            | ({"egress": broker.facts()} if broker is not None else {})
        )
        return run.outcome(end, talk=talk, facts=facts)

    def _dialing(self) -> Dialer:
        """The dialer of every broker of this lane: one, so that its look-ups are bounded over all calls."""
        if self._dialer is None:
            from assent.execution.adapters.dialing import Dialer  # noqa: PLC0415 (loads anyio)

            self._dialer = Dialer(resolver=self._resolver)
        return self._dialer

    async def _verdict(self) -> Mapping[str, bool]:
        """What the self-test says of the mechanism that interpreters run in too."""
        if self._tested is None:
            return {}
        report = await self._tested()
        return report.verdict if report.mechanism == MECHANISM else {}

    def _running(self) -> Zygotes:
        if self._zygotes is None:
            self._zygotes = Zygotes(image=Image(readable=self._readable, protected=self._protected))
        return self._zygotes

    def _kept_spares(self) -> Spares:
        if self._spares is None:
            self._spares = Spares(zygotes=self._running(), spares_max=self._spares_max)
        return self._spares

    def _kept_sessions(self) -> Sessions:
        if self._sessions is None:
            self._sessions = Sessions(
                zygotes=self._running(), clock=self._clock, entropy=self._entropy, rules=self._rules,
                artefacts=self._artefacts,
            )  # fmt: skip
        return self._sessions
