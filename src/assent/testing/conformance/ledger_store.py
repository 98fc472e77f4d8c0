"""What every `LedgerStore` must do. Subclass `LedgerStoreSuite`, implement `opened`, and pytest finds the rest.

    class TestMyLedger(LedgerStoreSuite):
        @contextmanager
        def opened(self, clock):
            with my_fresh_ledger(clock) as store:
                yield store

Each test opens a fresh store. Time is a `SetClock` that the store must use as the database's clock. What no single call
shows (every interleaving of everything) is the business of `assent.testing.ledger_model`.
"""

from __future__ import annotations

from assent.testing.conformance.ledger_budgets import LedgerBudgetsSuite
from assent.testing.conformance.ledger_effects import LedgerEffectsSuite
from assent.testing.conformance.ledger_journals import LedgerJournalsSuite
from assent.testing.conformance.ledger_reads import LedgerReadsSuite
from assent.testing.conformance.ledger_reviews import LedgerReviewsSuite


class LedgerStoreSuite(
    LedgerEffectsSuite, LedgerReviewsSuite, LedgerReadsSuite, LedgerBudgetsSuite, LedgerJournalsSuite
):
    """The whole suite."""
