"""The composition root: settings, keys, clock, wiring, life span. Only here (and in testing) are adapters named."""
