"""Wishes and answers: what a surface hands to the gate, and what it gets back. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.execution.outcomes import Outcome
from assent.ledger.budget_limits import check_holds
from assent.ledger.budgets import Hold
from assent.ledger.decisions import Decision
from assent.ledger.effects import Effect
from assent.ledger.journals import Content
from assent.ledger.provenance import TYPED, UNVOUCHED, Provenance
from assent.ledger.reviews import Review, check_reason
from assent.primitives.errors import Malformed
from assent.primitives.ids import TenantId

__all__ = ["TYPED", "Answer", "Wish", "check_names"]
KEY_BYTES_MAX = 200
# Whoever could take such a key first would decide what the reconciler sees.
OBSERVATION_KEYS = "observe/"
NAME_BYTES_MAX = 1_200


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a surface hands to the gate: who wishes what, as plain values.

    `contents` are the pieces that the arguments name by digest; they are kept with the call. `holds` are what it has to
    hold beside what the limits of the installation ask for: a run's own allowance, say. `provenance` is on whose word
    it stands; a surface says `TYPED` where a person chose the call. `emergency` is why a person will not wait for
    others to approve: where the rules let them, it is done at once and looked at afterwards. Without `may_ask` a call
    that people would be asked about is refused: they were asked often enough.
    """

    tenant: TenantId
    operation: str
    arguments: Mapping[str, Any]
    principal: str
    on_behalf_of: tuple[str, ...] = ()
    run: str = ""
    key: str = ""
    parent: str = ""
    contents: tuple[Content, ...] = ()
    holds: tuple[Hold, ...] = ()
    provenance: Provenance = UNVOUCHED
    emergency: str = ""
    may_ask: bool = True


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a wish. `outcome` is there once an attempt has ended, `review` while a person is asked; `fresh` is
    False when the idempotency key already had this effect and nothing was done now."""

    effect: Effect
    decision: Decision | None
    outcome: Outcome | None = None
    review: Review | None = None
    fresh: bool = True


def check_names(wish: Wish) -> None:
    """Names stand in entries, which are for ever, and keys in an index: each must be a text, and have an end.

    Raises:
        Malformed: a field is not what it should be.
    """
    _check_types(wish)
    check_holds(wish.holds)
    check_reason(wish.emergency)
    if wish.key.startswith(OBSERVATION_KEYS) and not wish.parent:
        raise Malformed("key_reserved", f"keys that begin with `{OBSERVATION_KEYS}` are the reconciler's own")
    chain = " ".join(wish.on_behalf_of)
    named = (("operation", wish.operation), ("principal", wish.principal), ("chain", chain), ("run", wish.run))
    for what, text, bytes_max in (("key", wish.key, KEY_BYTES_MAX), *((*name, NAME_BYTES_MAX) for name in named)):
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise Malformed(f"{what}_malformed", f"the {what} of a call must be valid Unicode") from error
        if size > bytes_max:
            raise Malformed(f"{what}_too_long", f"the {what} of a call has at most {bytes_max} bytes")


def _check_types(wish: Wish) -> None:
    """A surface in Python may hand over anything; what is not a text or a mapping is told, not tripped over."""
    chain: object = wish.on_behalf_of
    arguments: object = wish.arguments
    texts: tuple[object, ...] = (wish.tenant, wish.operation, wish.principal, wish.run, wish.key, wish.parent)
    chained = isinstance(chain, tuple) and all(isinstance(name, str) for name in chain)
    holds: object = wish.holds
    held = isinstance(holds, tuple) and all(isinstance(hold, Hold) for hold in holds)
    if not (chained and held and isinstance(arguments, Mapping) and all(isinstance(text, str) for text in texts)):
        raise Malformed(
            "wish_malformed",
            "a call takes texts for its names, a tuple of texts as its chain, one of holds, a mapping as its arguments",
        )
