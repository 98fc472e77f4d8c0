"""Assent runs AI agents that cannot act without consent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assent.primitives.release import __version__

if TYPE_CHECKING:
    from assent.operations.functions import operation
    from assent.surfaces.python.main import Agent, achat, chat

__all__ = ["Agent", "__version__", "achat", "chat", "operation"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (whatever is asked for)
    """Load what is asked for when it is asked for: `import assent` stays quick."""
    if name == "operation":
        from assent.operations.functions import operation

        return operation
    if name in ("Agent", "achat", "chat"):
        from assent.surfaces.python import main

        return getattr(main, name)
    raise AttributeError(f"module `assent` has no `{name}`")
