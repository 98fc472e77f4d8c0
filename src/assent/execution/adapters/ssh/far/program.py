"""The program: made, held back until it may go, then run."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import struct
import termios
from typing import Any

from assent.execution.adapters.ssh.far.tree import limits_of

_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38
_libc = ctypes.CDLL(None, use_errno=True)


class Program:
    """The program: made and held back, then let go."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.status: int | None = None
        self.rusage: dict[str, int] = {}
        self._terminal = -1
        inner = self._streams()
        self._go_read, self._go = os.pipe()
        self._word, word = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._child(inner, word)
        for fd in (*set(inner), self._go_read, word):
            os.close(fd)
        self.fault = self._heard()
        for fd in (*self.outputs, self.input):
            if fd >= 0:
                os.set_blocking(fd, False)

    def _streams(self) -> list[int]:
        """The three descriptors that go inside; ours are `input` and `outputs`."""
        size = self.spec.get("pty")
        if size:
            ours, theirs = os.openpty()
            self._terminal, self.outputs, self.input = ours, {ours: b"o"}, os.dup(ours)
            self.resize(size["rows"], size["columns"])
            return [theirs, theirs, theirs]
        stdin, self.input = os.pipe()
        out, stdout = os.pipe()
        err, stderr = os.pipe()
        self.outputs = {out: b"o", err: b"e"}
        return [stdin, stdout, stderr]

    def _child(self, inner: list[int], word: int) -> None:
        """Become the program. Whatever fails is said on `word` as an error number and where it was."""
        step = "session"
        try:
            os.setsid()
            _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if self._terminal >= 0:
                fcntl.ioctl(inner[0], termios.TIOCSCTTY, 0)
            inner, word = [os.dup2(fd, 100 + at) for at, fd in enumerate(inner)], os.dup2(word, 110)
            go = os.dup2(self._go_read, 111)
            for at, fd in enumerate(inner):
                os.dup2(fd, at, inheritable=True)
            os.closerange(3, 110)
            step = "workspace"
            os.chdir(os.path.realpath(self.spec["workspace"]))
            os.chdir(self.spec["cwd"])
            home = os.path.realpath(self.spec["workspace"])
            if os.path.commonpath([home, os.getcwd()]) != home:
                os.write(word, b"workspace 1")
                os._exit(127)
            step = "limits"
            for name, amount in limits_of(self.spec).items():
                number = getattr(resource, name)
                most = resource.getrlimit(number)[1]
                soft = amount if most < 0 else min(amount, most)
                hard = soft + (name == "RLIMIT_CPU")  # a second between the signal that names the limit and the kill
                resource.setrlimit(number, (soft, hard if most < 0 else min(hard, most)))
            step = "privileges"
            if _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
                os.write(word, b"privileges %d" % ctypes.get_errno())
                os._exit(127)
            for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.write(word, b"ready 0")
            if os.read(go, 1) != b"G":
                os._exit(0)
            step = "program"
            os.set_inheritable(word, False)
            os.set_inheritable(go, False)
            os.execvpe(self.spec["argv"][0], self.spec["argv"], self.spec["env"])  # noqa: S606 (that is the point)
        except OSError as error:
            os.write(word, b"%s %d" % (step.encode(), error.errno or 1))
        finally:
            os._exit(127)

    def _heard(self) -> tuple[str, int] | None:
        """The child's next word: None when it says that it is ready, or when execve took its place."""
        text = os.read(self._word, 100).decode()
        step, _, number = text.partition(" ")
        return (step, int(number)) if text and step != "ready" else None

    def observed(self) -> dict[str, Any]:
        """What the kernel says about the waiting process."""
        with open(f"/proc/{self.pid}/status") as file:
            status = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
        with open(f"/proc/{self.pid}/limits") as file:
            limits = [line.split("  ")[0].strip() for line in file.read().splitlines()[1:]]
        return {
            "pid": self.pid, "uid": int(status["Uid"].split()[1]), "limits": len(limits), "cwd": os.getcwd(),
            "no_new_privs": status.get("NoNewPrivs", "?").strip(), "seccomp": status.get("Seccomp", "?").strip(),
            "capabilities": status.get("CapEff", "?").strip(),
        }  # fmt: skip

    def go(self) -> None:
        """Let it go, and hear whether it could be started."""
        os.write(self._go, b"G")
        self.fault = self._heard()

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        if self._terminal >= 0:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self, fd: int) -> None:
        """Take nothing more from one of the outputs."""
        del self.outputs[fd]
        os.close(fd)

    def end_input(self) -> None:
        """Close standard input, or send the terminal its end-of-file character."""
        if self._terminal >= 0:
            with contextlib.suppress(OSError):
                os.write(self._terminal, b"\x04")
        elif self.input >= 0:
            os.close(self.input)
            self.input = -1

    def signal(self, name: str) -> None:
        """Send a signal to its process group."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, getattr(signal, "SIG" + name))
