"""SQLite is a `LedgerStore`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assent.ledger.ports import LedgerStore
from assent.testing.clocks import SetClock
from assent.testing.conformance.ledger_store import LedgerStoreSuite
from assent.testing.ledgers import LedgerFolder


class TestSqliteLedger(LedgerStoreSuite):
    @pytest.fixture(autouse=True)
    def a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @contextmanager
    def opened(self, clock: SetClock) -> Iterator[LedgerStore]:
        folder = LedgerFolder(self.folder, clock=clock)
        with folder.opened() as store:
            yield store
        report = folder.verify()
        assert report.ok, report.faults
