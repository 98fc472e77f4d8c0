"""`agents.find`: find other agents by what they can do. Pure; who looks into the registry is given by `bootstrap`.

In a run the agents that its own may hand work to are added by the run, and no model can say others: each agent that is
found is told with whether it is one of them. Finding one gives no right to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder
from assent.ledger.contracts import (
    Argument,
    EffectClass,
    Idempotency,
    OperationContract,
    Output,
    read_arguments,
)
from assent.ledger.operations import Facts, Place
from assent.operations.own_functions import OwnFunction
from assent.primitives.errors import Malformed
from assent.primitives.labels import Integrity
from assent.registry.agents import Entry

NAME = "agents.find"
FOUND_MAX = 50
NAMES_MAX = 32
DELEGATES_MAX = 1_000
NAME_BYTES_MAX = 128
DESCRIPTION_CHARACTERS_MAX = 300
CAPABILITIES = Argument(
    name="capabilities", kind="texts", help="what they must be able to do, all of it", bytes_max=NAME_BYTES_MAX
)
TOOLS = Argument(
    name="tools", kind="texts", help="the tools that they must have, all of them", bytes_max=NAME_BYTES_MAX
)
LIMIT = Argument(name="limit", kind="integer", help=f"how many agents at most, up to {FOUND_MAX}", default=20)
DELEGATES = Argument(
    name="delegates", kind="texts", help="the agents that the asker may hand work to", bytes_max=NAME_BYTES_MAX
)


class AgentsFind(OwnFunction):
    """Find other agents."""

    contract = OperationContract(
        name=NAME,
        summary="find other agents by what they can do",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(CAPABILITIES, TOOLS, LIMIT, DELEGATES),
        floor=ConfinementClass.LOCAL_WEAK,
        outputs=(
            Output(field="/result/*/name", kind="id", integrity=Integrity.ORG),
            Output(field="/result", integrity=Integrity.ORG),  # what the settings of an installation say of its agents
        ),
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """Nothing but that it is well-formed."""
        self._given(arguments)
        return Facts()

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
        lists = {name: list(given.get(name) or ()) for name in ("capabilities", "tools", "delegates")}
        many = len(lists["capabilities"]) + len(lists["tools"]) > NAMES_MAX or len(lists["delegates"]) > DELEGATES_MAX
        if many or not 1 <= given["limit"] <= FOUND_MAX:
            raise Malformed(
                "arguments_invalid",
                f"`limit` is 1 to {FOUND_MAX}, and agents are found by at most {NAMES_MAX} capabilities and tools",
            )
        return {**lists, "limit": given["limit"]}


def told_agents(found: Iterable[Entry], *, delegates: Collection[str]) -> list[dict[str, Any]]:
    """What was found, as the value of an outcome. `delegate`: the asker may hand work to it."""
    return [
        {
            "name": one.id,
            "description": str(one.fields.get("description", ""))[:DESCRIPTION_CHARACTERS_MAX],
            "capabilities": list(one.capabilities),
            "health": one.health.value,
            "delegate": one.id in delegates,
        }
        for one in found
    ]


AGENTS_FIND = AgentsFind()
