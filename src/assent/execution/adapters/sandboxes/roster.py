"""The mechanisms of one node while it runs: each tried and attacked once, and given out by what it was found to hold.

An order gets the cheapest mechanism whose class meets its floor. That choice is made before anything of the order
exists and never again: what fails afterwards is not tried on another. What was found stays found until somebody asks
afresh; a mechanism that did not work is tried again after `RETRY_MS`, since descriptors or memory may have been short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from assent.execution.adapters.sandboxes import selection, selftest
from assent.execution.adapters.sandboxes.attest import judged
from assent.execution.adapters.sandboxes.image import Image
from assent.execution.adapters.sandboxes.launches import Mechanism
from assent.execution.adapters.sandboxes.selection import WAYS, MechanismName
from assent.execution.adapters.sandboxes.selftest import Report
from assent.execution.attestations import NEEDS, Attestation, ConfinementClass, Known, meets
from assent.execution.orders import ProcessOrder
from assent.execution.outcomes import Outcome
from assent.execution.targets import Offer
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError, Unavailable

RETRY_MS = 60_000
REASON_CHARACTERS_MAX = 2000
SLOW_WALL_MS = 600_000
Attack = Callable[[Mechanism, ProcessOrder], Awaitable[Outcome]]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A mechanism that is given to an order, and what the self-test said of its properties."""

    mechanism: Mechanism
    verdict: Mapping[str, bool]


class _Entry:
    """What is known of one mechanism."""

    def __init__(self) -> None:
        self.busy = asyncio.Lock()
        self.mechanism: Mechanism | None = None
        self.offer: Offer | None = None
        self.report: Report | None = None
        self.tried_ms = 0


class Roster:
    """Every way to confine a program here, or the one that is `forced`.

    `attack` carries an order on one mechanism, whatever its class: the self-test's programs go that way.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        state_dir: Path,
        readable: Iterable[Path],
        forced: MechanismName | None,
        attack: Attack,
    ) -> None:
        self._clock, self._state_dir, self._attack = clock, state_dir, attack
        self._readable = tuple(readable)
        self._image: Image | None = None
        self._entries = {name: _Entry() for name in ([forced] if forced else WAYS)}
        self._forced = forced

    async def meeting(self, floor: ConfinementClass) -> Held | str:
        """The cheapest mechanism whose class meets `floor`, or why each does not.

        Raises:
            Unavailable: `sandbox_failed`: the forced one does not work.
        """
        reasons = []
        for name, entry in self._entries.items():
            if not meets(WAYS[name].reaches, floor):
                continue
            offer = await self._known(name, entry)
            if entry.mechanism is None or entry.report is None:
                reasons.append(f"{name}: {offer.reason}")
            elif offer.attestation is not None and offer.attestation.meets(floor):
                return Held(mechanism=entry.mechanism, verdict=entry.report.verdict)
            else:
                reasons.append(f"{name}: {_shortfall(offer.attestation, floor)}")
        if self._forced and reasons and self._entries[self._forced].mechanism is None:
            raise Unavailable("sandbox_failed", reasons[0])
        why = "; ".join(reasons) or f"nothing here reaches it, `{'`, `'.join(self._entries)}` stay below"
        return f"no sandbox here meets the floor `{floor.value}` ({why})"[:REASON_CHARACTERS_MAX]

    async def offers(self, *, fresh: bool) -> list[Offer]:
        """Every mechanism, in the order of cost: what was read of it in the light of its own self-test, or why not.

        A slow one is tried only when `fresh`, when it was before, or when it is the forced one.
        """
        known = (self._told(name, entry, fresh=fresh) for name, entry in self._entries.items())
        return list(await asyncio.gather(*known))

    async def selftest(self, *, fresh: bool) -> Report:
        """The self-test of the forced mechanism, or of the one a `namespaced` order gets, or else of the first that
        works.

        Raises:
            Unavailable: none works; the message says why for each.
        """
        found: list[Report] = []
        reasons = []
        for name, entry in self._entries.items():
            offer = await self._known(name, entry, fresh=fresh)
            if entry.report is None:
                reasons.append(f"{name}: {offer.reason}")
                continue
            found.append(entry.report)
            if ConfinementClass.NAMESPACED in offer.held:
                return entry.report
        if not found:
            raise Unavailable("sandbox_failed", f"no sandbox works here ({'; '.join(reasons)})")
        return found[0]

    def reports(self) -> dict[str, Report]:
        """The self-tests that are known, by mechanism."""
        return {name: entry.report for name, entry in self._entries.items() if entry.report is not None}

    def running(self, name: str) -> Mechanism | None:
        """The mechanism of that name, if it was tried and works."""
        return self._entries[name].mechanism if name in self._entries else None

    async def close(self) -> None:
        """End every mechanism and every sandbox it still has. Idempotent."""
        for entry in self._entries.values():
            mechanism, entry.mechanism, entry.offer, entry.report = entry.mechanism, None, None, None
            if mechanism is not None:
                await mechanism.close()

    async def _told(self, name: str, entry: _Entry, *, fresh: bool) -> Offer:
        wanted = fresh or self._forced is not None or entry.offer is not None
        if WAYS[name].slow and not wanted and selftest.cached(self._state_dir, name) is None:
            return await selection.untried(name, self._shared_image())
        return await self._known(name, entry, fresh=fresh)

    async def _known(self, name: str, entry: _Entry, *, fresh: bool = False) -> Offer:
        async with entry.busy:
            stale = entry.mechanism is None and self._clock.now_ms() - entry.tried_ms >= RETRY_MS
            if entry.offer is None or fresh or stale:
                entry.offer = await self._find_out(name, entry, fresh=fresh)
                entry.tried_ms = self._clock.now_ms()
            return entry.offer

    async def _find_out(self, name: str, entry: _Entry, *, fresh: bool) -> Offer:
        offer = entry.offer
        if entry.mechanism is None or offer is None:
            entry.mechanism, offer = await selection.tried(name, self._shared_image())
        if entry.mechanism is None or offer.attestation is None:
            return offer
        try:
            entry.report = await self._tested(name, entry.mechanism, fresh=fresh)
        except AssentError as error:  # what cannot be attacked is not known to hold
            mechanism, entry.mechanism = entry.mechanism, None
            await mechanism.close()
            return selection.refused(name, error)
        return msgspec.structs.replace(offer, attestation=judged(offer.attestation, entry.report.verdict))

    async def _tested(self, name: str, mechanism: Mechanism, *, fresh: bool) -> Report:
        report = None if fresh else selftest.cached(self._state_dir, mechanism.name)
        if report is None:
            report = await selftest.run(
                lambda order: self._attack(mechanism, order), mechanism=mechanism.name, clock=self._clock,
                victim_uid=mechanism.uid,
                counts_strangers=WAYS[name].counts_strangers,
                wall_ms=SLOW_WALL_MS if WAYS[name].slow else selftest.LIMITS.wall_ms,
            )  # fmt: skip
            selftest.keep(self._state_dir, report)
        return report

    def _shared_image(self) -> Image:
        if self._image is None:
            self._image = Image(readable=self._readable, protected=[self._state_dir])
        return self._image


def _shortfall(attestation: Attestation | None, floor: ConfinementClass) -> str:
    """What the mechanism lacks of the classes that would do."""
    if attestation is None:
        return "nothing could be read of it"
    known = {name for name, one in attestation.properties.items() if one.known in (Known.OBSERVED, Known.PROBED)}
    lacking = sorted(NEEDS.get(floor, frozenset()) - known)
    return f"is `{attestation.confinement.value}` here (not held: {', '.join(lacking)})"
