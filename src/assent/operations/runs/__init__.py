"""Runs: durable pieces of an agent's work, each a fold over what the log says of it."""
