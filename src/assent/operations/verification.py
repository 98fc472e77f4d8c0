"""Verification: is the record whole, and does everything else in the database say the same?"""

from __future__ import annotations

import asyncio
from typing import Protocol

from assent.ledger.verification import VerificationReport
from assent.primitives.ids import TenantId

__all__ = ["Verification", "VerificationReport", "Verifier"]


class Verifier(Protocol):
    """Reads a ledger's database and checks it."""

    def verify(self, tenant: TenantId | None, *, trusted: str = "") -> VerificationReport:
        """Check one tenant or all; blocking."""
        ...


class Verification:
    """The use case: off the event loop, because a long log takes seconds."""

    def __init__(self, *, verifier: Verifier) -> None:
        self._verifier = verifier

    async def verify(self, tenant: TenantId | None, *, trusted: str = "") -> VerificationReport:
        """Check one tenant's log and rows, or everything. `trusted` names a file of checkpoints kept elsewhere."""
        return await asyncio.to_thread(self._verifier.verify, tenant, trusted=trusted)
