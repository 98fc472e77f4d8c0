"""What can be asked of the store about agents that can be found. These commands write no entry: a registry says who is
there now, and what they did is in the log."""

from __future__ import annotations

from assent.ledger.commands import Command
from assent.primitives.leases import Fence
from assent.registry.agents import Entry


class PutAgents(Command, frozen=True, kw_only=True, gc=False):
    """Write entries, all or none, each with the keys that it is found by. Result: the revision.

    What is gone for more revisions than are `kept` is forgotten; so it is with each of these commands.
    """

    entries: tuple[tuple[Entry, tuple[str, ...]], ...]
    fence: Fence
    kept: int


class DropAgents(Command, frozen=True, kw_only=True, gc=False):
    """Take entries of this node out. Result: the revision."""

    ids: tuple[str, ...]
    fence: Fence
    kept: int


class SweepAgents(Command, frozen=True, kw_only=True, gc=False):
    """Take entries of nodes whose lease is over out, at most `limit`. Result: how many there were."""

    limit: int
    fence: Fence
    kept: int
