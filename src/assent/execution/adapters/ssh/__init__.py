"""Another machine, reached by the system's SSH client. What it says of itself is asserted, and nothing more."""

from __future__ import annotations

from assent.execution.adapters.ssh.client import Access
from assent.execution.adapters.ssh.target import SshTarget

__all__ = ("SshTarget", "Access")
