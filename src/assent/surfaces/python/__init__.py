"""Assent in a program: one line, or an agent with tools. The same path as everywhere: decided, recorded, confined."""
