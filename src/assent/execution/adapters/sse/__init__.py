"""The sse lane. Importing this loads no HTTP library; the first order does."""

from __future__ import annotations

from assent.execution.adapters.sse.lane import SseLane

__all__ = ["SseLane"]
