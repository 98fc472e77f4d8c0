"""Real SQLite ledgers in a folder of a test, with every part that can be replaced replaceable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_agents import AGENT_APPLIES
from assent.ledger.adapters.sqlite_guests import APPLIES
from assent.ledger.adapters.sqlite_verify import SqliteVerifier
from assent.ledger.checkpoints import Signer, key_name
from assent.ledger.verification import VerificationReport
from assent.primitives.clock import Clock
from assent.primitives.ids import TenantId
from assent.storage.adapters.sqlite import BUSY_TIMEOUT_MS, SqliteDatabase
from assent.testing.clocks import SetClock
from assent.testing.faults import CrashingBook, CrashPlan

LOG_ID = "0123456789abcdef"
DATABASE_NAME = "assent.db"


class LedgerFolder:
    """A folder with a database and the key its log is signed with. The key is the same for every folder: a test's key
    protects nothing."""

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self.database = folder / DATABASE_NAME
        self.clock = clock or SetClock()
        self.signer = Signer(name=key_name(log_id=LOG_ID), seed=bytes(range(32)))
        self.kept: list[str] = []

    @property
    def key(self) -> str:
        """The log's verifier key."""
        return self.signer.key.encode()

    def ledger(
        self,
        *,
        clock: Clock | None = None,
        plan: CrashPlan | None = None,
        keep: Callable[[list[str]], None] | None = None,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> SqliteLedger:
        """A ledger on this database, not yet open. Several may be: each is a process's view of the file."""
        book = CrashingBook(signer=self.signer, log_id=LOG_ID, keep=keep or self.kept.extend, plan=plan or CrashPlan())
        database = SqliteDatabase(self.database, clock=clock or self.clock, busy_timeout_ms=busy_timeout_ms)
        return SqliteLedger(database, book=book, more={**APPLIES, **AGENT_APPLIES})

    @contextmanager
    def opened(
        self, *, clock: Clock | None = None, plan: CrashPlan | None = None, busy_timeout_ms: int = BUSY_TIMEOUT_MS
    ) -> Iterator[SqliteLedger]:
        """A ledger, open for the length of the block."""
        store = self.ledger(clock=clock, plan=plan, busy_timeout_ms=busy_timeout_ms)
        store.open()
        try:
            yield store
        finally:
            store.close()

    def verify(self, tenant: TenantId | None = None, *, trusted: str = "") -> VerificationReport:
        """The full verification of the file as it stands."""
        return SqliteVerifier(self.database, key=self.key, clock=self.clock).verify(tenant, trusted=trusted)
