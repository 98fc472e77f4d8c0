"""Guest nodes: other machines that join by mutual TLS, pull orders, and lose their fences when they fall silent."""

from __future__ import annotations

from assent.execution.adapters.guest.authority import Authority
from assent.execution.adapters.guest.hub import Hub
from assent.execution.adapters.guest.membership import Membership, join
from assent.execution.adapters.guest.node import GuestNode
from assent.execution.adapters.guest.target import GuestTarget

__all__ = ("GuestTarget", "Hub", "Authority", "GuestNode", "Membership", "join")
