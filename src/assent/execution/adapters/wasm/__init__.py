"""The wasm lane: WebAssembly modules in an engine that is itself confined."""

from __future__ import annotations

from assent.execution.adapters.wasm.lane import WasmLane

__all__ = ["WasmLane"]
