"""One call of an interpreter: the request goes in, items and output come up under credit, one end is believed.

Every stop goes down one ladder: SIGINT, which the caller's code sees as KeyboardInterrupt, `grace_ms` to obey it, then
the kill of everybody inside. What the supervisor believes is a frame with this call's nonce and nothing else; any other
frame ends the worker (`broken`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from assent.execution.adapters.sandboxes import frames
from assent.execution.adapters.sandboxes.keeping import Keeper
from assent.execution.adapters.sandboxes.supervision import DEATH_WAIT_S
from assent.execution.adapters.sandboxes.workers import Pulse, Worker
from assent.execution.orders import Limits
from assent.execution.outcomes import StreamEvent
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.steering import Signal
from assent.primitives.canonical import parse
from assent.primitives.clock import Clock
from assent.primitives.errors import Malformed

PULSE_S = 0.25
OUTPUT_AFTER_S = 0.002  # a call that ends before has its output read once, at its end
_WAITING_FRAMES_MAX = 8
_END_BYTES_MAX = 1_048_576


class Said(msgspec.Struct, kw_only=True):
    """What came of a call. `end` is the interpreter's own word, None when it never came.

    `limit` is the limit for which the supervisor stopped it, `broken` what was wrong with a frame, `dead` whether the
    worker is. `report` is the warden's last word. `still_ms` is for how long nothing of Python ran.
    """

    end: dict[str, Any] | None = None
    limit: str = ""
    broken: str = ""
    dead: bool = False
    report: str | None = None
    still_ms: int = 0
    items: int = 0
    stray_bytes: int = 0


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
        self._channel_fd = worker.ends.channel.fileno()
        self._on_event, self._steering = on_event, steering
        self._cpu_watched = cpu_watched
        self.kept = {name: Keeper(artefacts) for name in ("stdout", "stderr", "items", "result")}
        self._left_bytes = limits.output_bytes_max
        self._said = Said()
        self._frames: deque[frames.Frame] = deque()
        self._news = asyncio.Event()
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._reading: set[str] = set()
        self._closed = self._held = self._muted = self._unproved = False

    async def run(self, request: bytes, *, wall_left_ms: int, last: bool) -> Said:
        """Make the call. With `last` the worker's end is waited for too.

        Raises:
            asyncio.CancelledError: the call was given up; it was stopped, or the worker is being killed.
        """
        self._begin(wall_left_ms)
        try:
            await self._say(frames.packed(frames.CALL, self._nonce, request))
            await self._hear(last=last)
        except asyncio.CancelledError:
            await self._stop(last=last)
            for keeper in self.kept.values():
                keeper.close()
            raise
        except (frames.FrameBroken, Malformed, ValueError) as error:
            self._said.broken = str(error)[:200] or type(error).__name__
            await self._give_up_on_it()
        finally:
            self._end()
        for keeper in self.kept.values():
            await keeper.keep()
        return self._said

    # Beginning and end

    def _begin(self, wall_left_ms: int) -> None:
        self._skip_strays()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel_fd, self._read_channel)
        self._later(OUTPUT_AFTER_S, self._read_outputs)
        self._worker.on_death = self._news.set
        self._later(wall_left_ms / 1000, partial(self._stop_for, "wall"))
        self._pulse: Pulse | None = None
        self._spent_before_s = 0.0
        self._still_since_ns = self._clock.monotonic_ns()
        self._later(PULSE_S, self._look)
        if self._steering is not None:
            self._tasks.append(asyncio.create_task(self._obey(self._steering)))

    def _end(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._closed:
            loop.remove_reader(self._channel_fd)
        for name in list(self._reading):
            self._pause(name)
        self._worker.on_death = lambda: None
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()

    def _skip_strays(self) -> None:
        """What came between two calls belongs to none: output is dropped, a frame is a forgery."""
        for fd in self._worker.ends.outputs.values():
            while piece := _read(fd):
                self._said.stray_bytes += len(piece)
                if self._said.stray_bytes > self._limits.output_bytes_max:
                    break

    # Talking

    async def _say(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._worker.ends.channel, data)
        except OSError:
            self._closed_by_them()

    async def _hear(self, *, last: bool) -> None:
        while True:
            while self._frames:
                frame = self._frames.popleft()
                self._resume_channel()
                await self._take(frame)
                if frame.kind == frames.END and not last:
                    await self._drain()
                    return
            if self._worker.dead.done():
                self._last_words()
                if not self._frames:
                    await self._drain()
                    return
                continue
            if self._unproved:
                return
            self._news.clear()
            await self._news.wait()

    async def _take(self, frame: frames.Frame) -> None:
        if frame.nonce != self._nonce:
            raise frames.FrameBroken("a frame of another call")
        if self._said.end is not None:
            raise frames.FrameBroken("a frame after the end")
        if frame.kind == frames.ITEM:
            await self._hand_up("items", frame.payload)
            self._said.items += 1
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
        if not isinstance(end, dict):
            raise frames.FrameBroken("an end that is no object")
        self._said.end = end
        if self.kept["result"].bytes == 0:
            self._keep("result", rest[size:])

    async def _stop(self, *, last: bool) -> None:
        """The asker gave up: down the ladder, until the worker is idle or dead."""
        self._muted = True
        self._stop_for("cancel")
        try:
            await self._hear(last=last)
        except (frames.FrameBroken, Malformed, ValueError):
            await self._give_up_on_it()
        except asyncio.CancelledError:  # twice: no more patience
            self._kill()
            raise

    async def _give_up_on_it(self) -> None:
        """Kill it and wait for its end, whatever it says meanwhile."""
        self._kill()
        while not (self._worker.dead.done() or self._unproved):
            self._news.clear()
            await self._news.wait()
        self._frames.clear()
        if self._worker.dead.done():
            self._last_words()

    # The channel

    def _read_channel(self) -> None:
        try:
            piece = self._worker.ends.channel.recv(frames.PIECE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._closed_by_them()
            return
        self._worker.buffer += piece
        self._parse()
        if len(self._frames) > _WAITING_FRAMES_MAX and not self._held:
            self._held = True
            asyncio.get_running_loop().remove_reader(self._channel_fd)

    def _parse(self) -> None:
        try:
            while frame := frames.taken(self._worker.buffer, payload_bytes_max=_END_BYTES_MAX):
                self._frames.append(frame)
        except frames.FrameBroken:
            self._worker.buffer.clear()
            self._frames.append(frames.Frame(b"?", frames.NO_NONCE, b""))
        self._news.set()

    def _resume_channel(self) -> None:
        if self._held and not self._closed and len(self._frames) <= _WAITING_FRAMES_MAX // 2:
            self._held = False
            asyncio.get_running_loop().add_reader(self._channel_fd, self._read_channel)

    def _closed_by_them(self) -> None:
        """The socket is shut: the interpreter is about to be dead, or has lost it and cannot answer any more."""
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().remove_reader(self._channel_fd)
            self._later(max(1.0, self._limits.grace_ms / 1000), self._kill)
            self._news.set()

    def _last_words(self) -> None:
        """The worker is dead: what its socket, its gate and its pipes still hold."""
        self._said.dead = True
        while not self._closed:
            self._read_channel()
            if not self._frames and not self._closed:
                break
        while (word := self._worker.launch.gate.word_now()) is not None and word.letter:
            if word.letter == "E":
                self._said.report = word.text

    # Output

    def _read_outputs(self) -> None:
        loop = asyncio.get_running_loop()
        for name, fd in self._worker.ends.outputs.items():
            if name not in self._reading:
                self._reading.add(name)
                loop.add_reader(fd, partial(self._read_output, name))

    def _pause(self, name: str) -> None:
        self._reading.discard(name)
        asyncio.get_running_loop().remove_reader(self._worker.ends.outputs[name])

    def _read_output(self, name: str) -> None:
        if self._steering is not None and not self._muted and not self._steering.has_room():
            for one in list(self._reading):
                self._pause(one)
            self._tasks.append(asyncio.create_task(self._resume_with_room(self._steering)))
            return
        piece = _read(self._worker.ends.outputs[name])
        if piece == b"":
            self._pause(name)
        elif piece:
            self._pass(name, piece)

    async def _resume_with_room(self, steering: Steering) -> None:
        await steering.room()
        self._read_outputs()

    async def _drain(self) -> None:
        """Everything written before the end is in the pipes already."""
        for name in list(self._reading):
            self._pause(name)
        for name, fd in self._worker.ends.outputs.items():
            while self._left_bytes > 0 and (piece := _read(fd)):
                await self._hand_up(name, piece)

    async def _hand_up(self, name: str, data: bytes) -> None:
        if self._steering is not None and not self._muted and not self._steering.has_room():
            await self._steering.room()
        self._pass(name, data)

    def _pass(self, name: str, data: bytes) -> None:
        allowed = self._keep(name, data)
        if allowed and not self._muted:
            self._on_event(StreamEvent(stream="item" if name == "items" else name, data=allowed))

    def _keep(self, name: str, data: bytes) -> bytes:
        allowed = data[: self._left_bytes]
        self._left_bytes -= len(allowed)
        self.kept[name].write(allowed + (b"\n" if name == "items" else b""))
        if len(allowed) < len(data):
            self._said.limit = self._said.limit or "output"
            self._kill()
        return allowed

    # Stopping and looking

    async def _obey(self, steering: Steering) -> None:
        while True:
            word = await steering.word()
            if isinstance(word, Signal):
                self._worker.interrupt(getattr(signal, f"SIG{word.name}"))

    def _stop_for(self, limit: str) -> None:
        self._said.limit = self._said.limit or limit
        self._worker.interrupt()
        self._later(self._limits.grace_ms / 1000, self._kill)

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
            self._said.limit = self._said.limit or "cpu"
            self._kill()
        self._later(PULSE_S, self._look)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, action))


async def proved_idle(worker: Worker, *, nonce: bytes, tasks_max: int, wait_s: float) -> bool:
    """Whether the interpreter answers, within `wait_s`, that nothing of the last call is left running."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(wait_s):
            await loop.sock_sendall(worker.ends.channel, frames.packed(frames.PING, nonce, b""))
            while True:
                frame = frames.taken(worker.buffer, payload_bytes_max=frames.PIECE_BYTES_MAX)
                if frame is not None:
                    break
                piece = await loop.sock_recv(worker.ends.channel, frames.PIECE_BYTES_MAX)
                if not piece:
                    return False
                worker.buffer += piece
        answer = parse(frame.payload)
    except (TimeoutError, OSError, frames.FrameBroken, Malformed):
        return False
    tasks = answer.get("tasks") if isinstance(answer, dict) else None
    return frame[:2] == (frames.PONG, nonce) and isinstance(tasks, int) and tasks <= tasks_max


def _read(fd: int) -> bytes | None:
    """A piece; empty at the end, None when nothing is there now."""
    try:
        return os.read(fd, frames.PIECE_BYTES_MAX)
    except BlockingIOError:
        return None
