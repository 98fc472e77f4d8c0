"""Typed ids: one kind each, the kind is in the text, and newer ids sort after older ones.

The text is `prefix_` and 28 hex digits: 48 bits of milliseconds and 64 random bits. A thousand ids made in the same
millisecond collide with a probability below 1e-13, and a collision is an error, never an overwrite.
"""

from __future__ import annotations

import re
from typing import NewType

from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Malformed

TenantId = NewType("TenantId", str)
EffectId = NewType("EffectId", str)
GrantId = NewType("GrantId", str)
ReviewId = NewType("ReviewId", str)
RunId = NewType("RunId", str)
NodeId = NewType("NodeId", str)
ExecutionId = NewType("ExecutionId", str)

PREFIXES: dict[str, str] = {
    "effect": "eff",
    "grant": "gra",
    "review": "rev",
    "run": "run",
    "node": "nod",
    "execution": "exe",
}

_TEXT = re.compile(r"[a-z]{3}_[0-9a-f]{28}\Z")
_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


class IdSource:
    """Makes new ids from a clock and entropy."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy

    def effect(self) -> EffectId:
        """A new effect id."""
        return EffectId(self._new("eff"))

    def grant(self) -> GrantId:
        """A new grant id."""
        return GrantId(self._new("gra"))

    def review(self) -> ReviewId:
        """A new review id."""
        return ReviewId(self._new("rev"))

    def waiver(self) -> str:
        """The id of a new waiver."""
        return self._new("wvr")

    def token(self) -> str:
        """The id of a new token."""
        return self._new("tok")

    def run(self) -> RunId:
        """A new run id."""
        return RunId(self._new("run"))

    def node(self) -> NodeId:
        """A new node id."""
        return NodeId(self._new("nod"))

    def execution(self) -> ExecutionId:
        """A new id of an active execution."""
        return ExecutionId(self._new("exe"))

    def _new(self, prefix: str) -> str:
        return f"{prefix}_{self._clock.now_ms():012x}{self._entropy(8).hex()}"


def kind_of(text: str) -> str:
    """Return the kind (`effect`, `review`, …) that an id's text carries.

    Raises:
        Malformed: the text is not an id of a known kind.
    """
    if _TEXT.match(text):
        for kind, prefix in PREFIXES.items():
            if text.startswith(prefix):
                return kind
    raise Malformed("id_malformed", f"`{text[:60]}` is not an id", hint="ids look like `eff_` and 28 hex digits")


def tenant(text: str) -> TenantId:
    """Return `text` as a tenant id: a DNS label (lower-case letters, digits, hyphens, at most 63).

    Raises:
        Malformed: the text is not such a label.
    """
    if _TENANT.match(text):
        return TenantId(text)
    raise Malformed(
        "tenant_malformed", f"`{text[:80]}` is not a tenant name", hint="use lower-case letters, digits and hyphens"
    )
