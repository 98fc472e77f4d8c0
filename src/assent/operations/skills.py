"""`assistant.skill`: read a skill, as it was when the run began. Pure; who reads the files is given by `bootstrap`.

The run adds the digest of the skill's folder to the call, so a model cannot say another one, and a folder that has
changed since is refused: what a run is told of a skill is what it could have been told at its beginning.
"""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder
from assent.ledger.connectors.paths import PATH_BYTES_MAX
from assent.ledger.contracts import (
    Argument,
    EffectClass,
    Idempotency,
    OperationContract,
    read_arguments,
)
from assent.ledger.operations import Facts, Place
from assent.operations.own_functions import OwnFunction
from assent.reasoning.skills import FILE, NAME_CHARACTERS_MAX

NAME = "assistant.skill"
SHA256_BYTES_MAX = 71


class SkillRead(OwnFunction):
    """Read a file of a skill."""

    contract = OperationContract(
        name=NAME,
        summary="read a skill: how work of some kind is done",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(
            Argument(
                name="name", kind="text", help="the skill", required=True, authority=True, bytes_max=NAME_CHARACTERS_MAX
            ),
            Argument(name="file", kind="text", help="a file in its folder", default=FILE, bytes_max=PATH_BYTES_MAX),
            Argument(
                name="sha256",
                kind="text",
                help="the digest of its folder; another one is not read",
                required=True,
                bytes_max=SHA256_BYTES_MAX,
            ),
        ),
        floor=ConfinementClass.LOCAL_WEAK,
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """Nothing but that it is well-formed."""
        read_arguments(self.contract, arguments)
        return Facts()

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,  # noqa: ARG002 (the protocol's)
        obligations: Obligations,
        key: str,  # noqa: ARG002
    ) -> FunctionOrder:
        """The order for the function lane. Raises Malformed: `arguments_invalid`."""
        given = read_arguments(self.contract, arguments)
        return self.order(given, obligations)


SKILL = SkillRead()
