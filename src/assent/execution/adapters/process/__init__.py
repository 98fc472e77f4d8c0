"""The process lane: one program, from its start to the proof of its death."""

from __future__ import annotations

from assent.execution.adapters.process.lane import ProcessLane

__all__ = ["ProcessLane"]
