"""Calls of Python functions that their author marked: in this process, or shut in. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder, PythonOrder
from assent.ledger.connectors.families.made import Made
from assent.ledger.connectors.paths import workspace_of
from assent.ledger.contracts import EffectClass, OperationContract
from assent.ledger.operations import Facts, Place
from assent.primitives.canonical import canonical


class FunctionMade(Made):
    """One function. With `source` it runs in the python lane, confined; without, it is the host program's own.

    `wall_ms` is the longest its author gives it (0: what policy allows).
    """

    def __init__(self, contract: OperationContract, *, function: str, source: str = "", wall_ms: int = 0) -> None:
        super().__init__(contract)
        self._function = function
        self._source = source
        self._wall_ms = wall_ms

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """What runs, and the size of its arguments."""
        program = "python" if self._source else "in-process"
        return Facts(program=program, payload_bytes=len(canonical(self.given(arguments))))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (a function knows no idempotency keys)
    ) -> FunctionOrder | PythonOrder:
        """The order for the function lane, or for the python lane."""
        text = canonical(self.given(arguments)).decode()
        limits = obligations.limits
        if self._wall_ms:
            limits = msgspec.structs.replace(limits, wall_ms=min(limits.wall_ms, self._wall_ms))
        if not self._source:
            return FunctionOrder(
                function=self.contract.name, definition=self.contract.definition, arguments=text, limits=limits
            )
        return PythonOrder(
            source=self._source,
            function=self._function,
            arguments=text,
            workspace=workspace_of(place),
            workspace_writable=self.contract.effect is not EffectClass.READ,
            hosts=obligations.hosts,
            limits=limits,
        )
