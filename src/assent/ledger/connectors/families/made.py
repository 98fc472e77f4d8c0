"""What operations that were made have in common: nothing tells by looking what became of a call of one. Pure."""

from __future__ import annotations

import re
from typing import Any

from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import OperationContract, read_arguments
from assent.primitives.errors import Malformed

_UNSAFE = re.compile("[\x00-\x1f\x7f]")


class Made(Unobserved):
    """An operation that was made of a description."""

    def __init__(self, contract: OperationContract) -> None:
        self.contract = contract

    def given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments, read."""
        return read_arguments(self.contract, arguments)


def spelled(value: object, *, name: str) -> str:
    """A plain value as it stands in a URL, a header or on a command line.

    Raises:
        Malformed: `arguments_invalid`: it is no plain value, or holds characters that would end the line it stands in.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, str) and not _UNSAFE.search(value):
        return value
    what = "holds control characters" if isinstance(value, str) else "is no plain value"
    raise Malformed("arguments_invalid", f"`{name}` {what}, which cannot be sent in its place")
