"""A terminal of the program's own: a fresh pair of devices for each run, of which the program gets one end three times.

The pair is made by the supervisor, on the host. Inside, the end that was passed becomes the controlling terminal of the
program's new session, and `/dev/tty` is shown, which opens a process's own controlling terminal and nothing else. There
is no `/dev/pts` inside: neither this terminal's name nor anybody else's can be opened, and no further ones can be made.
So `tty` finds no name, and `/dev/stdin` cannot be opened again by path; `/dev/tty` can. The operator's own terminal is
never passed: a program could put words into its input (TIOCSTI), which the filter denies here on top.

The line discipline is the kernel's usual one: echo, lines, `^C` and `^D` as they are. It cuts lines of input longer
than 4,095 bytes as long as the program has not switched to raw mode. The process above the program holds the inner end
open too, so output ends with the sandbox, and not when a program lets go of its terminal for a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios

from assent.execution.orders import Pty
from assent.execution.steering import SignalName

ROWS_MAX = COLUMNS_MAX = 10_000
_TIOCSIG = 0x40045436  # not in the termios module: a signal for the foreground group, from the other end
_FOREGROUND: dict[SignalName, int] = {"INT": 2, "QUIT": 3}  # which is all that TIOCSIG sends, besides TSTP


class Terminal:
    """The supervisor's end of one terminal. It owns the descriptor; `slaves` are handed inside."""

    def __init__(self, pty: Pty) -> None:
        self._master, slave = os.openpty()
        self.slaves = [slave, os.dup(slave), os.dup(slave)]
        self.resize(pty.rows, pty.columns)

    def output(self) -> int:
        """A descriptor to read, for somebody who closes it."""
        return os.dup(self._master)

    input = output

    def resize(self, rows: int, columns: int) -> None:
        """Set the size; the foreground group is sent SIGWINCH when it is another one."""
        size = struct.pack("4H", min(max(rows, 1), ROWS_MAX), min(max(columns, 1), COLUMNS_MAX), 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def signal(self, name: SignalName) -> bool:
        """Send a signal to the foreground group; whether it is one that can be sent so."""
        number = _FOREGROUND.get(name)
        if number is not None:
            with contextlib.suppress(OSError):  # no session has it any more
                fcntl.ioctl(self._master, _TIOCSIG, number)
        return number is not None

    def end_of_input(self, last: bytes) -> bytes:
        """What ends the input after the byte `last`: twice within a line, where the first only sends the line."""
        settings = termios.tcgetattr(self._master)
        within_a_line = bool(settings[3] & termios.ICANON) and last not in (b"", b"\n", b"\r")
        character: bytes = settings[6][termios.VEOF]
        return character * (2 if within_a_line else 1)

    def close(self) -> None:
        """Hang up. Idempotent."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
