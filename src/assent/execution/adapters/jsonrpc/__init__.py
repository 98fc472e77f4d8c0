"""The jsonrpc lane, and the links and calls that lanes which speak JSON-RPC are built of."""

from __future__ import annotations

from assent.execution.adapters.jsonrpc.lane import RpcLane

__all__ = ["RpcLane"]
