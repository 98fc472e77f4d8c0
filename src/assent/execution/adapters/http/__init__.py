"""The http lane. Importing this loads no HTTP library; the first order does."""

from __future__ import annotations

from assent.execution.adapters.http.lane import HttpLane

__all__ = ["HttpLane"]
