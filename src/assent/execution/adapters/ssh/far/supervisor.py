"""The far side of an SSH target: starts one program, hands its streams over, and leaves nothing of it behind.

This file and its siblings are sent as they are to `python3 -I` on the far host, so they know the standard library and
nothing else. They speak frames on their standard streams (see `wire`):

    here → there   S specification (JSON)   G go   I input   E end of input   K signal   Z size   C cancel   B beat
    there → here   H what this host is (JSON)   R ready, and what was read (JSON)   F fault (JSON)
                   o e pieces of output   c input taken (number)   X how it ended (JSON)

The program waits, confined as far as this host does it without privileges, until G: what was read of it is judged on
the other side first. This process is the reaper of everything the program starts, however it was started, so the whole
tree is found and killed when the program ends, on C, and when the connection ends: at the end of standard input, at a
hang-up, or when no beat came for `BEAT_S`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

from assent.execution.adapters.ssh.far.program import Program
from assent.execution.adapters.ssh.far.tree import become_reaper, host_facts, kill_tree, name_of
from assent.execution.adapters.ssh.far.wire import FRAME_BYTES_MAX, PIECE_BYTES, Lost, Wire

PENDING_BYTES_MAX = 262_144
BEAT_S = 20.0
SPECIFICATION_S = 20.0
POLL_MS = 200


class Run:
    """From the specification to the last word."""

    def __init__(self, wire: Wire, wake: int) -> None:
        self._wire, self._wake = wire, wake
        self._program: Program | None = None
        self._input = bytearray()
        self._ends_input = False
        self._limit = ""
        self._left = 0
        self._deadline = time.monotonic() + SPECIFICATION_S
        self._kill_at = 0.0
        self._over = self._went = self._dead = False

    def until_the_end(self) -> None:
        while not (self._over and not self._outputs()):
            self._wait()
            self._reap()
            self._watch_time()
        self._wire.tell(b"X", self._ending())
        self._wire.flush(BEAT_S)

    def _outputs(self) -> dict[int, bytes]:
        return self._program.outputs if self._program else {}

    def _wait(self) -> None:
        """Wait for whatever comes first, and serve all that came."""
        program, over = self._program, self._over
        takes = program is not None and self._went and len(self._wire.pending) < PENDING_BYTES_MAX
        ready = self._poll(program, takes=takes)
        if self._wake in ready:
            os.read(self._wake, 512)
        self._hear(ready.get(0, 0))
        if program is not None and takes:
            for fd in list(program.outputs):
                if fd in ready:
                    self._take(program, fd)
                elif over:  # everybody who could write is dead, and the pipe is empty
                    program.close(fd)
        if program is not None and self._input and ready.get(program.input):
            self._feed(program)
        self._wire.write()

    def _poll(self, program: Program | None, *, takes: bool) -> dict[int, int]:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        if self._wire.pending:
            poll.register(1, select.POLLOUT)
        if program is not None and self._went:
            for fd in program.outputs if takes else ():
                poll.register(fd, select.POLLIN)
            if self._input and program.input >= 0:
                poll.register(program.input, select.POLLOUT)
        return dict(poll.poll(POLL_MS))

    def _hear(self, came: int) -> None:
        if came & (select.POLLHUP | select.POLLERR) and not came & select.POLLIN:
            raise Lost
        if came:
            for letter, payload in self._wire.read():
                self._obey(letter, payload)
        if time.monotonic() - self._wire.heard_at > BEAT_S:
            raise Lost

    def _obey(self, letter: bytes, payload: bytes) -> None:
        program = self._program
        if letter == b"S" and program is None:
            self._make(json.loads(payload))
        elif letter == b"C":
            self._kill("cancelled")
        elif program is not None:
            self._steer(program, letter, payload)

    def _steer(self, program: Program, letter: bytes, payload: bytes) -> None:
        if letter == b"G":
            self._went = True
            program.go()
        elif letter == b"I":
            self._input += payload
            if len(self._input) > PENDING_BYTES_MAX + FRAME_BYTES_MAX:
                raise Lost
        elif letter == b"E":
            self._ends_input = True
            if not self._input:
                program.end_input()
        elif letter == b"K":
            program.signal(payload.decode())
        elif letter == b"Z":
            program.resize(*json.loads(payload))

    def _make(self, spec: dict[str, Any]) -> None:
        self._left = spec["limits"]["output_bytes_max"]
        self._program = Program(spec)
        if self._program.fault is None:
            self._deadline = time.monotonic() + spec["limits"]["wall_ms"] / 1000
            self._wire.tell(b"R", self._program.observed())
        else:
            self._wire.tell(b"F", self._program.fault)
            self._wire.flush(2.0)
            raise Lost

    def _take(self, program: Program, fd: int) -> None:
        try:
            piece = os.read(fd, PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose other side is closed
            piece = b""
        if not piece:
            program.close(fd)
            return
        allowed = piece[: self._left]
        self._left -= len(allowed)
        if allowed:
            self._wire.say(program.outputs[fd], allowed)
        if len(allowed) < len(piece):
            self._kill("output")

    def _feed(self, program: Program) -> None:
        try:
            taken = os.write(program.input, self._input[:PIECE_BYTES])
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            taken = len(self._input)
        del self._input[:taken]
        self._wire.say(b"c", b"%d" % taken)
        if self._ends_input and not self._input:
            program.end_input()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self._program is not None and pid == self._program.pid:
                    self._program.status = status
                    self._program.rusage = {
                        "user_us": int(usage.ru_utime * 1e6), "system_us": int(usage.ru_stime * 1e6),
                        "maxrss_kb": usage.ru_maxrss,
                    }  # fmt: skip
                    self._finish()

    def _watch_time(self) -> None:
        now = time.monotonic()
        if self._over:
            return
        if self._program is None or not self._went:
            if now > self._deadline:
                raise Lost
        elif self._kill_at and now > self._kill_at:
            self._kill("wall")
        elif not self._kill_at and now > self._deadline:
            self._limit = self._limit or "wall"
            self._program.signal("TERM")
            self._kill_at = now + self._program.spec["limits"]["grace_ms"] / 1000

    def _kill(self, why: str) -> None:
        self._limit = self._limit or why
        self._finish()

    def _finish(self) -> None:
        """The program is over, or made to be: nothing that it started outlives it."""
        if not self._over:
            self._over = True
            self._dead = kill_tree()
            self._reap()
            if not self._went:
                self._outputs().clear()

    def _ending(self) -> dict[str, Any]:
        program = self._program
        status = program.status if program is not None else None
        code = os.waitstatus_to_exitcode(status) if status is not None else None
        return {
            "exit": code if code is not None and code >= 0 else None,
            "signal": name_of(-code) if code is not None and code < 0 else None,
            "limit": self._limit, "dead": self._dead, "went": self._went,
            "fault": program.fault if program is not None else None,
            "rusage": program.rusage if program is not None else {},
        }  # fmt: skip


def main() -> None:
    """Serve one program, and end."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    wake, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    become_reaper()
    os.umask(0o077)
    wire = Wire()
    wire.tell(b"H", host_facts())
    try:
        Run(wire, wake).until_the_end()
    except Lost:
        kill_tree()
        sys.exit(1)
    except BaseException:
        kill_tree()
        raise
