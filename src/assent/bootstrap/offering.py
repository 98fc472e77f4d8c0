"""What an installation offers: what comes with Assent, the models that can be asked, and what was admitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assent.bootstrap.models import model_operations
from assent.ledger.connectors import BUILTIN
from assent.ledger.operations import Operation
from assent.operations.assistant import ASSISTANT
from assent.operations.functions import offered

if TYPE_CHECKING:
    from assent.bootstrap.connector_folder import ConnectorFolder
    from assent.bootstrap.settings_agents import ModelSettings

_ASSISTANT = tuple(one.operation for one in offered(ASSISTANT))

STANDARD: tuple[Operation, ...] = (*BUILTIN, *_ASSISTANT, *model_operations(()))
"""What is offered where nothing was declared and nothing admitted."""


def offering(models: tuple[ModelSettings, ...], shelf: ConnectorFolder) -> tuple[Operation, ...]:
    """Every operation of an installation that declares these models.

    Raises:
        Malformed, Unavailable: a declared model cannot be used.
    """
    return (*shelf.operations(), *_ASSISTANT, *model_operations(models))
