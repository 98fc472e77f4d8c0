"""This machine as a target: its lanes, and what its sandboxes were found to hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from assent.execution.grants import GrantBody
from assent.execution.orders import Order
from assent.execution.ports import Lane
from assent.execution.targets import DESCRIPTOR_TTL_MS, LOCAL, Descriptor, Offer
from assent.primitives.clock import Clock

Probe = Callable[[bool], Awaitable[Sequence[Offer]]]


class LocalTarget:
    """The lanes of this machine, one for each kind of order. `probe` tries every mechanism (anew when told so)."""

    name = LOCAL

    def __init__(self, *, lanes: Mapping[type, Lane], clock: Clock, probe: Probe | None = None) -> None:
        self._lanes = dict(lanes)
        self._clock = clock
        self._probe = probe
        self._asking = asyncio.Lock()
        self._found: Descriptor | None = None

    async def describe(self, *, fresh: bool = False) -> Descriptor:
        """See `Target.describe`."""
        async with self._asking:
            now_ms = self._clock.now_ms()
            if fresh or self._found is None or now_ms >= self._found.expires_at_ms:
                offers = tuple(await self._probe(fresh)) if self._probe is not None else ()
                self._found = Descriptor(
                    name=self.name,
                    kind="local",
                    offers=offers,
                    verified_at_ms=now_ms,
                    expires_at_ms=now_ms + DESCRIPTOR_TTL_MS,
                )
            return self._found

    def lane(self, order: Order, *, under: GrantBody | None = None) -> Lane | None:  # noqa: ARG002
        """The lane for this kind of order."""
        return self._lanes.get(type(order))

    def lanes(self) -> Mapping[str, Lane]:
        """Every lane, by name."""
        return {lane.name: lane for lane in self._lanes.values()}

    async def close(self) -> None:
        """Close every lane."""
        for lane in self._lanes.values():
            await lane.close()
