"""The terminal lane: a person's interactive terminal into a confined program, recorded."""

from __future__ import annotations

from assent.execution.adapters.terminal.lane import TerminalLane

__all__ = ["TerminalLane"]
