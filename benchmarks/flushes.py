"""Counting flushes: what a program asked the kernel to make durable, during the stretch that matters.

With `strace` the calls themselves are counted (fdatasync, fsync, msync, sync_file_range of every thread), by their time
stamps, so that setting up does not count. Tracing slows those calls a little and nothing else (`--seccomp-bpf`); since
a slower flush gathers a larger group, the same program is also run untraced, and the commits it counted itself stand
beside the flushes. Without `strace` there is a lower bound that needs nothing: a commit in WAL mode with
synchronous=FULL flushes once, and each checkpoint, which the WAL's own header counts, flushes three times more.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

FLUSHES = ("fdatasync", "fsync", "msync", "sync_file_range", "sync", "syncfs")
CHECKPOINT_FLUSHES = 3  # the WAL before, the file after, the WAL's new header
_LINE = re.compile(rf"\d+ +(\d+\.\d+) (?:{'|'.join(FLUSHES)})\(")


def tracer() -> str | None:
    """Where `strace` is, if it is here and may trace."""
    found = shutil.which("strace")
    if found is None:
        return None
    tried = subprocess.run(
        [found, "-f", "--seccomp-bpf", "-e", "trace=fsync", "true"], capture_output=True, check=False
    )
    return found if tried.returncode == 0 else None


def traced(command: Sequence[str], *, tracer: str, trace: Path) -> list[float]:
    """Run `command` under the tracer; the moment (seconds since the epoch) of every flush it asked for."""
    options = ["-f", "--seccomp-bpf", "-ttt", "-o", str(trace), "-e", f"trace={','.join(FLUSHES)}"]
    subprocess.run([tracer, *options, *command], check=True)
    return [float(found[1]) for found in map(_LINE.match, trace.read_text().splitlines()) if found]


def checkpoints(database: Path) -> int:
    """How often the WAL of `database` has begun anew, from its header."""
    header = Path(f"{database}-wal").read_bytes()[:32]
    return int.from_bytes(header[12:16], "big") if len(header) == 32 else 0
