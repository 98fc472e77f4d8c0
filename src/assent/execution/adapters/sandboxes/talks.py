"""One call of an interpreter: the request goes in, items and output come up under credit, one end is believed.

Every stop goes down one ladder: SIGINT, which the caller's code sees as KeyboardInterrupt, `grace_ms` to obey it, then
the kill of everybody inside. What the supervisor believes is a frame with this call's nonce and nothing else; any other
frame ends the worker (`broken`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from assent.execution.adapters.sandboxes import frames
from assent.execution.adapters.sandboxes.gate import settle
from assent.execution.adapters.sandboxes.image import folder_inside
from assent.execution.adapters.sandboxes.keeping import Keeper
from assent.execution.adapters.sandboxes.supervision import DEATH_WAIT_S
from assent.execution.adapters.sandboxes.taps import Allowance, Outlet
from assent.execution.adapters.sandboxes.workers import Pulse, Worker
from assent.execution.orders import Limits, ProcessOrder
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.steering import Signal
from assent.primitives.canonical import parse
from assent.primitives.clock import Clock
from assent.primitives.errors import InvariantBroken, Malformed

PULSE_S = 0.25
OUTPUT_AFTER_S = 0.002  # a call that ends before has its output read once, at its end
CLOSED_GRACE_S = 1.0  # between the end of the socket and the end of the process; finishing takes no longer
_STREAM_OF = {"items": "item"}


def requested(
    program: ProcessOrder,
    *,
    source: str,
    function: str,
    arguments: dict[str, Any],
    last: bool,
    preload: tuple[str, ...] = (),
    env: Mapping[str, str] = MappingProxyType({}),
    reprs: bool = True,
) -> bytes:
    """What an interpreter that was built for `program` is sent. `last`: it ends after this call."""
    call = {
        "source": source, "function": function, "arguments": arguments, "preload": preload, "env": dict(env),
        "reprs": reprs, "workspace": f"{folder_inside(program)}/", "last": last,
        "result_bytes_max": program.limits.output_bytes_max,
    }  # fmt: skip
    return json.dumps(call, ensure_ascii=True).encode("ascii")


class Said(msgspec.Struct, kw_only=True):
    """What came of a call. `end` is the interpreter's own word, None when it never came.

    `limit` is the limit for which the supervisor stopped it, `broken` what was wrong with a frame, `dead` whether the
    worker is. `report` is the warden's last word. `still_ms` is for how long nothing of Python ran, `stray_bytes` what
    was written between the last call and this one, `withheld_bytes` output that was kept and not handed up any more.
    """

    end: dict[str, Any] | None = None
    limit: str = ""
    broken: str = ""
    dead: bool = False
    report: str | None = None
    still_ms: int = 0
    stray_bytes: int = 0
    withheld_bytes: int = 0


class Talk:
    """Drives one call on a worker that has been let go."""

    def __init__(
        self,
        worker: Worker,
        *,
        nonce: bytes,
        limits: Limits,
        clock: Clock,
        on_event: OnEvent,
        steering: Steering | None,
        artefacts: Artefacts | None = None,
        cpu_watched: bool = False,
    ) -> None:
        self._worker, self._nonce, self._limits, self._clock = worker, nonce, limits, clock
        self._steering, self._cpu_watched = steering, cpu_watched
        self._outlet = Outlet(on_event, steering)
        self._allowance = Allowance(bytes_max=limits.output_bytes_max, exceeded=partial(self._exceed, "output"))
        self.kept = {name: Keeper(artefacts) for name in ("stdout", "stderr", "items", "result")}
        self._said = Said()
        self._news = asyncio.Event()
        self._timers: list[asyncio.TimerHandle] = []
        self._listening: asyncio.Future[None] | None = None
        self._reading: set[str] = set()
        self._over = self._closing = self._unproved = False
        self._fault: BaseException | None = None

    async def run(self, request: bytes, *, wall_left_ms: int, last: bool) -> Said:
        """Make the call. With `last` the worker's end is waited for too.

        Raises:
            InvariantBroken: the steering raised; the worker was ended.
            asyncio.CancelledError: the call was given up; it was stopped, or the worker is being killed.
        """
        self._begin(wall_left_ms)
        try:
            await self._worker.channel.send(frames.CALL, self._nonce, request)
            await self._hear(last=last)
        except asyncio.CancelledError:
            await self._stop(last=last)
            for keeper in self.kept.values():
                keeper.close()
            raise
        finally:
            self._finish()
        if self._fault is not None:
            raise InvariantBroken("steering_broken", f"the steering raised: {self._fault!r}") from self._fault
        for keeper in self.kept.values():
            await keeper.keep()
        return self._said

    # Beginning and end

    def _begin(self, wall_left_ms: int) -> None:
        self._said.stray_bytes = sum(map(_emptied, self._worker.ends.outputs.values()))
        self._worker.channel.hear(self._news.set)
        self._worker.on_death = self._news.set
        self._later(wall_left_ms / 1000, partial(self._stop_for, "wall"))
        self._later(OUTPUT_AFTER_S, self._read_outputs)
        self._later(PULSE_S, self._look)
        self._pulse: Pulse | None = None
        self._spent_before_s = 0.0
        self._still_since_ns = self._clock.monotonic_ns()
        if self._steering is not None:
            self._listening = asyncio.ensure_future(self._obey(self._steering))
            self._listening.add_done_callback(self._heard)

    def _finish(self) -> None:
        self._over = True
        self._worker.channel.rest()
        self._pause()
        self._worker.on_death = _nothing
        self._said.withheld_bytes = self._outlet.withheld_bytes
        self._outlet.shut()
        for timer in self._timers:
            timer.cancel()
        if self._listening is not None:
            self._listening.cancel()

    # What the interpreter says

    async def _hear(self, *, last: bool) -> None:
        try:
            await self._take_all(last=last)
        except (frames.FrameBroken, Malformed, ValueError) as error:
            self._said.broken = str(error)[:200]
            await self._give_up_on_it()

    async def _take_all(self, *, last: bool) -> None:
        while True:
            while frame := self._worker.channel.take():
                await self._take(frame)
                if frame.kind == frames.END and not last:
                    await self._drain()
                    return
            if self._worker.dead.done():
                self._said.dead = True
                self._worker.channel.read_to_the_end()
                if frame := self._worker.channel.take():
                    await self._take(frame)
                    continue
                self._said.report = self._worker.report()
                await self._drain()
                return
            if self._unproved:
                return
            if self._worker.channel.closed and not self._closing:
                self._closing = True  # it is about to be dead, or has lost its socket and cannot answer any more
                self._later(CLOSED_GRACE_S, self._kill)
            self._news.clear()
            await self._news.wait()

    async def _take(self, frame: frames.Frame) -> None:
        if frame.nonce != self._nonce:
            raise frames.FrameBroken("a frame of another call")
        if self._said.end is not None:
            raise frames.FrameBroken("a frame after the end")
        if frame.kind == frames.ITEM:
            await self._room()
            if len(frame.payload) <= self._allowance.left_bytes:
                self._pass("items", frame.payload)
            else:  # whole or not at all
                self._exceed("output")
        elif frame.kind == frames.PIECE:
            self._keep("result", frame.payload)
        elif frame.kind == frames.END:
            self._believe(frame.payload)
        else:
            raise frames.FrameBroken("a frame of no kind")

    def _believe(self, payload: bytes) -> None:
        length, _, rest = payload.partition(b":")
        size = int(length)
        end = parse(rest[:size])
        if not isinstance(end, dict) or not isinstance(end.get("tasks"), int):
            raise frames.FrameBroken("an end that is none")
        self._said.end = end
        if self.kept["result"].bytes == 0:
            self._keep("result", rest[size:])

    async def _stop(self, *, last: bool) -> None:
        """The asker gave up: down the ladder, until the worker is idle or dead."""
        self._outlet.shut()
        self._stop_for("cancel")
        try:
            await self._hear(last=last)
        except asyncio.CancelledError:  # twice: no more patience
            self._worker.kill()
            raise

    async def _give_up_on_it(self) -> None:
        """Kill it and wait for its end, whatever it says meanwhile."""
        self._outlet.shut()
        self._kill()
        while not (self._worker.dead.done() or self._unproved):
            self._news.clear()
            await self._news.wait()
        self._said.dead = self._worker.dead.done()
        self._said.report = self._worker.report()

    # Output

    def _read_outputs(self) -> None:
        loop = asyncio.get_running_loop()
        for name, fd in self._worker.ends.outputs.items():
            if not self._over and name not in self._reading:
                self._reading.add(name)
                loop.add_reader(fd, partial(self._read_output, name))

    def _pause(self) -> None:
        for name in self._reading:
            asyncio.get_running_loop().remove_reader(self._worker.ends.outputs[name])
        self._reading.clear()

    def _read_output(self, name: str) -> None:
        if not self._outlet.has_room:
            self._pause()
            self._outlet.when_room(self._read_outputs)
            return
        piece = _piece(self._worker.ends.outputs[name])
        if piece == b"":
            self._reading.discard(name)
            asyncio.get_running_loop().remove_reader(self._worker.ends.outputs[name])
        elif piece:
            self._pass(name, piece)

    async def _drain(self) -> None:
        """Everything that was written before the end is in the pipes already."""
        self._over = True
        self._pause()
        for name, fd in self._worker.ends.outputs.items():
            while self._allowance.left_bytes > 0 and (piece := _piece(fd)):
                await self._room()
                self._pass(name, piece)

    async def _room(self) -> None:
        if not self._outlet.has_room:
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._outlet.when_room(partial(settle, ready))
            await ready

    def _pass(self, name: str, data: bytes) -> None:
        allowed = self._keep(name, data)
        if allowed:
            self._outlet.give(_STREAM_OF.get(name, name), allowed)

    def _keep(self, name: str, data: bytes) -> bytes:
        allowed = self._allowance.take(data)
        self.kept[name].write(allowed + b"\n" if name == "items" else allowed)
        return allowed

    # Stopping and looking

    async def _obey(self, steering: Steering) -> None:
        while True:
            word = await steering.word()
            if isinstance(word, Signal):
                self._worker.launch.signal(word.name)

    def _heard(self, listening: asyncio.Future[None]) -> None:
        if not listening.cancelled() and listening.exception() is not None:
            self._fault = listening.exception()
            self._kill()

    def _stop_for(self, limit: str) -> None:
        self._said.limit = self._said.limit or limit
        self._outlet.shut()  # whoever takes no output cannot keep a call alive beyond its time
        self._worker.launch.signal("INT")
        self._later(self._limits.grace_ms / 1000, self._kill)

    def _exceed(self, limit: str) -> None:
        self._said.limit = self._said.limit or limit
        self._kill()

    def _kill(self) -> None:
        self._worker.kill()
        self._later(DEATH_WAIT_S, self._believe_no_more)

    def _believe_no_more(self) -> None:
        self._unproved = not self._worker.dead.done()
        self._news.set()

    def _look(self) -> None:
        """How it fares, and what it has spent since the first look, which most calls do not live to see."""
        pulse, now_ns = self._worker.pulse(), self._clock.monotonic_ns()
        spent_s = self._worker.spent_s() if self._cpu_watched else 0.0
        if self._pulse is None:
            self._spent_before_s = spent_s
        if self._pulse is None or pulse.beats != self._pulse.beats or pulse.beats == 0:
            self._still_since_ns = now_ns
        self._pulse = pulse
        self._said.still_ms = max(self._said.still_ms, (now_ns - self._still_since_ns) // 1_000_000)
        if spent_s - self._spent_before_s > self._limits.cpu_s_max:
            self._exceed("cpu")
        self._later(PULSE_S, self._look)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, action))


async def proved_idle(worker: Worker, *, nonce: bytes, tasks_max: int, wait_s: float) -> bool:
    """Whether the interpreter answers, within `wait_s`, that nothing of the last call is left running."""
    news = asyncio.Event()
    worker.channel.hear(news.set)
    try:
        async with asyncio.timeout(wait_s):
            await worker.channel.send(frames.PING, nonce, b"")
            while (frame := worker.channel.take()) is None and not worker.channel.closed:
                news.clear()
                await news.wait()
    except TimeoutError:
        return False
    finally:
        worker.channel.rest()
    if frame is None or frame[:2] != (frames.PONG, nonce):
        return False
    try:
        answer = parse(frame.payload)
    except Malformed:
        return False
    tasks = answer.get("tasks") if isinstance(answer, dict) else None
    return isinstance(tasks, int) and tasks <= tasks_max


def _piece(fd: int) -> bytes | None:
    """What is there; empty at the end, None when nothing is there now."""
    try:
        return os.read(fd, frames.PIECE_BYTES_MAX)
    except BlockingIOError:
        return None


def _emptied(fd: int) -> int:
    """Drop what is there, at most what a pipe holds; how much that was."""
    piece = _piece(fd)
    return len(piece) if piece else 0


def _nothing() -> None:
    return None
