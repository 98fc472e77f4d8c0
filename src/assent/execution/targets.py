"""Targets: where lanes run, and what each can be trusted with. Pure values.

A descriptor is what a target was found to be, not what it was set up as: every offer in it comes from something that
was built and read, and goes stale.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from assent.execution.attestations import Attestation, ConfinementClass

LOCAL = "local"
DESCRIPTOR_TTL_MS = 3_600_000


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mechanism of a target: what was read of a sandbox it built, or why it built none."""

    mechanism: str
    works: bool
    attestation: Attestation | None = None
    reason: str = ""
    fix: str = ""

    @property
    def held(self) -> tuple[ConfinementClass, ...]:
        """The classes it holds."""
        return self.attestation.held if self.works and self.attestation is not None else ()


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verified target. `reason` says why it offers nothing; `load` counts what runs there now."""

    name: str
    kind: Literal["local", "ssh", "guest"]
    offers: tuple[Offer, ...] = ()
    verified_at_ms: int = 0
    expires_at_ms: int = 0
    load: int = 0
    reason: str = ""

    @property
    def held(self) -> tuple[ConfinementClass, ...]:
        """Every class some mechanism of it holds, in the order of the classes."""
        held = {name for offer in self.offers for name in offer.held}
        return tuple(name for name in ConfinementClass if name in held)
