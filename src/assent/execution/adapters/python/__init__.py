"""The python lane: source runs in a confined interpreter that was warm before."""

from __future__ import annotations

from assent.execution.adapters.python.lane import PythonLane
from assent.execution.adapters.python.sessions import SessionRules

__all__ = ["PythonLane", "SessionRules"]
