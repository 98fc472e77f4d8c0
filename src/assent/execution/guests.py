"""Guest nodes: what is said between a hub and its guests, and what a guest's word is worth. Pure values and rules.

    asker ─ ticket (a row) ─► hub ─ waiting ─► guest ─ claim ─► hub (one statement decides) ─ given ─► guest
    asker ◄─ pieces, the end ─ hub ◄─ started, pieces, copies, ended (signed by the guest) ─ guest

A ticket is one granted order for one guest: signed by the hub, good for one claim, for a short time. It is claimed in
one statement that compares the guest's fence on the database's clock, so of several claims one wins; and the guest
writes the ticket's id down before it lets the order go, so nothing runs twice there either.

What a guest reads of its own sandboxes was observed by the guest. Seen from here it is *asserted*, unless the operator
trusts the guest to attest; then it stands as it was read, and the record names the key that vouches for it.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from assent.execution.attestations import LADDER, Attestation, ConfinementClass, Known, Property, tightest
from assent.execution.orders import Order
from assent.execution.outcomes import Ending, Outcome
from assent.execution.steering import EndInput, Input, Resize, Signal, Word
from assent.execution.targets import Offer
from assent.primitives.digests import digest
from assent.primitives.ids import EffectId, GrantId, TenantId
from assent.primitives.leases import Fence

VERSION = 1
FRAME_BYTES_MAX = 25_165_824
FIRST_FRAME_BYTES_MAX = 1_048_576  # from whoever has not been let in yet
OUTCOME_BYTES_MAX = 16_777_216  # in a frame it is a third longer
PIECE_BYTES_MAX = 65_536
CREDIT_BYTES = 262_144
TICKET_TTL_MS = 30_000
TOKEN_TTL_MS = 3_600_000
GUESTS_MAX = 256
_TICKET, _OFFERS, _OUTCOME = b"assent-ticket-v1\0", b"assent-offers-v1\0", b"assent-outcome-v1\0"


class Ticket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order for one guest. `id` is the grant's, `fence` that of the node that asks."""

    id: GrantId
    tenant: TenantId
    effect: EffectId
    attempt: int
    guest: str
    order: Order
    floor: ConfinementClass
    fence: Fence
    issued_at_ms: int
    expires_at_ms: int


class TicketState(StrEnum):
    """Where a ticket stands. LOST: the guest that had it lost its fence; WITHDRAWN: nobody ever had it."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    ENDED = "ended"
    LOST = "lost"
    WITHDRAWN = "withdrawn"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket as the database has it; `outcome` and `signature` as the guest gave them. `alive`: its guest's lease."""

    state: TicketState
    alive: bool = False
    outcome: bytes = b""
    signature: bytes = b""


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A guest as the database has it. `key` is its public key (hex); `offers` what it found of itself, signed by it."""

    name: str
    state: Literal["invited", "joined"]
    alive: bool
    key: str = ""
    fence: int = 0
    offers: bytes = b""
    signature: bytes = b""
    lanes: tuple[str, ...] = ()
    described_at_ms: int = 0
    seen_at_ms: int = 0
    waiting: int = 0
    running: int = 0
    late: int = 0


class Frame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="is"):
    """What goes over a connection: one JSON object, preceded by its length in four bytes."""


class Enrol(Frame, frozen=True, kw_only=True, tag="enrol"):
    """A newcomer with its one-time secret and its certificate signing request (DER)."""

    version: int
    name: str
    secret: str
    request: bytes


class Enrolled(Frame, frozen=True, kw_only=True, tag="enrolled"):
    """Its certificate, the authority's (both DER), and the key that tickets are signed with."""

    certificate: bytes
    authority: bytes
    tickets: bytes


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """A guest begins to serve: what it offers (JSON of `Offer`s), signed; the lanes it has; how many runs it takes."""

    version: int
    offers: bytes
    signature: bytes
    lanes: tuple[str, ...]
    slots: int


class Offers(Frame, frozen=True, kw_only=True, tag="offers"):
    """What the guest offers was found out anew. Signed as in `Hello`."""

    offers: bytes
    signature: bytes


class Welcome(Frame, frozen=True, kw_only=True, tag="welcome"):
    """Its fence, and for how long it may be silent."""

    fence: int
    lease_ms: int


class Refusal(Frame, frozen=True, kw_only=True, tag="refusal"):
    """No, and why, in a word that the other side knows. The connection ends."""

    why: Literal["version", "request", "invitation", "stranger", "lease", "ticket"]


class Beat(Frame, frozen=True, kw_only=True, tag="beat"):
    """Still there. The hub answers with the same when the lease holds."""


class Waiting(Frame, frozen=True, kw_only=True, tag="waiting"):
    """There is a ticket to be claimed."""

    tenant: TenantId
    ticket: GrantId


class Claim(Frame, frozen=True, kw_only=True, tag="claim"):
    """The guest would carry it now."""

    tenant: TenantId
    ticket: GrantId


class Given(Frame, frozen=True, kw_only=True, tag="given"):
    """It won the claim: the ticket's bytes and the hub's signature."""

    data: bytes
    signature: bytes


class Started(Frame, frozen=True, kw_only=True, tag="started"):
    """The ticket was good, and its order is being carried."""

    ticket: GrantId


class Piece(Frame, frozen=True, kw_only=True, tag="piece"):
    """A piece of output."""

    ticket: GrantId
    stream: str
    data: bytes


class Copy(Frame, frozen=True, kw_only=True, tag="copy"):
    """A piece of a large output that the outcome names by its digest. All of them come before the end."""

    ticket: GrantId
    digest: str
    data: bytes
    last: bool


class Ended(Frame, frozen=True, kw_only=True, tag="ended"):
    """How it ended: the JSON of an `Outcome`, signed by the guest."""

    tenant: TenantId
    ticket: GrantId
    outcome: bytes
    signature: bytes


class Recorded(Frame, frozen=True, kw_only=True, tag="recorded"):
    """The end is on record; `applied` is False when it came late."""

    ticket: GrantId
    applied: bool


class Say(Frame, frozen=True, kw_only=True, tag="say"):
    """A word for a running order (see `steering`)."""

    ticket: GrantId
    word: Literal["input", "end", "signal", "resize"]
    data: bytes = b""
    name: str = ""
    rows: int = 0
    columns: int = 0


class Credit(Frame, frozen=True, kw_only=True, tag="credit"):
    """So many more bytes of output are taken."""

    ticket: GrantId
    amount: int


class Cancel(Frame, frozen=True, kw_only=True, tag="cancel"):
    """Stop it."""

    ticket: GrantId


class Attend(Frame, frozen=True, kw_only=True, tag="attend"):
    """An asker on this machine attends its ticket: it hears what comes and may speak."""

    tenant: TenantId
    ticket: GrantId
    guest: str


class Over(Frame, frozen=True, kw_only=True, tag="over"):
    """Nothing more comes about this ticket, the database says how it stands; to a guest: the claim was not won."""

    ticket: GrantId


FromNewcomer = Enrol | Hello
FromGuest = Beat | Offers | Claim | Started | Piece | Copy | Ended
FromHub = Enrolled | Welcome | Refusal | Beat | Waiting | Given | Recorded | Say | Credit | Cancel | Over
FromAsker = Attend | Say | Credit | Cancel
ToAsker = Refusal | Started | Piece | Over


def saying(ticket: GrantId, word: Word) -> Say:
    """The frame that carries `word`."""
    match word:
        case Input(data=data):
            return Say(ticket=ticket, word="input", data=data)
        case EndInput():
            return Say(ticket=ticket, word="end")
        case Signal(name=name):
            return Say(ticket=ticket, word="signal", name=name)
        case Resize(rows=rows, columns=columns):
            return Say(ticket=ticket, word="resize", rows=rows, columns=columns)


def said(frame: Say) -> Word:
    """The word a frame carries. Raises msgspec.ValidationError when there is no such signal."""
    match frame.word:
        case "input":
            return Input(data=frame.data)
        case "end":
            return EndInput()
        case "signal":
            return msgspec.convert({"name": frame.name}, Signal)
        case "resize":
            return Resize(rows=frame.rows, columns=frame.columns)


def signed_ticket(data: bytes) -> bytes:
    """What the hub signs of a ticket."""
    return _TICKET + data


def signed_offers(data: bytes) -> bytes:
    """What a guest signs of its offers."""
    return _OFFERS + data


def signed_outcome(ticket: GrantId, data: bytes) -> bytes:
    """What a guest signs of an outcome: the ticket is in it, so that it answers no other."""
    return _OUTCOME + ticket.encode() + b"\0" + data


def signed_by(key: bytes, text: bytes, signature: bytes) -> bool:
    """Whether `signature` over `text` was made with the private half of the raw Ed25519 `key`."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_name(key: bytes) -> str:
    """What a public key is called in the record."""
    return "ed25519:" + hashlib.sha256(key).hexdigest()[:32]


def objection(ticket: Ticket, *, guest: str, now_ms: int, used: bool) -> str:
    """Why a guest must not carry a ticket whose signature holds, or an empty string."""
    if ticket.guest != guest:
        return "it is for another guest"
    if now_ms >= ticket.expires_at_ms:
        return "it is too old, by the guest's own clock"
    if used:
        return "it was used before"
    return ""


def floor_there(asked: ConfinementClass, least: ConfinementClass) -> ConfinementClass:
    """The floor a guest holds an order to: what is asked, and never below its own least."""
    return tightest(asked, least) if asked in LADDER else least


def claimed_offers(data: bytes, *, trusted: bool) -> tuple[Offer, ...]:
    """A guest's offers as they count here. Raises msgspec.ValidationError (or its parent) when they are none."""
    offers = msgspec.json.decode(data, type=tuple[Offer, ...])
    return offers if trusted else tuple(_asserted_offer(offer) for offer in offers)


def vouched(
    outcome: Outcome, *, guest: str, key: bytes, signature: bytes, data: bytes, trusted: bool, floor: ConfinementClass
) -> Outcome:
    """A guest's outcome as it counts here: who observed it, under which key, and whether that meets the floor.

    A guest refuses below the floor before it lets anything go. When one says that it ran something, and what it read
    does not meet the floor, the outcome is UNKNOWN (`attestation_short`): the effect may have happened, unconfined.
    """
    evidence = outcome.evidence
    attestation = _seen_from_here(evidence.attestation, guest=guest, key=key, trusted=trusted)
    facts = {
        **evidence.facts,
        "observed_by": {
            "guest": guest, "key": key_name(key), "trusted": trusted,
            "outcome": digest(data), "signature": signature.hex(),
        },
    }  # fmt: skip
    seen = msgspec.structs.replace(
        outcome, evidence=msgspec.structs.replace(evidence, attestation=attestation, facts=facts)
    )
    ran = bool(attestation.properties) and outcome.code != "confinement_unmet"
    if ran and not attestation.meets(floor):
        return msgspec.structs.replace(
            seen,
            ending=Ending.UNKNOWN,
            code="attestation_short",
            message=f"`{guest}` ran it, and what it read is `{attestation.confinement}`, below the floor `{floor}`",
        )
    return seen


def _seen_from_here(attestation: Attestation, *, guest: str, key: bytes, trusted: bool) -> Attestation:
    name = Property(
        value=f"guest {guest}, {key_name(key)}", known=Known.OBSERVED if trusted else Known.ASSERTED
    )  # the connection and the signature were made with this key: that much is seen here
    own = attestation if trusted else _asserted(attestation)
    if not own.properties:
        return own
    return msgspec.structs.replace(own, properties={**own.properties, "vouched-by": name})


def _asserted(attestation: Attestation) -> Attestation:
    held = (Known.OBSERVED, Known.PROBED, Known.CONFIGURED)
    return Attestation(
        mechanism=attestation.mechanism,
        properties={
            name: msgspec.structs.replace(one, known=Known.ASSERTED if one.known in held else one.known)
            for name, one in attestation.properties.items()
        },
    )


def _asserted_offer(offer: Offer) -> Offer:
    if offer.attestation is None:
        return offer
    return msgspec.structs.replace(offer, attestation=_asserted(offer.attestation))
