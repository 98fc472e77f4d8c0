"""The file lane: operations on files beneath a workspace, which no path, link or race leads out of."""

from __future__ import annotations

from assent.execution.adapters.files.lane import FileLane

__all__ = ["FileLane"]
