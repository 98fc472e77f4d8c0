"""The credentials of an installation: where their values are found, and who comes to know them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from assent.bootstrap.environment import environment
from assent.execution.adapters.secrets import SecretDrivers
from assent.execution.secrets import Redactor
from assent.ledger.operations import Operation
from assent.operations.models import ModelOperation
from assent.operations.web_search import WebSearch
from assent.primitives.errors import AssentError


def revealed(operations: Iterable[Operation], redactor: Redactor) -> SecretDrivers:
    """What knows the values behind handles. Those of `operations` are made known to `redactor` before anything is done;
    one that is missing is missed when it is needed."""
    drivers = SecretDrivers(environment=environment(), redactor=redactor)
    for operation in operations:
        if isinstance(operation, ModelOperation | WebSearch):
            for handle in operation.handles:
                with suppress(AssentError):
                    drivers.reveal(handle)
    return drivers
