"""Briefings: what somebody should know before they answer a review, beside the call itself.

What would change is looked up by a read of its own, through the gate, in the name of who wants to know: policy decides
whether they may see it, and the look is on record.
"""

from __future__ import annotations

import difflib

import msgspec

from assent.ledger.budgets import Hold
from assent.ledger.effects import EffectState
from assent.ledger.intents import Intent
from assent.ledger.ports import LedgerStore
from assent.ledger.provenance import TYPED
from assent.ledger.reviews import Review, ReviewState
from assent.operations.budgeting import brought_by
from assent.operations.gate import Gate
from assent.operations.policy_changes import PolicyChanges, Proposal
from assent.operations.timelines import Explanation, Timelines
from assent.operations.wishes import Wish
from assent.primitives.ids import ReviewId, TenantId

PRECEDENTS_MAX = 200
OPEN_MAX = 500
CHANGE_CHARACTERS_MAX = 64_000
READ, CHANGES = "files.read", ("files.write", "files.append", "files.edit", "files.delete")


class Precedents(msgspec.Struct, frozen=True, kw_only=True):
    """How reviews of the same operation for the same asker ended before, and the last of them."""

    approved: int = 0
    denied: int = 0
    expired: int = 0
    last: Review | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a call would change in a file, as a unified diff; or why that cannot be told."""

    path: str
    diff: str
    unknown: str = ""


class Briefing(msgspec.Struct, frozen=True, kw_only=True):
    """A review with what happened to its like, the open reviews that are like it, what would change in a file or in the
    policy, and what it would hold of budgets."""

    about: Explanation
    precedents: Precedents
    alike: tuple[ReviewId, ...]
    change: Change | None
    proposal: Proposal | None
    holds: tuple[Hold, ...]


class Briefings:
    """Tells what there is to know. Every dependency is given."""

    def __init__(self, *, store: LedgerStore, gate: Gate, timelines: Timelines, policy_changes: PolicyChanges) -> None:
        self._policy_changes = policy_changes
        self._store = store
        self._gate = gate
        self._timelines = timelines

    async def of(self, tenant: TenantId, review: ReviewId, *, by: str) -> Briefing:
        """Everything about one review, for `by`.

        Raises:
            NotFound: there is no such review.
        """
        found = await self._timelines.review(tenant, review)
        about = await self._timelines.explain(tenant, found.effect)
        effect = await self._store.effect(tenant, found.effect)
        history = await self._store.history(tenant, effect) if effect else []
        changing = about.intent is not None and found.state is ReviewState.OPEN and not found.after
        return Briefing(
            about=about,
            precedents=await self._precedents(about),
            alike=tuple(one.id for one in await self.alike(tenant, about)),
            change=await self._change(about.intent, by=by) if changing and about.intent else None,
            proposal=await self._policy_changes.told(tenant, about.intent) if about.intent else None,
            holds=brought_by(history),
        )

    async def alike(self, tenant: TenantId, about: Explanation) -> list[Review]:
        """The open reviews that are like one: the same operation with the same arguments named, asked by the same, and
        stopped by the same rules."""
        open_ = await self._store.reviews(tenant, states=(ReviewState.OPEN,), limit=OPEN_MAX)
        found = []
        for review in open_:
            if about.review is not None and review.id != about.review.id:
                other = await self._timelines.explain(tenant, review.effect)
                if _kind(other) == _kind(about) and review.after == about.review.after:
                    found.append(review)
        return found

    async def _precedents(self, about: Explanation) -> Precedents:
        if about.review is None:
            return Precedents()
        past = await self._store.precedents(
            about.effect.tenant, about.effect.operation, about.review.requested_by[0], limit=PRECEDENTS_MAX
        )
        said = [one.state for one in past if one.id != about.review.id]
        return Precedents(
            approved=sum(one in (ReviewState.APPROVED, ReviewState.CONSUMED, ReviewState.VOID) for one in said),
            denied=said.count(ReviewState.DENIED),
            expired=said.count(ReviewState.EXPIRED),
            last=past[0] if past else None,
        )

    async def _change(self, intent: Intent, *, by: str) -> Change | None:
        """What a call that writes to a file would change in it."""
        path = intent.arguments.get("path")
        if intent.operation not in CHANGES or not isinstance(path, str):
            return None
        looked = await self._gate.perform(
            Wish(tenant=intent.tenant, operation=READ, arguments={"path": path}, principal=by, provenance=TYPED)
        )
        if looked.outcome is None or looked.effect.state is not EffectState.SUCCEEDED:
            if looked.outcome is None:
                return Change(path=path, diff="", unknown=looked.decision.reason if looked.decision else "")
            before = ""  # it is not there, or is no file
        elif isinstance(looked.outcome.value.get("text"), str):
            before = looked.outcome.value["text"]
        else:
            return Change(path=path, diff="", unknown="it is not text")
        return Change(path=path, diff=_diff(path, before, _after(intent, before)))


def _kind(about: Explanation) -> tuple[object, ...]:
    asked = about.intent.arguments if about.intent else {}
    review = about.review.requested_by if about.review else ()
    return (about.effect.operation, tuple(sorted(asked)), review, about.rules)


def _after(intent: Intent, before: str) -> str:
    """What a file holds after a call, by what the call says."""
    said = intent.arguments
    match intent.operation:
        case "files.write":
            return str(said.get("content", ""))
        case "files.append":
            return before + str(said.get("content", ""))
        case "files.edit":
            return before.replace(str(said.get("old", "")), str(said.get("new", "")), -1 if said.get("all") else 1)
        case _:
            return ""


def _diff(path: str, before: str, after: str) -> str:
    if len(before) + len(after) > 4 * CHANGE_CHARACTERS_MAX:
        return f"{len(before)} characters become {len(after)}"
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, lineterm="", n=2)
    told = "\n".join(lines)
    return told if len(told) <= CHANGE_CHARACTERS_MAX else f"{told[:CHANGE_CHARACTERS_MAX]}\n… and more"
