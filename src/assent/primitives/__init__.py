"""Values every layer shares: ids, clock, canonical bytes, digests, leases, transitions, errors."""
