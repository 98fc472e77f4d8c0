"""The connectors that come with Assent: files, shell, terminal, python, http, sse, websocket, jsonrpc.

Pure: they read arguments and write orders. Connectors that are made of descriptions are in `families`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from assent.ledger.connectors.discovery import DISCOVERY
from assent.ledger.connectors.edits import EDITS
from assent.ledger.connectors.files import FILES
from assent.ledger.connectors.http import HTTP
from assent.ledger.connectors.jsonrpc import JSONRPC
from assent.ledger.connectors.python import PYTHON
from assent.ledger.connectors.searches import SEARCHES
from assent.ledger.connectors.shell import SHELL
from assent.ledger.connectors.streams import STREAMS
from assent.ledger.connectors.terminal import TERMINAL
from assent.ledger.connectors.wasm import WASM
from assent.ledger.operations import Operation
from assent.primitives.errors import Conflict

__all__ = ["BUILTIN", "catalogue"]

BUILTIN: tuple[Operation, ...] = (
    *FILES, *EDITS, *SEARCHES, *SHELL, *TERMINAL, *PYTHON, *WASM, *HTTP, *STREAMS, *JSONRPC, *DISCOVERY,
)  # fmt: skip


def catalogue(operations: Iterable[Operation]) -> Mapping[str, Operation]:
    """The operations by name; it cannot be changed afterwards.

    Raises:
        Conflict: `operation_duplicate`, two operations have one name.
    """
    found: dict[str, Operation] = {}
    for operation in operations:
        name = operation.contract.name
        if name in found:
            raise Conflict("operation_duplicate", f"two operations are called `{name}`", hint="rename one of them")
        found[name] = operation
    return MappingProxyType(found)
