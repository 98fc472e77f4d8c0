"""Places for entries."""
