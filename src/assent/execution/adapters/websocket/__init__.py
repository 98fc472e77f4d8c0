"""The websocket lane. Importing this loads no WebSocket library; the first order does."""

from __future__ import annotations

from assent.execution.adapters.websocket.lane import WebSocketLane

__all__ = ["WebSocketLane"]
