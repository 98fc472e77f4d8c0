"""The mcp lane: calls tools of MCP servers, as they were admitted."""

from __future__ import annotations

from assent.execution.adapters.mcp.lane import McpLane

__all__ = ["McpLane"]
