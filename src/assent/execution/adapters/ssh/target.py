"""A host reached by SSH as a target: connected to, verified and read before anything is placed on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from assent.execution.adapters.ssh.client import Access, Link, Unusable
from assent.execution.adapters.ssh.endings import MECHANISM, asserted
from assent.execution.adapters.ssh.lane import SshLane
from assent.execution.grants import GrantBody
from assent.execution.orders import Order, ProcessOrder
from assent.execution.ports import Artefacts, Lane
from assent.execution.targets import Descriptor, Offer
from assent.primitives.clock import Clock

DESCRIPTOR_TTL_MS = 600_000
UNUSABLE_TTL_MS = 15_000


class SshTarget:
    """One host under the name that the settings give it. See `Target`."""

    def __init__(self, *, name: str, access: Access, clock: Clock, artefacts: Artefacts | None = None) -> None:
        self.name = name
        self._access, self._clock = access, clock
        self._lane = SshLane(access=access, clock=clock, artefacts=artefacts)
        self._asking = asyncio.Lock()
        self._found: Descriptor | None = None
        self._good_until_ms = 0

    async def describe(self, *, fresh: bool = False) -> Descriptor:
        """See `Target.describe`. A host that could not be used is asked again after `UNUSABLE_TTL_MS`."""
        async with self._asking:
            if fresh or self._found is None or self._clock.now_ms() >= self._good_until_ms:
                offer = await self._look()
                now_ms = self._clock.now_ms()
                self._good_until_ms = now_ms + (DESCRIPTOR_TTL_MS if offer.works else UNUSABLE_TTL_MS)
                self._found = Descriptor(
                    name=self.name,
                    kind="ssh",
                    offers=(offer,),
                    verified_at_ms=now_ms,
                    expires_at_ms=self._good_until_ms,
                    load=self._lane.load,
                    reason=offer.reason,
                )
            return self._found

    def lane(self, order: Order, *, under: GrantBody | None = None) -> Lane | None:  # noqa: ARG002
        """The one lane, for programs."""
        return self._lane if isinstance(order, ProcessOrder) else None

    def lanes(self) -> Mapping[str, Lane]:
        """The one lane."""
        return {self._lane.name: self._lane}

    async def close(self) -> None:
        """Nothing is held between carries."""
        await self._lane.close()

    async def _look(self) -> Offer:
        try:
            link = await Link.open(self._access)
        except Unusable as fault:
            return Offer(mechanism=MECHANISM, works=False, reason=fault.reason, fix=fault.fix)
        await link.close()
        return Offer(mechanism=MECHANISM, works=True, attestation=asserted(link.hello, None))
