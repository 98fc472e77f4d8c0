"""What runs on the far side of an SSH target. Sent there as source: it knows the standard library and its siblings."""
