"""Which agents there are, and which of them can do what: found by id, capability, health and declared indexes."""
