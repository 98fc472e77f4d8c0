"""A person's terminal in the workspace: `terminal.open`. One program, confined as `shell.run` confines it, spoken to
while it runs, and recorded.

What is typed decides what happens, and no policy can judge it before: the rule that allows a program a terminal allows
what a person makes of it there. The recording is the evidence, so it is always made; what was typed is in it only when
the caller says so.
"""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import ProcessOrder, Pty, TerminalOrder
from assent.ledger.connectors.paths import inside, locate, workspace_of
from assent.ledger.connectors.programs import ARGV, CWD, WALL_S, check_argv, judged_name, limits_of, program_of
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Place
from assent.primitives.errors import Malformed

ROWS_MAX = COLUMNS_MAX = 10_000
TERM_BYTES_MAX = 64


class TerminalOpen(Unobserved):
    """Open a terminal for a person."""

    contract = OperationContract(
        name="terminal.open",
        summary="give a person a terminal with one program in the workspace, recorded",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NONE,
        arguments=(
            ARGV,
            CWD,
            Argument(name="rows", kind="integer", help="the height in characters", default=24),
            Argument(name="columns", kind="integer", help="the width in characters", default=80),
            Argument(
                name="term",
                kind="text",
                help="what TERM says the terminal is",
                default="xterm-256color",
                bytes_max=TERM_BYTES_MAX,
            ),
            Argument(name="record_input", kind="boolean", help="record what is typed too, passwords included"),
            WALL_S,
        ),
        floor=ConfinementClass.LOCAL_WEAK,  # how it must be held is for policy to say, as for `shell.run`
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The program, and the folder it runs in."""
        given = self._given(arguments)
        spot = locate(given["cwd"], place)
        program = program_of(given["argv"][0], cwd=given["cwd"], place=place)
        return Facts(path=spot.path, inside_workspace=spot.inside, program=judged_name(program))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (the protocol's)
    ) -> TerminalOrder:
        """The order for the terminal lane.

        Raises:
            Malformed: `outside_workspace`, `path_malformed`, `program_malformed`, `argv_malformed`, `size_malformed`,
                `wall_malformed`, `arguments_invalid`.
        """
        given = self._given(arguments)
        process = ProcessOrder(
            argv=(program_of(given["argv"][0], cwd=given["cwd"], place=place), *given["argv"][1:]),
            workspace=workspace_of(place),
            cwd=inside(given["cwd"], place),
            pty=Pty(rows=given["rows"], columns=given["columns"], term=given["term"]),
            limits=limits_of(given, obligations.limits),
        )
        return TerminalOrder(process=process, record_input=bool(given.get("record_input")))

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        check_argv(given["argv"])
        if not (1 <= given["rows"] <= ROWS_MAX and 1 <= given["columns"] <= COLUMNS_MAX):
            raise Malformed("size_malformed", f"no terminal has `{given['rows']}` rows of `{given['columns']}`")
        return given


OPEN = TerminalOpen()

TERMINAL = (OPEN,)
