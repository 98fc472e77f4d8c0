"""Python source in a confined interpreter: `python.run`.

To policy it is a program called `python`, and its source says what it does: a rule that allows it allows everything the
sandbox allows. A session keeps what one call leaves in memory for the next; both are judged each for itself.
"""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import PythonOrder
from assent.ledger.connectors.paths import workspace_of
from assent.ledger.connectors.programs import ENV, WALL_S, check_env, limits_of
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Place
from assent.primitives.canonical import canonical
from assent.primitives.errors import Malformed

SOURCE_BYTES_MAX = 1_048_576
ARGUMENTS_BYTES_MAX = 1_048_576
NAME_BYTES_MAX = 256


class PythonRun(Unobserved):
    """Run Python source to its end, or call a function of a session."""

    contract = OperationContract(
        name="python.run",
        summary="run Python source in a confined interpreter",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NONE,
        arguments=(
            Argument(
                name="source",
                kind="text",
                help="the source; the value of its last expression is the result",
                default="",
                authority=True,
                bytes_max=SOURCE_BYTES_MAX,
            ),
            Argument(
                name="function",
                kind="text",
                help="a function to call after the source has run, instead of its last expression",
                default="",
                authority=True,
                bytes_max=NAME_BYTES_MAX,
            ),
            Argument(
                name="keywords",
                kind="json",
                help="an object: the function's keyword arguments, or what the source sees as `arguments`",
                default={},
                bytes_max=ARGUMENTS_BYTES_MAX,
            ),
            Argument(
                name="session",
                kind="text",
                help="an interpreter that keeps its state between calls; without it each call has a fresh one",
                default="",
                authority=True,
                bytes_max=NAME_BYTES_MAX,
            ),
            Argument(
                name="restart",
                kind="boolean",
                help="begin the session anew, whatever became of it",
                default=False,
            ),
            Argument(
                name="preload",
                kind="texts",
                help="modules to import before the source runs",
                default=[],
                bytes_max=NAME_BYTES_MAX,
            ),
            ENV,
            WALL_S,
        ),
        floor=ConfinementClass.NAMESPACED,
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The program `python`, in the workspace, and the size of what it is given."""
        given = self._given(arguments)
        size = len(given["source"].encode()) + len(canonical(given["keywords"]))
        return Facts(path=".", program="python", payload_bytes=size)

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (the protocol's)
    ) -> PythonOrder:
        """The order for the python lane. Programs know no idempotency keys: `key` is not used.

        Raises:
            Malformed: `source_missing`, `keywords_malformed`, `env_malformed`, `wall_malformed`, `arguments_invalid`.
        """
        given = self._given(arguments)
        return PythonOrder(
            source=given["source"],
            workspace=workspace_of(place),
            function=given["function"],
            arguments=canonical(given["keywords"]).decode(),
            session=given["session"],
            restart=given["restart"],
            preload=tuple(given["preload"]),
            env=dict(given["env"]),
            limits=limits_of(given, obligations.limits),
        )

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        if not given["source"].strip() and not given["function"]:
            raise Malformed(
                "source_missing", "there is neither `source` nor `function`", hint="give the source that is to be run"
            )
        if not isinstance(given["keywords"], dict):
            raise Malformed("keywords_malformed", "`keywords` is no object", hint='give names: `{"width": 6}`')
        check_env(given["env"])
        return given


PYTHON = (PythonRun(),)
