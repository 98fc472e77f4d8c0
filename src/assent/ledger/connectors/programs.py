"""What calls that run something have in common: how a program is named and judged, what it may be given. Pure.

Policy judges a program by name, so the name must be worth something. A bare name is searched on the sandbox's fixed
PATH, and a path directly in one of the system's program folders is the same program: both give the base name. Anything
else (`./git`, `/proc/self/cwd/git`, a file the agent wrote a minute ago) keeps its whole path as `program`, and so
never passes for the `git` that a rule allows. For the same reason PATH and the loader's own variables cannot be set.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from assent.execution.orders import Limits
from assent.ledger.connectors.paths import PATH_BYTES_MAX, check_path, escaped, normal, workspace_of
from assent.ledger.contracts import Argument
from assent.ledger.operations import Place
from assent.primitives.errors import Malformed

ARGV_MAX = 4_096
ENV_MAX = 256
STDIN_BYTES_MAX = 1_048_576

PROGRAM_FOLDERS = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"})

ARGV = Argument(
    name="argv",
    kind="texts",
    help="the program and its arguments, exactly; no shell reads them",
    required=True,
    authority=True,
)
CWD = Argument(
    name="cwd",
    kind="text",
    help="the folder to run in, relative to the workspace",
    default=".",
    authority=True,
    bytes_max=PATH_BYTES_MAX,
)
ENV = Argument(name="env", kind="map", help="environment variables", default={}, authority=True)
WALL_S = Argument(name="wall_s", kind="integer", help="seconds to allow, if fewer than policy does")

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def check_argv(argv: Sequence[str]) -> None:
    """Accept words that a program can be given.

    Raises:
        Malformed: `argv_malformed`.
    """
    if not argv:
        raise Malformed("argv_malformed", "`argv` names no program", hint="give the program and its arguments")
    if len(argv) > ARGV_MAX:
        raise Malformed("argv_malformed", f"`argv` has more than {ARGV_MAX} parts")
    if any("\0" in part for part in argv):
        raise Malformed("argv_malformed", "`argv` holds a NUL character, which no program can be given")


def check_env(env: Mapping[str, str]) -> None:
    """Accept variables that a program can be given and that do not decide which program it is.

    Raises:
        Malformed: `env_malformed`.
    """
    if len(env) > ENV_MAX:
        raise Malformed("env_malformed", f"`env` has more than {ENV_MAX} variables")
    for name, value in env.items():
        if not _ENV_NAME.match(name) or "\0" in value:
            raise Malformed("env_malformed", f"`{escaped(name)}` in `env` is not a variable a program can be given")
        if name == "PATH" or name.startswith("LD_"):
            raise Malformed(
                "env_malformed",
                f"`{escaped(name)}` decides which program runs and cannot be set",
                hint="name the program by its path in `argv`",
            )


def program_of(written: str, *, cwd: str, place: Place) -> str:
    """What a program's name stands for: a bare name as it is, a path as the absolute path it leads to from `cwd`.

    Raises:
        Malformed: `program_malformed`, `path_malformed`.
    """
    check_path(written)
    if written.endswith("/") or posixpath.basename(written) in (".", ".."):
        raise Malformed("program_malformed", f"`{escaped(written)}` names a folder, not a program")
    return normal(posixpath.join(workspace_of(place), cwd, written)) if "/" in written else written


def judged_name(program: str) -> str:
    """What rules see of a program: its own name when it is one of the system's, else its whole path."""
    folder, name = posixpath.split(program)
    return name if not folder or folder in PROGRAM_FOLDERS else program


def limits_of(given: dict[str, Any], allowed: Limits) -> Limits:
    """What is allowed, with the asker's own `wall_s` where that is less.

    Raises:
        Malformed: `wall_malformed`.
    """
    wall_s = given.get("wall_s")
    if wall_s is None:
        return allowed
    if wall_s < 1:
        raise Malformed("wall_malformed", f"`wall_s` is `{wall_s}`", hint="give at least one second")
    return msgspec.structs.replace(allowed, wall_ms=min(allowed.wall_ms, wall_s * 1_000))
