"""What operations have in common that are functions of Assent's own, carried by the function lane. Pure."""

from __future__ import annotations

from typing import Any

from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import OperationContract, contract_digest
from assent.primitives.canonical import canonical


class OwnFunction(Unobserved):
    """The half of an operation that says which function of the process it is. Who calls it is given by `bootstrap`."""

    contract: OperationContract

    @property
    def definition(self) -> str:
        """What the function is asked for as."""
        return contract_digest(self.contract)

    def order(self, said: dict[str, Any], obligations: Obligations) -> FunctionOrder:
        """The order for the function lane, with what the function is told."""
        return FunctionOrder(
            function=self.contract.name,
            definition=self.definition,
            arguments=canonical(said).decode(),
            limits=obligations.limits,
        )
