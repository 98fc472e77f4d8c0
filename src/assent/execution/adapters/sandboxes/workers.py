"""One interpreter in a sandbox, as its supervisor holds it: the launch, the socket, the output pipes, the pulse.

The end of a worker is the end of its process namespace, as for any program, noticed by pidfd the moment it happens.
How it fares meanwhile is read out of band, from /proc and from a counter that a thread inside keeps moving: an
interpreter that is busy in foreign code (and holds the interpreter lock) is *unresponsive*, not dead, and nobody kills
it for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Callable
from enum import StrEnum

import msgspec

from assent.execution.adapters.sandboxes.channels import Channel
from assent.execution.adapters.sandboxes.gate import settle
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.adapters.sandboxes.namespaces import Namespaces
from assent.execution.adapters.sandboxes.supervision import DEATH_WAIT_S
from assent.execution.attestations import Attestation
from assent.execution.orders import ProcessOrder

_BEAT_BYTES = 8
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Condition(StrEnum):
    """How an interpreter fares, as far as can be told without asking it."""

    IDLE = "idle"
    BUSY = "busy"
    UNRESPONSIVE = "unresponsive"  # it lives, and nothing of Python runs in it
    STOPPED = "stopped"  # by a signal
    DEAD = "dead"


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """One look from outside: the kernel's state letter, resident bytes, the counter (0 where there is none)."""

    state: str
    resident_bytes: int
    beats: int


class WorkerEnds:
    """The socket and the two pipes; `inner` are the ends that go inside (`ProgramEnds`)."""

    def __init__(self, *, beats: bool) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.channel = Channel(ours)
        self.inner = [theirs.detach()]
        self.outputs: dict[str, int] = {}
        for name in ("stdout", "stderr"):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reading, False)
            self.outputs[name] = reading
            self.inner.append(writing)
        self.beats = _counter() if beats else -1

    def handed_over(self) -> None:
        """See `ProgramEnds.handed_over`."""
        for fd in self.inner:
            os.close(fd)
        self.inner = []

    def close(self) -> None:
        """Close everything. Idempotent."""
        self.handed_over()
        self.channel.close()
        for fd in self.outputs.values():
            os.close(fd)
        self.outputs = {}
        if self.beats >= 0:
            os.close(self.beats)
            self.beats = -1


class Worker:
    """A launched interpreter. Made by `start`; it waits at its gate until `go`."""

    def __init__(self, mechanism: Namespaces, order: ProcessOrder, launch: Launch, ends: WorkerEnds) -> None:
        self.mechanism, self.order, self.launch, self.ends = mechanism, order, launch, ends
        self.channel = ends.channel
        self._watched = False
        self.dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_death: Callable[[], None] = lambda: None

    @classmethod
    async def start(cls, mechanism: Namespaces, order: ProcessOrder, *, beats: bool) -> Worker:
        """Build the sandbox and stop at its gate.

        Raises:
            Malformed: the order's workspace cannot be shown.
            Unavailable: it could not be built; nothing of anybody's code has run.
        """
        ends = WorkerEnds(beats=beats)
        try:
            launch = await mechanism.launch(order, ends, further=(ends.beats,) if beats else ())
        except BaseException:
            ends.close()
            raise
        worker = cls(mechanism, order, launch, ends)
        worker._watch()
        return worker

    def attestation(self) -> Attestation:
        """What is true of it now, read from outside."""
        return self.mechanism.attest(self.launch, self.order)

    def report(self) -> str | None:
        """The warden's last word, once it is dead. To be asked once."""
        report = None
        while (word := self.launch.gate.word_now()) is not None and word.letter:
            report = word.text if word.letter == "E" else report
        return report

    def kill(self) -> None:
        """End everybody inside, now."""
        self.launch.kill()

    async def end(self) -> bool:
        """End everybody inside and close everything; whether the proof of death came. Idempotent."""
        self.on_death = lambda: None
        if not self.dead.done():
            self.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DEATH_WAIT_S):
                    await asyncio.shield(self.dead)
        self._close()
        return self.dead.done() and not self.dead.cancelled()

    def bury(self) -> None:
        """Close everything of a worker that is dead. Idempotent."""
        self._close()

    def pulse(self) -> Pulse:
        """Look at it."""
        state, resident_bytes = _state(self.launch.program_pid)
        beats = int.from_bytes(os.pread(self.ends.beats, _BEAT_BYTES, 0), "little") if self.ends.beats >= 0 else 0
        return Pulse(state="X" if self.dead.done() else state, resident_bytes=resident_bytes, beats=beats)

    def spent_s(self) -> float:
        """Processor time of everything inside so far."""
        return sum(map(_ticks, _tree(self.launch.init_pid))) / _TICKS_PER_S

    def _watch(self) -> None:
        asyncio.get_running_loop().add_reader(self.launch.init_pidfd, self._died)
        self._watched = True

    def _died(self) -> None:
        self._unwatch()
        settle(self.dead)
        self.on_death()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            asyncio.get_running_loop().remove_reader(self.launch.init_pidfd)

    def _close(self) -> None:
        self._unwatch()
        self.launch.close()
        self.ends.close()


def _counter() -> int:
    """Eight bytes that both sides see; its size is sealed, so that looking at it cannot fail."""
    fd = os.memfd_create("beats", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _BEAT_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _state(pid: int) -> tuple[str, int]:
    fields = _fields(pid)
    return (fields[0].decode(), int(fields[21]) * _PAGE_BYTES) if fields else ("X", 0)


def _ticks(pid: int) -> int:
    fields = _fields(pid)
    return sum(map(int, fields[11:15])) if fields else 0


def _fields(pid: int) -> list[bytes]:
    """What follows the name in /proc/PID/stat."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _tree(root: int) -> list[int]:
    """`root` and everything below it."""
    found, at = [root], 0
    while at < len(found):
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{found[at]}/task"):
                with open(f"/proc/{found[at]}/task/{task}/children", "rb") as file:
                    found += map(int, file.read().split())
        at += 1
    return found
