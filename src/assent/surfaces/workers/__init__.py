"""Processes that drive runs, and the one that watches over them."""
