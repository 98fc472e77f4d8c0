"""The ledger's store, by database."""
