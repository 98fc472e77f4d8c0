"""Durable truth: intents, effects, receipts, reviews, the log, and the connectors that say what can be done."""
