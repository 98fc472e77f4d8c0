"""Moves descriptors to the row from 3 up, which is all that an OCI runtime passes on, and becomes the runtime."""

from __future__ import annotations

import os

FIRST = 3


def main(arguments: list[str]) -> None:
    """`arguments`: descriptors, none of them within the row that they are moved to; `--`; the command."""
    at = arguments.index("--")
    for place, fd in enumerate(arguments[:at], start=FIRST):
        os.dup2(int(fd), place)
        os.close(int(fd))
    os.execv(arguments[at + 1], arguments[at + 1 :])  # noqa: S606 - this is the point
