"""Programs in the workspace: `shell.run`. There is no shell in it: `argv` is exact, nothing is split or expanded.

Policy judges a program by name, so the name must be worth something. A bare name is searched on the sandbox's fixed
PATH, and a path directly in one of the system's program folders is the same program: both give the base name. Anything
else (`./git`, `/proc/self/cwd/git`, a file the agent wrote a minute ago) keeps its whole path as `program`, and so
never passes for the `git` that a rule allows. For the same reason PATH and the loader's own variables cannot be set.

An interpreter (`sh`, `python`) runs what its arguments and its standard input say; its name says only that. Rules that
allow one by name allow everything the sandbox allows.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import Limits, ProcessOrder
from assent.ledger.connectors.paths import (
    PATH_BYTES_MAX,
    check_path,
    escaped,
    inside,
    locate,
    normal,
    workspace_of,
)
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.errors import Malformed

ARGV_MAX = 4_096
ENV_MAX = 256
TARGET_BYTES_MAX = 80
STDIN_BYTES_MAX = 1_048_576
COMMAND_BYTES_MAX = 1_048_576  # argv and environment together; Linux gives them a quarter of an 8 MiB stack

PROGRAM_FOLDERS = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"})

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class ShellRun:
    """Run one program to its end."""

    contract = OperationContract(
        name="shell.run",
        summary="run one program in the workspace",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NONE,
        arguments=(
            Argument(
                name="argv",
                kind="texts",
                help="the program and its arguments, exactly; no shell reads them",
                required=True,
                authority=True,
            ),
            Argument(
                name="cwd",
                kind="text",
                help="the folder to run in, relative to the workspace",
                default=".",
                authority=True,
                bytes_max=PATH_BYTES_MAX,
            ),
            Argument(name="stdin", kind="text", help="the standard input", default="", bytes_max=STDIN_BYTES_MAX),
            Argument(
                name="stdin_open",
                kind="boolean",
                help="keep standard input open for what is said to the program while it runs",
                default=False,
            ),
            Argument(name="env", kind="map", help="environment variables", default={}, authority=True),
            Argument(
                name="target",
                kind="text",
                help="where to run it; see `assent targets` (else: where policy says)",
                default="",
                authority=True,
                bytes_max=TARGET_BYTES_MAX,
            ),
            Argument(name="wall_s", kind="integer", help="seconds to allow, if fewer than policy does"),
        ),
        floor=ConfinementClass.LOCAL_WEAK,  # what it runs is the asker's; how it must be held is for policy to say
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The program, the folder it runs in and the size of its standard input."""
        given = self._given(arguments)
        spot = locate(given["cwd"], place)
        return Facts(
            path=spot.path,
            inside_workspace=spot.inside,
            program=judged_name(program_of(given["argv"][0], cwd=given["cwd"], place=place)),
            target=given["target"],
            payload_bytes=len(given["stdin"].encode()),
        )

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (the protocol's)
    ) -> ProcessOrder:
        """The order for the process lane. Programs know no idempotency keys: `key` is not used.

        Raises:
            Malformed: `outside_workspace`, `path_malformed`, `program_malformed`, `argv_malformed`, `env_malformed`,
                `wall_malformed`, `arguments_invalid`.
        """
        given = self._given(arguments)
        return ProcessOrder(
            argv=(program_of(given["argv"][0], cwd=given["cwd"], place=place), *given["argv"][1:]),
            workspace=workspace_of(place),
            cwd=inside(given["cwd"], place),
            stdin=given["stdin"].encode(),
            stdin_open=given["stdin_open"],
            env=dict(given["env"]),
            hosts=obligations.hosts,
            limits=limits_of(given, obligations.limits),
        )

    def observation(self, arguments: dict[str, Any]) -> dict[str, Any] | None:  # noqa: ARG002 (the protocol's)
        """None: what a program did cannot be told by looking."""
        return None

    def judge(
        self,
        arguments: dict[str, Any],  # noqa: ARG002 (the protocol's)
        observed_code: str,  # noqa: ARG002
        observed: dict[str, Any],  # noqa: ARG002
    ) -> Judgement:
        """Always unclear."""
        return Judgement.UNCLEAR

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        check_argv(given["argv"])
        check_env(given["env"])
        texts = [*given["argv"], *given["env"], *given["env"].values()]
        if sum(len(text.encode()) for text in texts) > COMMAND_BYTES_MAX:
            raise Malformed("argv_malformed", f"`argv` and `env` together are larger than {COMMAND_BYTES_MAX} bytes")
        return given


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


RUN = ShellRun()

SHELL = (RUN,)
