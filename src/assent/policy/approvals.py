"""An approval, as policy is told of it: people said yes to exactly one call. Pure values."""

from __future__ import annotations

import msgspec

from assent.primitives.digests import Digest


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """People approved the intent with this digest. Whoever hands it over has seen that it has not expired.

    `places` are in whose place each of them did (empty: their own), `escalated` says that nobody had answered in time.
    """

    intent: Digest
    quorum: int
    approvers: tuple[str, ...]
    places: tuple[str, ...] = ()
    escalated: bool = False

    @property
    def people(self) -> frozenset[str]:
        """Those of the approvers who count: people, each once, whatever the case. An agent or service approves
        nothing."""
        found = {name.lower(): name for name in reversed(self.approvers) if name.startswith("person:")}
        return frozenset(found.values())

    @property
    def strength(self) -> int:
        """How many approvals it is worth: never more than it names people, never more than it claims."""
        return min(self.quorum, len(self.people))


class Waived(Approval, frozen=True, kw_only=True):
    """People waived the question for calls of this kind, before this one was asked, for so many seconds altogether."""

    lasts_s: int


class Emergency(Approval, frozen=True, kw_only=True):
    """Nobody has approved: the asker takes it on themselves, and answers for it afterwards."""

    @property
    def strength(self) -> int:
        """As much as it claims."""
        return self.quorum


class Hypothetical(Approval, frozen=True, kw_only=True):
    """What is supposed when the engine asks whether people could approve a call at all: its quorum is reached."""

    @property
    def strength(self) -> int:
        """As much as it claims."""
        return self.quorum
