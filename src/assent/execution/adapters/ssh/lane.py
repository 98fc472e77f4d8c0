"""Carries process orders to another machine, one SSH connection each.

The order's workspace stands for the target's own: its files are not copied. The order is checked here, prepared there
and held back until what the far side says of it has been judged; then it goes. From there on only the far side's last
word tells how it ended: when the connection is lost first, the outcome is UNKNOWN (`connection_lost`), and the far
side, which notices the same, kills whatever still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from assent.execution.adapters.sandboxes.image import check_order
from assent.execution.adapters.sandboxes.keeping import Keeper
from assent.execution.adapters.ssh.client import BEAT_S, Access, Link, Lost, Unusable, decoded
from assent.execution.adapters.ssh.endings import asserted, not_started, told
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import Order, ProcessOrder
from assent.execution.outcomes import Ending, Evidence, Outcome, StreamEvent
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.steering import Capabilities, EndInput, Input, Resize, Signal, Word
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError, InvariantBroken, Malformed

NAME = "process"
RUNS_MAX = 8
STOP_S = 20.0
WALL_SLACK_S = 15.0
INPUT_AHEAD_BYTES = 262_144
INPUT_PIECE_BYTES = 65_536
STDIN_BYTES_MAX = 16_777_216
_BASE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
_STREAMS = {b"o": "stdout", b"e": "stderr"}
T = TypeVar("T")
_NOTHING = Attestation(mechanism="none")


class SshLane:
    """Carries `ProcessOrder`s on one host. `runs_max` bounds how many run there at once."""

    name = NAME
    capabilities = Capabilities(
        words=("Input", "EndInput", "Signal", "Resize"),
        streams=True,
        summary="one program on another machine; whatever is said of its confinement is asserted",
    )

    def __init__(
        self, *, access: Access, clock: Clock, artefacts: Artefacts | None = None, runs_max: int = RUNS_MAX
    ) -> None:
        self._access, self._clock, self._artefacts = access, clock, artefacts
        self._slots = asyncio.Semaphore(runs_max)
        self.load = 0

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry one order to its end.

        Raises:
            InvariantBroken: the order is not a `ProcessOrder`.
        """
        if not isinstance(order, ProcessOrder):
            raise InvariantBroken("order_of_other_lane", f"the process lane was given a `{type(order).__name__}`")
        run = _Run(order, self._access, self._clock, self._artefacts)
        self.load += 1
        try:
            _check(order)
            async with self._slots:
                return await run.carry(floor, on_event, steering)
        except Unusable as fault:
            return run.failed("target_unusable", f"{fault.reason}; {fault.fix}".rstrip("; "))
        except AssentError as error:
            return run.failed(error.code, str(error))
        finally:
            run.close()
            self.load -= 1

    async def close(self) -> None:
        """Nothing is held between carries."""


def _check(order: ProcessOrder) -> None:
    check_order(order)
    if order.hosts:
        raise Malformed(
            "order_malformed", "no egress broker stands before a host reached by SSH, so hosts cannot be limited there",
            hint="run it here or on a guest node",
        )  # fmt: skip
    if len(order.stdin) > STDIN_BYTES_MAX:
        raise Malformed("order_malformed", f"standard input begins with at most {STDIN_BYTES_MAX} bytes")


class _Run:
    """One carry: the connection, what came over it, and how its end is told."""

    def __init__(self, order: ProcessOrder, access: Access, clock: Clock, artefacts: Artefacts | None) -> None:
        self._order, self._access, self._clock = order, access, clock
        self._started_ms = clock.now_ms()
        self._outputs = {name: Keeper(artefacts) for name in _STREAMS.values()}
        self._attestation = _NOTHING
        self._facts: dict[str, Any] = {"argv": list(order.argv), "env_names": sorted(order.env)}
        self._went = False
        self._left = order.limits.output_bytes_max
        self._ahead = 0
        self._taken = asyncio.Event()

    async def carry(self, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None) -> Outcome:
        link = await Link.open(self._access)
        try:
            return await self._over(link, floor, on_event, steering)
        except Lost:
            if not self._went:
                raise Unusable(*link.complaint()) from None
            return self._outcome(Ending.UNKNOWN, "connection_lost", "the connection was lost while it ran", {})
        finally:
            await _certainly(link.close())

    def failed(self, code: str, message: str, *, ending: Ending = Ending.FAILED) -> Outcome:
        """Nothing of the order ran."""
        return self._outcome(ending, code, message, {})

    def close(self) -> None:
        """Drop what was not kept."""
        for output in self._outputs.values():
            output.close()

    async def _over(self, link: Link, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None) -> Outcome:
        self._attestation = asserted(link.hello, None)
        await link.send(b"S", json.dumps(self._specification()).encode())
        letter, payload = await link.read()
        if letter == b"F":
            return self.failed(*not_started(decoded(payload)))
        if letter != b"R":
            raise Lost
        read = decoded(payload)
        self._attestation = asserted(link.hello, read)
        self._facts |= {"host": self._access.host, "port": self._access.port, "pid": read.get("pid")}
        if not self._attestation.meets(floor):
            message = f"the floor is `{floor}`, and a host reached by SSH is `{self._attestation.confinement}`"
            return self.failed("confinement_unmet", message)
        self._went = True
        await link.send(b"G")
        return await self._running(link, on_event, steering)

    async def _running(self, link: Link, on_event: OnEvent, steering: Steering | None) -> Outcome:
        helpers = [asyncio.ensure_future(work) for work in self._helpers(link, steering)]  # noqa: TID251 (awaited below)
        hearing = asyncio.ensure_future(self._hear(link, on_event, steering))  # noqa: TID251 (awaited below)
        try:
            wall_s = (self._order.limits.wall_ms + self._order.limits.grace_ms) / 1000 + WALL_SLACK_S
            async with asyncio.timeout(wall_s):
                return await self._ended(await asyncio.shield(hearing))
        except TimeoutError:  # the far side should have ended it; the connection's end will
            return self._outcome(Ending.UNKNOWN, "connection_lost", "the far side did not end it in time", {})
        except asyncio.CancelledError:
            return await _certainly(self._stopped(link, hearing))
        finally:
            for helper in (*helpers, hearing):
                helper.cancel()
            await _certainly(asyncio.wait([*helpers, hearing]))

    def _helpers(self, link: Link, steering: Steering | None) -> list[Coroutine[Any, Any, None]]:
        return [self._beat(link), self._speak(link, steering)]

    async def _stopped(self, link: Link, hearing: asyncio.Task[dict[str, Any]]) -> Outcome:
        """Stop it, and let the cancellation through only when the far side says that nothing is left."""
        with contextlib.suppress(Lost, TimeoutError):
            async with asyncio.timeout(STOP_S):
                await link.send(b"C")
                outcome = await self._ended(await asyncio.shield(hearing))
                if outcome.ending is Ending.CANCELLED:
                    raise asyncio.CancelledError
                return outcome
        return self._outcome(Ending.UNKNOWN, "connection_lost", "it was to be stopped, and no answer came", {})

    async def _hear(self, link: Link, on_event: OnEvent, steering: Steering | None) -> dict[str, Any]:
        """Take what comes, as fast as it is taken here, until the last word."""
        while True:
            letter, payload = await link.read()
            if letter == b"X":
                last = decoded(payload)
                if not isinstance(last, dict):
                    raise Lost
                return last
            if letter == b"c":
                self._ahead -= int(payload or b"0")
                self._taken.set()
            elif letter in _STREAMS:
                if steering is not None and not steering.has_room():
                    await steering.room()
                self._take(_STREAMS[letter], payload, on_event)
            else:
                raise Lost

    def _take(self, stream: str, piece: bytes, on_event: OnEvent) -> None:
        allowed = piece[: self._left]  # the far side keeps to the limit; this side does not rely on that
        self._left -= len(allowed)
        if allowed:
            self._outputs[stream].write(allowed)
            on_event(StreamEvent(stream=stream, data=allowed))
        if len(allowed) < len(piece):
            raise Lost

    async def _beat(self, link: Link) -> None:
        """Tell the far side that somebody is there. Without, it ends by itself."""
        with contextlib.suppress(Lost):
            while True:
                await asyncio.sleep(BEAT_S)
                await link.send(b"B")

    async def _speak(self, link: Link, steering: Steering | None) -> None:
        with contextlib.suppress(Lost):
            await self._input(link, self._order.stdin)
            if not self._order.stdin_open or steering is None:
                await link.send(b"E")
            while steering is not None:
                await self._say(link, await steering.word())

    async def _say(self, link: Link, word: Word) -> None:
        match word:
            case Input(data=data):
                await self._input(link, data)
            case EndInput():
                await link.send(b"E")
            case Signal(name=name):
                await link.send(b"K", name.encode())
            case Resize(rows=rows, columns=columns):
                await link.send(b"Z", json.dumps([rows, columns]).encode())

    async def _input(self, link: Link, data: bytes) -> None:
        """Send input, at most `INPUT_AHEAD_BYTES` more than the program has taken."""
        for start in range(0, len(data), INPUT_PIECE_BYTES):
            while self._ahead >= INPUT_AHEAD_BYTES:
                self._taken.clear()
                await self._taken.wait()
            piece = data[start : start + INPUT_PIECE_BYTES]
            self._ahead += len(piece)
            await link.send(b"I", piece)

    def _specification(self) -> dict[str, Any]:
        order, limits = self._order, self._order.limits
        base = {**_BASE, "HOME": self._access.workspace}
        if order.pty is not None:
            base["TERM"] = order.pty.term
        return {
            "argv": list(order.argv), "workspace": self._access.workspace, "cwd": order.cwd,
            "env": {**base, **order.env},
            "pty": {"rows": order.pty.rows, "columns": order.pty.columns} if order.pty is not None else None,
            "limits": {name: getattr(limits, name) for name in limits.__struct_fields__},
        }  # fmt: skip

    async def _ended(self, last: dict[str, Any]) -> Outcome:
        for output in self._outputs.values():
            await output.keep()
        ending, code, limit, message = told(last, program=self._order.argv[0], cpu_s_max=self._order.limits.cpu_s_max)
        self._facts |= {"exit": last.get("exit"), "signal": last.get("signal"), "rusage": last.get("rusage") or {}}
        return self._outcome(ending, code, message, last, limit=limit)

    def _outcome(self, ending: Ending, code: str, message: str, last: dict[str, Any], *, limit: str = "") -> Outcome:
        outputs = self._outputs if self._went else {}
        value = {"exit": last.get("exit"), "signal": last.get("signal")} if self._went else {}
        return Outcome(
            ending=ending,
            code=code,
            message=message,
            value={**value, **{name: output.value for name, output in outputs.items()}},
            evidence=Evidence(
                lane=NAME,
                attestation=self._attestation,
                started_at_ms=self._started_ms,
                ended_at_ms=self._clock.now_ms(),
                limit=limit,
                digests={name: output.digest for name, output in outputs.items()},
                facts=self._facts,
            ),
        )


async def _certainly(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end however often this is cancelled meanwhile."""
    doing = asyncio.ensure_future(work)  # noqa: TID251 (awaited in any case)
    while not doing.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([doing])
    return doing.result()
