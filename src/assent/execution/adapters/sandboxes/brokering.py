"""The broker of a run, for as long as the run: between GO and the proof of death."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.hosts import allow_list
from assent.primitives.clock import Clock

if TYPE_CHECKING:
    from assent.execution.adapters.dialing import Dialer
    from assent.execution.adapters.egress import Broker


NO_WAY_OUT = "this mechanism cannot hold a program to the hosts of its order: it gives it no network of its own"


def lacks_way_out(launch: Launch, hosts: tuple[str, ...]) -> bool:
    """Whether a sandbox was to reach hosts and has no way out for it."""
    return bool(hosts) and launch.listener is None


@contextlib.asynccontextmanager
async def brokered(
    launch: Launch, hosts: tuple[str, ...], *, dialer: Callable[[], Dialer], clock: Clock
) -> AsyncIterator[Broker | None]:
    """Serve the sandbox's way out while the body runs; None where the order names no hosts.

    After the body what the program had sent is still handed on, for a moment. When the body raises, everything is cut
    at once. In either case no socket of the broker's is left.
    """
    if not hosts or launch.listener is None:
        yield None
        return
    from assent.execution.adapters.egress import Broker  # noqa: PLC0415 (most runs have no network)

    broker = Broker(launch.listener, allowed=allow_list(hosts), dialer=dialer(), clock=clock)
    serving = asyncio.ensure_future(broker.serve())
    try:
        yield broker
        broker.finish()
        await asyncio.wait([serving])
    finally:
        if not serving.done():
            serving.cancel()
            await asyncio.wait([serving])
