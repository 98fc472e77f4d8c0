"""Verification of the rows beside the log: what the log says, recomputed entry by entry. Pure.

The stand-alone verifier proves that the log is whole. This proves that everything else in the database says the same:
each effect's and review's row is what folding its entries gives, the active policy is the one last activated, every
payload that is still there is the one its entry commits to. So one changed byte in any record shows.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assent.ledger.budget_folds import BudgetFold
from assent.ledger.effects import EFFECT, EffectState, Move
from assent.ledger.entries import Entry
from assent.ledger.policy_signatures import holders
from assent.ledger.reviews import ReviewMove, ReviewState
from assent.primitives.digests import Digest, commitment, digest
from assent.primitives.errors import InvariantBroken, Malformed, Refused


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that does not hold: the table, the row's place in words, and what is wrong with it."""

    table: str
    tenant: str
    place: str
    message: str


class VerificationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked and what did not hold. `notices` say what a pass does not show."""

    entries: int
    effects: int
    payloads: int
    checkpoints: int
    duration_ms: int
    faults: tuple[Fault, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was checked holds."""
        return not self.faults


class FoldedEffect(msgspec.Struct, kw_only=True):
    """What the entries read so far say about one effect; the same fields as its row."""

    key: str
    operation: str
    run: str
    parent: str
    review: str
    state: EffectState
    code: str
    attempt: int
    node: str
    fence: int
    observations: int
    first_seq: int
    last_seq: int
    intent: Digest | None


class FoldedReview(msgspec.Struct, kw_only=True):
    """What the entries read so far say about one review. `reason` is None once the last answer's payload is erased."""

    effect: str
    terms: dict[str, Any]
    state: ReviewState = ReviewState.OPEN
    approvers: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    escalated: bool = False
    reason: str | None = ""


class FoldedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry says about one activation; `text` is the digest of the policy's text."""

    revision: str
    text: Digest
    activated_by: str
    activated_at_ms: int
    signatures: str


class FoldedJournal(msgspec.Struct, kw_only=True):
    """What the entries read so far say about one journal; the same fields as its row."""

    state: str
    name: str
    parent: str
    node: str
    fence: int
    entries: int
    first_seq: int
    last_seq: int
    updated_at_ms: int


class FoldedKey(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry says about a key of its journal; `digest` is None once its payload is erased."""

    digest: Digest | None
    seq: int


class Fold:
    """Folds a tenant's entries, in order, into what the other tables must say."""

    def __init__(self) -> None:
        self.effects: dict[str, FoldedEffect] = {}
        self.reviews: dict[str, FoldedReview] = {}
        self.policies: dict[int, FoldedPolicy] = {}
        self.journals: dict[str, FoldedJournal] = {}
        self.journal_keys: dict[tuple[str, str], FoldedKey] = {}
        self.budgets = BudgetFold()
        self.erased = 0
        self._keys: set[str] = set()

    def add(self, entry: Entry, payload: bytes | None, salt: bytes | None) -> str:
        """Take in one entry. Returns what is wrong with it, or an empty string."""
        body = entry.body
        if payload is not None and commitment(salt or b"", payload) != body.get("payload"):
            return "the payload is not the one the entry commits to"
        if salt is not None and "payload" not in body:
            return "there is a salt, and the entry commits to no payload"
        self.erased += payload is None and "payload" in body
        if entry.type == "policy.activated":
            return self._activate(entry)
        if "journal" in body:
            return self._note(entry, payload)
        if "effect" not in body:
            return self.budgets.add(entry)
        if entry.type == "effect.accepted":
            if body["effect"] in self.effects:
                return "the effect was accepted before"
            if body["key"] and body["key"] in self._keys:
                return "another effect has its idempotency key"
            self._accept(entry, payload)
        return self._move(entry, payload) or self.budgets.add(entry)

    def _activate(self, entry: Entry) -> str:
        body = entry.body
        signatures = body.get("signatures", ())  # entries from before policies were signed have none
        self.policies[body["number"]] = FoldedPolicy(
            revision=body["revision"],
            text=body["text"],
            activated_by=body["by"],
            activated_at_ms=entry.at,
            signatures="\n".join(signatures),
        )
        try:
            holders(body["revision"], signatures)
        except (Malformed, Refused) as error:
            return f"the policy revision is not signed as it says: {error.message}"
        return ""

    def _note(self, entry: Entry, payload: bytes | None) -> str:
        body = entry.body
        journal = self.journals.get(body["journal"])
        if body["before"] != (journal.last_seq if journal else -1):
            return "the entry does not continue the journal"
        self.journals[body["journal"]] = FoldedJournal(
            state=body["state"],
            name=journal.name if journal else body["name"],
            parent=journal.parent if journal else body["parent"],
            node=body["node"],
            fence=body["fence"],
            entries=journal.entries + 1 if journal else 1,
            first_seq=journal.first_seq if journal else entry.seq,
            last_seq=entry.seq,
            updated_at_ms=entry.at,
        )
        if "key" in body:
            known = None if payload is None and "payload" in body else digest(payload or b"")
            self.journal_keys[body["journal"], body["key"]] = FoldedKey(digest=known, seq=entry.seq)
        return ""

    def _accept(self, entry: Entry, payload: bytes | None) -> None:
        body = entry.body
        self._keys.add(body["key"])
        self.effects[body["effect"]] = FoldedEffect(
            key=body["key"],
            operation=body["operation"],
            run=body["run"],
            parent=body["parent"],
            review=body["review"],
            state=EFFECT.start,
            code=body["code"],
            attempt=0,
            node="",
            fence=0,
            observations=0,
            first_seq=entry.seq,
            last_seq=-1,
            intent=_intent_digest(payload),
        )
        if body["review"]:
            self.reviews[body["review"]] = FoldedReview(effect=body["effect"], terms=body["review_terms"])

    def _move(self, entry: Entry, payload: bytes | None) -> str:
        body = entry.body
        effect = self.effects.get(body["effect"])
        if effect is None:
            return "the entry is about an effect that was never accepted"
        if body["before"] != effect.last_seq:
            return "the entry does not continue the effect's history"
        effect.last_seq = entry.seq
        if entry.type == "effect.late_result":
            return ""
        try:
            for move in body.get("moves", ()):
                effect.state = EFFECT.after(effect.state, Move(move))
        except (ValueError, InvariantBroken):
            return f"no move `{body['moves']}` leads on from `{effect.state}`"
        effect.code = body.get("code", effect.code)
        effect.attempt = body.get("attempt", effect.attempt)
        effect.node = body.get("node", effect.node)
        effect.fence = body.get("fence", effect.fence)
        effect.observations = body.get("observations", effect.observations)
        self._review(entry, payload)
        return "" if body.get("state", effect.state) == effect.state else "the entry names another state than its moves"

    def _review(self, entry: Entry, payload: bytes | None) -> None:
        body = entry.body
        if "review_state" in body:
            review = self.reviews[body["review"]]
            review.state = ReviewState(body["review_state"])
            if body.get("answer") == ReviewMove.APPROVE:
                review.approvers = (*review.approvers, body["by"])
                review.places = (*review.places, body.get("place_of", "-"))
            review.escalated |= entry.type == "review.escalated"
            if "answer" in body:
                review.reason = None if payload is None else payload.decode()
        elif entry.type == "effect.dispatched" and body["review"]:
            self.reviews[body["review"]].state = ReviewState.CONSUMED


def _intent_digest(payload: bytes | None) -> Digest | None:
    """The digest of the canonical intent inside an acceptance's payload, without decoding it: it is the raw value."""
    if payload is None:
        return None
    raw = msgspec.json.decode(payload, type=_RawIntent).intent
    return digest(bytes(raw))


class _RawIntent(msgspec.Struct):
    intent: msgspec.Raw
