"""Assent runs AI agents that cannot act without consent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assent.primitives.release import __version__

if TYPE_CHECKING:
    from assent.operations.functions import operation

__all__ = ["__version__", "operation"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (whatever is asked for)
    """Load what is asked for when it is asked for: `import assent` stays quick."""
    if name == "operation":
        from assent.operations.functions import operation

        return operation
    raise AttributeError(f"module `assent` has no `{name}`")
