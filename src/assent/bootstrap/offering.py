"""What an installation offers: what comes with Assent, the models that can be asked, and what was admitted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from assent.bootstrap.models import model_operations
from assent.ledger.connectors import BUILTIN
from assent.ledger.connectors.programs import PROGRAM_FOLDERS
from assent.ledger.operations import Operation
from assent.operations.assistant import ASSISTANT
from assent.operations.functions import offered
from assent.operations.toolbox import SPELLED

if TYPE_CHECKING:
    from assent.bootstrap.connector_folder import ConnectorFolder
    from assent.bootstrap.settings_agents import ModelSettings

_ASSISTANT = tuple(one.operation for one in offered(ASSISTANT))

STANDARD: tuple[Operation, ...] = (*BUILTIN, *_ASSISTANT, *model_operations(()))
"""What is offered where nothing was declared and nothing admitted."""


def spellings_here() -> Mapping[str, str]:
    """How tools in the box are spelled on this machine: not every one has bash."""
    has_bash = shutil.which("bash", path=":".join(sorted(PROGRAM_FOLDERS)))
    return SPELLED if has_bash else {**SPELLED, "bash": "sh-1"}


def offering(models: tuple[ModelSettings, ...], shelf: ConnectorFolder) -> tuple[Operation, ...]:
    """Every operation of an installation that declares these models.

    Raises:
        Malformed, Unavailable: a declared model cannot be used.
    """
    return (*shelf.operations(), *_ASSISTANT, *model_operations(models))
