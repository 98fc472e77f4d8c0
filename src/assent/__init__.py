"""Assent runs AI agents that cannot act without consent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assent.primitives.release import __version__

if TYPE_CHECKING:
    from assent.ledger.contracts import Argument, OperationContract, Output
    from assent.operations.functions import operation
    from assent.policy.session import Session
    from assent.surfaces.python.main import Agent, achat, chat, starter_policy

__all__ = [
    "Agent",
    "Argument",
    "OperationContract",
    "Output",
    "Session",
    "__version__",
    "achat",
    "chat",
    "operation",
    "starter_policy",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (whatever is asked for)
    """Load what is asked for when it is asked for: `import assent` stays quick."""
    if name == "operation":
        from assent.operations.functions import operation

        return operation
    if name == "Session":
        from assent.policy.session import Session

        return Session
    if name in ("Argument", "OperationContract", "Output"):
        from assent.ledger import contracts

        return getattr(contracts, name)
    if name in ("Agent", "achat", "chat", "starter_policy"):
        from assent.surfaces.python import main

        return getattr(main, name)
    raise AttributeError(f"module `assent` has no `{name}`")
