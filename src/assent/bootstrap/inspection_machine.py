"""What `assent doctor` looks at below the record: the machine, the folders, the key."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from assent.bootstrap.settings import Settings
from assent.execution.adapters.sandboxes import landlock
from assent.operations.health import Finding, Grade
from assent.primitives.clock import Clock
from assent.storage.adapters.releases import sqlite_version

PYTHON_MIN = (3, 11)
FREE_FAIL_BYTES, FREE_WARN_BYTES = 16 * 1_048_576, 256 * 1_048_576
# No record of Assent is older than its first line of code.
BEGINNING_MS = 1_760_000_000_000
FAR_MS = 4_102_444_800_000  # 2100
_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")


def python() -> Finding:
    """The interpreter and the database library in it."""
    says = f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite_version()}"
    if sys.version_info < PYTHON_MIN:
        return Finding(name="python", grade=Grade.FAIL, says=says, fix="use Python 3.11 or newer")
    return Finding(name="python", grade=Grade.OK, says=says)


def kernel() -> Finding:
    """What the kernel offers for confinement. That it works is shown by the sandbox's own test."""
    abi = landlock.abi()
    try:
        spaces = int(_USER_NAMESPACES.read_text(encoding="ascii"))
    except (OSError, ValueError):
        spaces = 0
    says = f"{platform.system()} {platform.release()}, Landlock {f'ABI {abi}' if abi else 'absent'}, "
    says += "user namespaces" if spaces else "no user namespaces"
    if not spaces:
        return Finding(
            name="kernel", grade=Grade.WARN, says=says, fix="set user.max_user_namespaces above 0 to confine programs"
        )
    return Finding(name="kernel", grade=Grade.OK, says=says)


def clock_sanity(clock: Clock) -> Finding:
    """Whether the wall clock can be right at all."""
    if BEGINNING_MS <= clock.now_ms() <= FAR_MS:
        return Finding(name="clock", grade=Grade.OK, says="plausible")
    return Finding(
        name="clock", grade=Grade.FAIL, says=f"the clock says {clock.now_ms()} ms since 1970",
        fix="set the clock: reviews and grants expire by it",
    )  # fmt: skip


def folders(settings: Settings) -> Iterator[Finding]:
    """The workspace, the data folder and the room that is left."""
    workspace, data = settings.workspace, settings.data
    if not workspace.is_dir():
        yield Finding(
            name="workspace",
            grade=Grade.FAIL,
            says=f"there is no folder `{workspace}`",
            fix=f"run `mkdir -p {workspace}`",
        )
    elif not os.access(workspace, os.W_OK):
        yield Finding(
            name="workspace", grade=Grade.WARN, says=f"`{workspace}` cannot be written", fix="check its owner"
        )
    else:
        yield Finding(name="workspace", grade=Grade.OK, says=str(workspace))
    if data.exists():
        yield _data_folder(data)
        yield _room(data)


def _data_folder(data: Path) -> Finding:
    if not data.is_dir():
        return Finding(
            name="data", grade=Grade.FAIL, says=f"`{data}` is not a folder", fix="name another in assent.toml"
        )
    if not os.access(data, os.W_OK | os.X_OK) or os.statvfs(data).f_flag & os.ST_RDONLY:
        return Finding(name="data", grade=Grade.FAIL, says=f"`{data}` is read-only", fix="check its owner and mount")
    if data.stat().st_mode & stat.S_IWOTH:
        return Finding(
            name="data", grade=Grade.FAIL, says=f"everybody may write `{data}`", fix=f"run `chmod o-w {data}`"
        )
    return Finding(name="data", grade=Grade.OK, says=str(data))


def _room(data: Path) -> Finding:
    free = shutil.disk_usage(data).free
    says = f"{free / 1_048_576:,.0f} MiB free"
    if free < FREE_FAIL_BYTES:
        return Finding(name="disk", grade=Grade.FAIL, says=says, fix="free some space: nothing can be recorded soon")
    return Finding(name="disk", grade=Grade.WARN if free < FREE_WARN_BYTES else Grade.OK, says=says)


def key_files(data: Path) -> Iterator[Finding]:
    """The log's signing key: there, ours, and nobody else's to read."""
    path = data / "keys" / "log.key"
    if not path.exists():
        if (data / "assent.db").exists():
            yield Finding(
                name="key", grade=Grade.FAIL, says=f"there is a record but no `{path}`",
                fix="restore it from a backup: a new key cannot continue an old log",
            )  # fmt: skip
        return
    facts = path.stat()
    if facts.st_mode & 0o077:
        yield Finding(name="key", grade=Grade.FAIL, says=f"others may read `{path}`", fix=f"run `chmod 600 {path}`")
    elif facts.st_uid != os.geteuid():
        yield Finding(
            name="key", grade=Grade.FAIL, says=f"`{path}` belongs to uid {facts.st_uid}", fix="run as that user"
        )
    else:
        yield Finding(name="key", grade=Grade.OK, says="only you can read the log's key")
