"""What can be asked of the ledger's store. Each command is one atomic change with its log entry; frozen values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from assent.ledger.budgets import Hold, Shortage
from assent.ledger.decisions import Decision, Placement
from assent.ledger.effects import EffectState, Move
from assent.ledger.entries import Draft
from assent.ledger.intents import Intent
from assent.ledger.journals import Content, Note
from assent.ledger.rates import Ceiling
from assent.ledger.reviews import Review
from assent.primitives.digests import Digest
from assent.primitives.ids import EffectId, GrantId, ReviewId, TenantId
from assent.primitives.leases import Fence


class Command(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Every command names its tenant."""

    tenant: TenantId


class Accept(Command, frozen=True, kw_only=True, gc=False):
    """Accept an intent together with its decision: refused, in review, or granted and dispatched at once.

    Holds only while `fence` holds, `decision.policy_revision` is the active one, nothing that a dispatched call falls
    under is halted, and no budget is above one of the `ceilings` that a dispatch was decided under. `contents` are
    pieces that the intent names by digest. `holds` are taken with a dispatch, all or none; `shortage` is why an
    accept before this one found no room, and this one is refused. `notes` are written into their journals with it, or
    it is not accepted. Result: `Accepted`, or a `Shortage`, and then nothing was accepted.
    """

    effect: EffectId
    intent: Intent
    intent_digest: Digest
    decision: Decision
    state: EffectState
    fence: Fence
    parent: str
    review: Review | None
    draft: Draft
    contents: tuple[Content, ...] = ()
    holds: tuple[Hold, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    shortage: Shortage | None = None
    notes: tuple[Note, ...] = ()


class Dispatch(Command, frozen=True, kw_only=True, gc=False):
    """Dispatch a granted effect, consuming its approved review, or send an unknown one again (`again`).

    Holds only while the fence holds, the revision is active, nothing of `scopes` (`halts.scopes_of`) is halted, and
    the effect still stands at `last_seq`. `holds` are taken and `ceilings` looked at as an accept does; what an
    unknown effect held stands, and is used again. Result: the new log position, or a `Shortage`, and then the effect
    stays granted and its approval good, and the stop is on record.
    """

    effect: EffectId
    last_seq: int
    review: ReviewId | None
    again: bool
    attempt: int
    grant_id: GrantId
    policy_revision: str
    rules: tuple[str, ...]
    fence: Fence
    placement: Placement | None = None
    holds: tuple[Hold, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    scopes: tuple[str, ...] = ()


class Settle(Command, frozen=True, kw_only=True, gc=False):
    """Record how an attempt ended. Applied only if that attempt is still current under `fence`; otherwise the result
    is recorded as late and changes nothing. `used` is what it used of the units it held, as far as somebody can say.
    Result: `Settled`."""

    effect: EffectId
    last_seq: int
    attempt: int
    fence: Fence
    state: EffectState
    code: str
    draft: Draft
    used: Mapping[str, int] | None = None


class Judge(Command, frozen=True, kw_only=True, gc=False):
    """Settle an unknown effect from what was observed or attested, count an unclear look, or quarantine it."""

    effect: EffectId
    last_seq: int
    state: EffectState
    code: str
    observations: int
    draft: Draft


class AnswerReview(Command, frozen=True, kw_only=True, gc=False):
    """Approve or deny an open review, in one's own place or in that of `place_of`. Result: the `Review` as it stands
    afterwards.

    `completes` says whether this yes, after those of `counted`, is all that is asked for: who has which role is not the
    ledger's to know. It checks that nobody else approved meanwhile, and that there are never fewer than the quorum.
    """

    review: ReviewId
    approve: bool
    by: str
    reason: str
    salt: bytes
    place_of: str = ""
    counted: tuple[str, ...] = ()
    completes: bool = False


class EscalateReview(Command, frozen=True, kw_only=True, gc=False):
    """Put an open review before those whom it goes to when nobody answers. Result: the `Review`."""

    review: ReviewId
    by: str


class Withdraw(Command, frozen=True, kw_only=True, gc=False):
    """End a granted effect that policy no longer allows (`revoke`) or that waited too long (`expire`)."""

    effect: EffectId
    last_seq: int
    review: ReviewId
    move: Move
    code: str
    policy_revision: str
    rules: tuple[str, ...]


class DismissStop(Command, frozen=True, kw_only=True, gc=False):
    """Take note that a person has seen what a budget stopped, so that it does not wait in the inbox any more. Result:
    the log position."""

    effect: EffectId
    by: str


class ExpireReviews(Command, frozen=True, kw_only=True, gc=False):
    """Expire every review whose time has passed on the database's clock, and escalate what nobody answered for as long
    as it says. Result: how many expired."""


class WriteNotes(Command, frozen=True, kw_only=True, gc=False):
    """Write into journals, all notes or none, and keep what they name by digest.

    Holds only while `fence` holds, and each journal stands where its note says and belongs to nobody else who lives.
    Result: `Noted`.
    """

    fence: Fence
    notes: tuple[Note, ...]
    contents: tuple[Content, ...] = ()


class ActivatePolicy(Command, frozen=True, kw_only=True, gc=False):
    """Make a policy revision the active one. `signatures` are lines of `policy_signatures`. Result: its number."""

    revision: Digest
    text: str
    by: str
    expected: str
    signatures: tuple[str, ...] = ()


class TakeLease(Command, frozen=True, kw_only=True, gc=False):
    """Take this node's lease. Result: `Lease`."""

    fence: Fence
    ttl_ms: int


class RenewLease(Command, frozen=True, kw_only=True, gc=False):
    """Renew it. Result: whether it is still held."""

    fence: Fence
    ttl_ms: int


class ReleaseLease(Command, frozen=True, kw_only=True, gc=False):
    """Give it up at an orderly end. Result: None."""

    fence: Fence


class FenceOut(Command, frozen=True, kw_only=True, gc=False):
    """Take a node's lease away: it lapsed, or `dead` says its process is gone. What it had dispatched becomes unknown.
    Result: the effects that did."""

    fence: Fence
    dead: bool


class OpenLog(Command, frozen=True, kw_only=True, gc=False):
    """Write the first entry of a tenant's log if it has none. Result: None."""


class KeepCheckpoint(Command, frozen=True, kw_only=True, gc=False):
    """Keep the current signed head for ever. Result: its note."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """`fresh` is False when the idempotency key already had this effect."""

    effect: EffectId
    seq: int
    fresh: bool


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """`applied` is False when the result came late."""

    seq: int
    applied: bool
