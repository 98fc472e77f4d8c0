"""`memory.search`: recall what fits a question. Pure; what is remembered, and by whom it is read, `bootstrap` gives.

In a run the places to search are those that its agent declares; they are added by the run, and no model can say others.
The tenant is the call's own. Recall is read-only: there is no operation by which a model writes memory.
"""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder
from assent.ledger.contracts import (
    Argument,
    EffectClass,
    Idempotency,
    OperationContract,
    read_arguments,
)
from assent.ledger.operations import Facts, Place
from assent.memory.fragments import FRAGMENTS_MAX, QUERY_CHARACTERS_MAX, Recalled
from assent.operations.own_functions import OwnFunction
from assent.primitives.errors import Malformed

NAME = "memory.search"
SOURCES_MAX = 64
SOURCE_BYTES_MAX = 500
QUERY = Argument(
    name="query",
    kind="text",
    help="what to look for, in a few words",
    required=True,
    authority=True,
    bytes_max=4 * QUERY_CHARACTERS_MAX,
)
LIMIT = Argument(name="limit", kind="integer", help=f"how many pieces at most, up to {FRAGMENTS_MAX}", default=5)


class MemorySearch(OwnFunction):
    """Recall what fits a question."""

    contract = OperationContract(
        name=NAME,
        summary="look something up in what is remembered",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(
            QUERY,
            LIMIT,
            Argument(
                name="sources",
                kind="texts",
                help="where to look: globs, such as `notes/*.md`",
                required=True,
                authority=True,
                bytes_max=SOURCE_BYTES_MAX,
            ),
        ),
        floor=ConfinementClass.LOCAL_WEAK,
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """How much is asked."""
        return Facts(payload_bytes=len(self._given(arguments)["query"].encode()))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (the protocol's)
    ) -> FunctionOrder:
        """The order for the function lane. Raises Malformed: `arguments_invalid`."""
        asked = {**self._given(arguments), "tenant": place.tenant}
        return self.order(asked, obligations)

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        sources: list[str] = given["sources"]
        if not 1 <= given["limit"] <= FRAGMENTS_MAX or len(sources) > SOURCES_MAX:
            raise Malformed(
                "arguments_invalid", f"`limit` is 1 to {FRAGMENTS_MAX}, and there are at most {SOURCES_MAX} `sources`"
            )
        return given


def told_fragments(found: tuple[Recalled, ...]) -> list[dict[str, Any]]:
    """What was recalled, as the value of an outcome."""
    return [
        {
            "source": one.fragment.source,
            "text": one.fragment.text,
            "recorded_at_ms": one.fragment.recorded_at_ms,
            "integrity": one.fragment.label.integrity.value,
            "stale": one.stale,
        }
        for one in found
    ]


MEMORY_SEARCH = MemorySearch()
