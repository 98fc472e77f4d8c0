"""The demonstration: a true story on real files, real processes and a real server, with no model in it."""
