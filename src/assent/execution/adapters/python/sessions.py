"""Sessions: workers that keep their namespace between calls, each of one workspace.

A session is what its worker holds and nothing else: it dies with the worker (a crash, a kill, an idle time, too many
calls, too much memory), and then it is *lost*. Whoever names it next is told so, and told again, until a call starts
it anew in so many words (`restart`). Nobody is ever handed an empty interpreter under the name of a full one. What this
process never knew, or forgot (`LOST_MAX`), begins with call 1, and the result says which call it was.

One call at a time; others wait their turn, at most `waiting_max`, inside their own wall time. A call that was stopped
leaves its worker only if the worker then proves idle: it answers, and runs no thread that it did not run before.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from assent.execution.adapters.python.carried import Carried
from assent.execution.adapters.python.planning import Plan
from assent.execution.adapters.sandboxes.endings import UNPROVED, end_of
from assent.execution.adapters.sandboxes.frames import NONCE_BYTES
from assent.execution.adapters.sandboxes.reports import read_report
from assent.execution.adapters.sandboxes.talks import Said, Talk, proved_idle
from assent.execution.adapters.sandboxes.workers import Condition, Worker
from assent.execution.adapters.sandboxes.zygotes import Zygote, Zygotes
from assent.execution.attestations import Attestation
from assent.execution.orders import ProcessOrder, PythonOrder
from assent.execution.outcomes import Outcome
from assent.execution.ports import Artefacts
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Refused

LOST_MAX = 1_024
_FIXED_LIMITS = ("memory_bytes_max", "processes_max", "file_bytes_max", "open_files_max", "disk_bytes_max")
_UNSTARTED = "unstarted"
_CALLS_A_LOOK = 8  # looking at the memory costs as much as a small call; the limit itself is held by the warden
_Key = tuple[str, str]


class SessionRules(msgspec.Struct, frozen=True, kw_only=True):
    """How many sessions there may be, how many calls may wait for one, and what ends one."""

    sessions_max: int = 16
    waiting_max: int = 16
    idle_ms: int = 600_000
    calls_max: int = 10_000
    resident_percent_max: int = 80
    unresponsive_ms: int = 2_000


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One session, seen from outside."""

    workspace: str
    name: str
    condition: Condition
    calls: int
    waiting: int
    resident_bytes: int


class _Session:
    def __init__(self, key: _Key) -> None:
        self.key = key
        self.turn = asyncio.Lock()
        self.waiting = 0
        self.calls = 0
        self.tasks = 0
        self.gone = ""
        self.worker: Worker | None = None
        self.zygote: Zygote | None = None
        self.attestation: Attestation | None = None
        self.program: ProcessOrder | None = None
        self.env: dict[str, str] = {}
        self.beats, self.moved_ns = 0, 0
        self.idle: asyncio.TimerHandle | None = None


class Sessions:
    """The sessions of one lane."""

    def __init__(
        self, *, zygotes: Zygotes, clock: Clock, entropy: Entropy, rules: SessionRules, artefacts: Artefacts | None
    ) -> None:
        self._zygotes, self._clock, self._entropy = zygotes, clock, entropy
        self._rules, self._artefacts = rules, artefacts
        self._all: dict[_Key, _Session] = {}
        self._lost: OrderedDict[_Key, str] = OrderedDict()

    async def carry(self, run: Carried, plan: Plan) -> Outcome:
        """One call of the session that the order names.

        Raises:
            Refused: `session_lost`, `session_limit`, `session_busy`, `session_mismatch`, `confinement_unmet`,
                `wall_limit` while it waited. Nothing of the order ran.
            Unavailable: its interpreter could not be had.
        """
        order = run.order
        while True:
            session = self._found((order.workspace, order.session), restart=order.restart)
            async with self._turn(session, run):
                if session.gone == _UNSTARTED:
                    continue
                if session.gone:
                    raise _lost(order.session, session.gone)
                if order.restart and session.worker is not None:
                    await self._over(session, "restarted")
                    continue
                if session.worker is None:
                    await self._start(session, run, plan)
                self._check(session, run, plan)
                return await self._call(session, run, plan)

    def statuses(self) -> list[SessionStatus]:
        """Every session, as it fares now."""
        return [self._status(session) for session in self._all.values() if session.worker is not None]

    async def close(self) -> None:
        """End them all. Idempotent."""
        for session in list(self._all.values()):
            await self._over(session, "closed")

    # Finding one, and waiting for it

    def _found(self, key: _Key, *, restart: bool) -> _Session:
        if restart:
            self._lost.pop(key, None)
        if key in self._lost:
            raise _lost(key[1], self._lost[key])
        session = self._all.get(key)
        if session is None:
            if len(self._all) >= self._rules.sessions_max:
                raise Refused(
                    "session_limit",
                    f"{self._rules.sessions_max} sessions are open",
                    hint="end some, or wait until they do",
                )
            session = self._all[key] = _Session(key)
        return session

    @asynccontextmanager
    async def _turn(self, session: _Session, run: Carried) -> AsyncIterator[None]:
        if session.turn.locked():
            await self._wait(session, run)
        else:
            await session.turn.acquire()  # at once
        try:
            if session.idle is not None:
                session.idle.cancel()
            yield
        finally:
            session.turn.release()

    async def _wait(self, session: _Session, run: Carried) -> None:
        if session.waiting >= self._rules.waiting_max:
            raise Refused("session_busy", f"{self._rules.waiting_max} calls wait for `{session.key[1]}` already")
        session.waiting += 1
        try:
            async with asyncio.timeout(run.wall_left_ms() / 1000):
                await session.turn.acquire()
        except TimeoutError:
            raise Refused("wall_limit", f"its time was over before `{session.key[1]}` was free") from None
        finally:
            session.waiting -= 1

    # Its life

    async def _start(self, session: _Session, run: Carried, plan: Plan) -> None:
        program = plan.program
        lifetime = msgspec.structs.replace(program.limits, cpu_s_max=program.limits.cpu_s_max * self._rules.calls_max)
        try:
            session.zygote = await self._zygotes.lend(workspace=program.workspace, imports=plan.imports)
            order = msgspec.structs.replace(program, limits=lifetime)
            session.worker = worker = await Worker.start(session.zygote.mechanism, order, beats=True)
            run.attest(worker)
        except BaseException:
            await self._over(session, _UNSTARTED)
            raise
        session.attestation, session.program, session.env = run.attestation, program, run.order.env
        worker.launch.go()

    def _check(self, session: _Session, run: Carried, plan: Plan) -> None:
        """Whether what this order allows holds for the interpreter that there is."""
        assert session.program is not None
        assert session.attestation is not None
        have, wanted = session.program, plan.program
        wider = [name for name in _FIXED_LIMITS if getattr(have.limits, name) > getattr(wanted.limits, name)]
        if session.env != run.order.env or have.workspace_writable != wanted.workspace_writable or wider:
            about = f"its `{wider[0]}` is larger" if wider else "its environment or its access to the workspace differs"
            raise Refused(
                "session_mismatch", f"`{session.key[1]}` was started otherwise than this call allows: {about}",
                hint="call with `restart`, or with another session",
            )  # fmt: skip
        run.attestation = session.attestation
        run.check_floor()

    async def _call(self, session: _Session, run: Carried, plan: Plan) -> Outcome:
        assert session.worker is not None
        assert session.zygote is not None
        worker = session.worker
        run.went = True
        session.calls += 1
        talk = Talk(
            worker, nonce=self._entropy(NONCE_BYTES), limits=run.order.limits, clock=self._clock,
            on_event=run.on_event, steering=run.steering, artefacts=self._artefacts, cpu_watched=True,
        )  # fmt: skip
        alive = True
        over = "cancelled"
        try:
            said = await talk.run(plan.request, wall_left_ms=run.wall_left_ms(), last=False)
            alive = session.zygote.mechanism.alive
            over = await self._why_over(session, said, run.order)
        except asyncio.CancelledError:
            if not worker.dead.done() and await self._proved_idle(session, run.order):
                over = ""
            if not await self._settle(session, over):
                return run.failed("death_unproved", UNPROVED)
            raise
        except BaseException:
            await self._settle(session, over)
            raise
        await self._settle(session, over)
        report = read_report(said.report)
        end = end_of(said, talk, report, limits=run.order.limits, lasting=True, alive=alive)
        told = {"name": run.order.session, "call": session.calls, "threads": session.tasks, "ended": over}
        facts = {**run.facts(worker, said, report), "session": told, "stray_bytes": said.stray_bytes}
        return run.outcome(msgspec.structs.replace(end, value={**end.value, "session": told}), talk=talk, facts=facts)

    async def _why_over(self, session: _Session, said: Said, order: PythonOrder) -> str:
        """Why the session cannot go on, or an empty string."""
        assert session.worker is not None
        if said.broken:
            return "protocol_broken"
        if said.dead or said.end is None:
            return said.limit or "crashed"
        if said.limit and not await self._proved_idle(session, order):
            return said.limit
        session.tasks = max(session.tasks, int(said.end.get("tasks", 0)))
        if session.calls >= self._rules.calls_max:
            return "calls"
        if session.calls % _CALLS_A_LOOK:
            return ""
        resident_bytes = session.worker.pulse().resident_bytes
        if resident_bytes * 100 > order.limits.memory_bytes_max * self._rules.resident_percent_max:
            return "memory"
        return ""

    async def _proved_idle(self, session: _Session, order: PythonOrder) -> bool:
        assert session.worker is not None
        wait_s = 1.0 + order.limits.grace_ms / 1000
        return await proved_idle(
            session.worker, nonce=self._entropy(NONCE_BYTES), tasks_max=session.tasks, wait_s=wait_s
        )

    async def _settle(self, session: _Session, over: str) -> bool:
        """After a call: over, or idle until the next. False when it should be dead and that was not seen."""
        if over or session.worker is None:
            return await self._over(session, over)
        if session.worker.dead.done():
            self._died(session)
            return True
        session.worker.on_death = partial(self._died, session)
        session.idle = asyncio.get_running_loop().call_later(self._rules.idle_ms / 1000, partial(self._idled, session))
        return True

    async def _over(self, session: _Session, reason: str) -> bool:
        """End it; whether its death was seen."""
        self._forget(session, reason)
        try:
            return session.worker is None or await session.worker.end()
        finally:
            if session.zygote is not None:
                session.zygote.back()
                session.zygote = None

    def _died(self, session: _Session) -> None:
        """Its interpreter died between two calls."""
        self._forget(session, session.gone or "died")
        if session.worker is not None:
            session.worker.bury()
        if session.zygote is not None:
            session.zygote.back()
            session.zygote = None

    def _idled(self, session: _Session) -> None:
        if session.worker is not None and not session.turn.locked():
            session.gone = "idle"
            session.worker.kill()

    def _forget(self, session: _Session, reason: str) -> None:
        session.gone = reason
        if session.idle is not None:
            session.idle.cancel()
        if self._all.get(session.key) is session:
            del self._all[session.key]
            if reason not in (_UNSTARTED, "restarted"):
                self._lost[session.key] = reason
                if len(self._lost) > LOST_MAX:
                    self._lost.popitem(last=False)

    def _status(self, session: _Session) -> SessionStatus:
        assert session.worker is not None
        pulse, now_ns = session.worker.pulse(), self._clock.monotonic_ns()
        if pulse.beats != session.beats:
            session.beats, session.moved_ns = pulse.beats, now_ns
        still_ms = (now_ns - session.moved_ns) // 1_000_000
        condition = Condition.BUSY if session.turn.locked() else Condition.IDLE
        if pulse.state in ("X", "Z"):
            condition = Condition.DEAD
        elif pulse.state in ("T", "t"):
            condition = Condition.STOPPED
        elif still_ms >= self._rules.unresponsive_ms:
            condition = Condition.UNRESPONSIVE
        return SessionStatus(
            workspace=session.key[0], name=session.key[1], condition=condition, calls=session.calls,
            waiting=session.waiting, resident_bytes=pulse.resident_bytes,
        )  # fmt: skip


def _lost(name: str, reason: str) -> Refused:
    return Refused(
        "session_lost", f"`{name}` and its state are gone ({reason})", hint="call with `restart` to begin it anew"
    )
