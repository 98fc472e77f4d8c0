"""Surfaces translate between people or programs and the use cases below. They hold no rules."""
