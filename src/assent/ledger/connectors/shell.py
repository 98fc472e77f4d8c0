"""Programs in the workspace: `shell.run`. There is no shell in it: `argv` is exact, nothing is split or expanded.

How a program is named and judged is in `programs`.

An interpreter (`sh`, `python`) runs what its arguments and its standard input say; its name says only that. Rules that
allow one by name allow everything the sandbox allows.
"""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import ProcessOrder
from assent.ledger.connectors.paths import (
    inside,
    locate,
    workspace_of,
)
from assent.ledger.connectors.programs import (
    ARGV,
    CWD,
    ENV,
    STDIN_BYTES_MAX,
    WALL_S,
    check_argv,
    check_env,
    judged_name,
    limits_of,
    program_of,
)
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Place
from assent.primitives.errors import Malformed

TARGET_BYTES_MAX = 80
COMMAND_BYTES_MAX = 1_048_576  # argv and environment together; Linux gives them a quarter of an 8 MiB stack


class ShellRun(Unobserved):
    """Run one program to its end."""

    contract = OperationContract(
        name="shell.run",
        summary="run one program in the workspace",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NONE,
        arguments=(
            ARGV,
            CWD,
            Argument(name="stdin", kind="text", help="the standard input", default="", bytes_max=STDIN_BYTES_MAX),
            Argument(
                name="stdin_open",
                kind="boolean",
                help="keep standard input open for what is said to the program while it runs",
                default=False,
            ),
            ENV,
            Argument(
                name="target",
                kind="text",
                help="where to run it; see `assent targets` (else: where policy says)",
                default="",
                authority=True,
                bytes_max=TARGET_BYTES_MAX,
            ),
            WALL_S,
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

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        check_argv(given["argv"])
        check_env(given["env"])
        texts = [*given["argv"], *given["env"], *given["env"].values()]
        if sum(len(text.encode()) for text in texts) > COMMAND_BYTES_MAX:
            raise Malformed("argv_malformed", f"`argv` and `env` together are larger than {COMMAND_BYTES_MAX} bytes")
        return given


RUN = ShellRun()

SHELL = (RUN,)
