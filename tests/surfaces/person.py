"""Somebody at a real terminal."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time

DEADLINE_S = 60.0
AT_A_TERMINAL = (
    "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\nfrom assent.surfaces.cli.main import main; main()"
)


class Person:
    """Somebody at a terminal of their own, in which a command runs."""

    def __init__(self, *words: str, rows: int = 30, columns: int = 100) -> None:
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", AT_A_TERMINAL, *words], stdin=self.slave, stdout=self.slave, stderr=self.slave,
            start_new_session=True,
        )  # fmt: skip

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def sees(self, text: str) -> None:
        """Wait until `text` was shown."""
        end = time.monotonic() + DEADLINE_S
        while text.encode() not in self.seen:
            assert time.monotonic() < end, self.seen.decode(errors="replace")
            if select.select([self.master], [], [], 0.5)[0]:
                self.seen += os.read(self.master, 65_536)
            else:
                assert self.process.poll() is None, self.seen.decode(errors="replace")

    def leaves(self) -> int:
        """Wait for the end; the exit code."""
        end = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, self.seen.decode(errors="replace")
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65_536)
        while select.select([self.master], [], [], 0.1)[0]:
            self.seen += os.read(self.master, 65_536)
        return self.process.returncode

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for fd in (self.master, self.slave):
            os.close(fd)
