"""Functions of the host program that orders may call, by name. Values only: who calls them is `adapters.functions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Callee(NamedTuple):
    """One function. `call` takes the arguments as plain JSON values and gives a value, or something to await;
    `definition` is the digest that an order must name."""

    definition: str
    call: Callable[[dict[str, Any]], Any]
