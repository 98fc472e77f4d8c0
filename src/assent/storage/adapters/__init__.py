"""Databases by name."""
