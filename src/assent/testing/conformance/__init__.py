"""Suites that every adapter of a port must pass: subclass one in a test module and give it the adapter."""
