"""What a conversation runs on: something that takes messages and gives messages, and tells how it ended."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from assent.execution.attestations import Attestation
from assent.execution.outcomes import Ending
from assent.execution.ports import OnEvent, Steering
from assent.primitives.digests import Digest


class Gone(Exception):
    """The peer cannot be spoken with any more. `ending` FAILED: what was said last was certainly not carried out."""

    def __init__(self, code: str, message: str, *, ending: Ending, limit: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.ending, self.limit = code, message, ending, limit


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What a link knows of the other side, for the evidence."""

    attestation: Attestation
    facts: dict[str, Any] = {}
    digests: dict[str, Digest] = {}


class Link(Protocol):
    """One connection with one peer, used by one call at a time."""

    async def open(self) -> None:
        """Make it ready to be spoken with. Raises Gone."""
        ...

    def begin(self, *, on_event: OnEvent, steering: Steering | None, bytes_max: int) -> None:
        """An order begins: what the peer says from now on is counted anew, and taken while `steering` has room.

        What it writes beside the protocol goes to `on_event`.
        """
        ...

    async def say(self, message: bytes, *, answered: bool, acts: bool = False) -> None:
        """Hand a message over; `answered`: the peer owes something for it; `acts`: it is what the order is about."""
        ...

    @property
    def sent(self) -> bool:
        """Whether any of what the order is about may have reached the peer."""
        ...

    async def hear(self) -> bytes:
        """The next message.

        Raises:
            Gone: none comes any more.
            Malformed: what comes is no message; none that comes after it can be trusted.
        """
        ...

    @property
    def alive(self) -> bool:
        """Whether the peer may still be spoken with, as far as is known without asking."""
        ...

    def poll(self) -> bytes | None:
        """A message that has come already, if there is one."""
        ...

    async def rest(self) -> None:
        """All that was owed has come: let what belongs to it end."""
        ...

    async def close(self, *, grace_ms: int) -> None:
        """End it, politely for `grace_ms`, then surely. Idempotent."""
        ...

    def trace(self) -> Trace:
        """What is known of the peer now."""
        ...
