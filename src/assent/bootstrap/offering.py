"""What an installation offers: what comes with Assent, the models that can be asked, and what was admitted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from assent.bootstrap.models import model_operations
from assent.bootstrap.settings_search import SearchSettings
from assent.ledger.connectors import BUILTIN
from assent.ledger.connectors.programs import PROGRAM_FOLDERS
from assent.ledger.connectors.searches import SEARCH, FilesSearch
from assent.ledger.operations import Operation
from assent.operations.assistant import ASSISTANT
from assent.operations.finding import AGENTS_FIND
from assent.operations.functions import offered
from assent.operations.policy_changes import POLICY_ACTIVATE
from assent.operations.remembering import MEMORY_SEARCH
from assent.operations.skills import SKILL
from assent.operations.toolbox import SPELLED
from assent.operations.web_search import WebSearch

if TYPE_CHECKING:
    from assent.bootstrap.connector_folder import ConnectorFolder
    from assent.bootstrap.settings_agents import ModelSettings

_OWN: tuple[Operation, ...] = (
    *(one.operation for one in offered(ASSISTANT)), SKILL, MEMORY_SEARCH, AGENTS_FIND, POLICY_ACTIVATE,
)  # fmt: skip

_AS_IT_IS = SearchSettings()
_SYSTEM_PATH = ":".join(sorted(PROGRAM_FOLDERS))

STANDARD: tuple[Operation, ...] = (*BUILTIN, *_OWN, *model_operations(()))
"""What is offered where nothing was declared and nothing admitted."""


def spellings_here() -> Mapping[str, str]:
    """How tools in the box are spelled on this machine: not every one has bash."""
    has_bash = shutil.which("bash", path=_SYSTEM_PATH)
    return SPELLED if has_bash else {**SPELLED, "bash": "sh-1"}


def offering(
    models: tuple[ModelSettings, ...], shelf: ConnectorFolder, *, search: SearchSettings = _AS_IT_IS
) -> tuple[Operation, ...]:
    """Every operation of an installation that declares these models and this way to search.

    Raises:
        Malformed, Unavailable: a declared model cannot be used.
    """
    files = _files_search(search)
    found = (files if one.contract.name == files.contract.name else one for one in shelf.operations())
    web = [WebSearch(search.endpoint)] if search.endpoint else []
    return (*found, *web, *_OWN, *model_operations(models))


def _files_search(search: SearchSettings) -> Operation:
    """By ripgrep where the system has it: a program that somebody put elsewhere is not in the sandbox."""
    ripgrep = shutil.which("rg", path=_SYSTEM_PATH) if search.ripgrep else None
    return FilesSearch(ripgrep="rg") if ripgrep else SEARCH
