"""Transactions, group commit, migrations: where rows become durable."""
