"""What can be asked of the ledger's store about guest nodes and their tickets. Each command is one atomic change."""

from __future__ import annotations

import msgspec

from assent.execution.guests import Ticket
from assent.ledger.commands import Command
from assent.primitives.ids import GrantId


class InviteGuest(Command, frozen=True, kw_only=True, gc=False):
    """Expect a newcomer under `name` who has the secret with this digest. Whoever had the name is out.

    Result: False when there are `guests_max` others already."""

    name: str
    secret: str
    ttl_ms: int
    guests_max: int


class AdmitGuest(Command, frozen=True, kw_only=True, gc=False):
    """Let the newcomer in, and use the secret up. Result: whether the secret was good."""

    name: str
    secret: str
    key: str


class RemoveGuest(Command, frozen=True, kw_only=True, gc=False):
    """Take a guest's name, key and lease away, and lose what it had. Result: whether there was one."""

    name: str


class GuestArrives(Command, frozen=True, kw_only=True, gc=False):
    """A guest with this key begins to serve. Result: its fence; 0 when it is none."""

    name: str
    key: str
    offers: bytes
    signature: bytes
    lanes: str
    ttl_ms: int


class GuestBeats(Command, frozen=True, kw_only=True, gc=False):
    """Renew a guest's lease. Result: whether it was still held."""

    name: str
    fence: int
    ttl_ms: int


class DescribeGuest(Command, frozen=True, kw_only=True, gc=False):
    """Keep what the guest that has this fence found out about itself anew."""

    name: str
    fence: int
    offers: bytes
    signature: bytes


class GuestLeaves(Command, frozen=True, kw_only=True, gc=False):
    """End a guest's lease, and lose what it had under it."""

    name: str
    fence: int


class WriteTicket(Command, frozen=True, kw_only=True, gc=False):
    """Put a ticket where its guest may claim it, and forget tickets that are long over (`keep_ms`)."""

    ticket: Ticket
    data: bytes
    signature: bytes
    keep_ms: int


class ClaimTicket(Command, frozen=True, kw_only=True, gc=False):
    """Claim a ticket. Result: its bytes and signature for the one claim that wins, else None."""

    ticket: GrantId
    guest: str
    fence: int


class EndTicket(Command, frozen=True, kw_only=True, gc=False):
    """Record how a ticket ended. Result: True in time, False late (then it is kept beside it), None: known."""

    ticket: GrantId
    guest: str
    fence: int
    outcome: bytes
    signature: bytes


class ForsakeTicket(Command, frozen=True, kw_only=True, gc=False):
    """Wait no longer. Result: `Standing`."""

    ticket: GrantId


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time way in for one guest: what it is told to run, and until when that is good."""

    name: str
    token: str
    hub: str
    expires_at_ms: int
