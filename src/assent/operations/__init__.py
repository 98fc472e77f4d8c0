"""What happens next: perform, review, recover, activate, tell. Use cases over policy and the ledger."""
