"""Which mechanisms this node has: each is tried by building a sandbox, reading it and attacking it; presence proves
nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Literal

import msgspec

from assent.execution.adapters.sandboxes.bubblewrap import Bubblewrap
from assent.execution.adapters.sandboxes.confined import Confined
from assent.execution.adapters.sandboxes.container import Container
from assent.execution.adapters.sandboxes.image import Image
from assent.execution.adapters.sandboxes.launches import Mechanism
from assent.execution.adapters.sandboxes.local_weak import LocalWeak
from assent.execution.adapters.sandboxes.microvm import Microvm
from assent.execution.adapters.sandboxes.namespaces import Namespaces
from assent.execution.adapters.sandboxes.owners import NOBODY
from assent.execution.adapters.sandboxes.remedies import explained
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.adapters.sandboxes.supervision import kill_and_prove
from assent.execution.adapters.sandboxes.user_kernel import UserKernel
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import Limits, ProcessOrder
from assent.execution.targets import Offer
from assent.primitives.errors import AssentError

MechanismName = Literal["namespaces", "confined", "bubblewrap", "container", "user-kernel", "microvm", "local-weak"]


_LIMITS = Limits(memory_bytes_max=134_217_728)  # a guest is given what it may use


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to build sandboxes: how, and the strongest class that can come of it.

    `counts_strangers`: its process limit counts the user's other tasks too, for want of a user namespace. `slow`: a
    sandbox takes seconds, so nobody waits for it who has not asked for it.
    """

    build: Callable[[Image], Mechanism]
    reaches: ConfinementClass
    counts_strangers: bool = False
    slow: bool = False


# By what a run costs, the cheapest first; what holds nothing stands last, whatever it costs.
WAYS: dict[str, Way] = {
    "namespaces": Way(build=lambda image: Namespaces(image=image), reaches=ConfinementClass.NAMESPACED),
    "confined": Way(
        build=lambda image: Confined(image=image), reaches=ConfinementClass.CONFINED, counts_strangers=True
    ),
    "bubblewrap": Way(build=lambda image: Bubblewrap(image=image), reaches=ConfinementClass.NAMESPACED),
    "container": Way(build=lambda image: Container(image=image), reaches=ConfinementClass.CONTAINER),
    "user-kernel": Way(build=lambda image: UserKernel(image=image), reaches=ConfinementClass.USER_KERNEL),
    "microvm": Way(build=lambda image: Microvm(image=image), reaches=ConfinementClass.MICROVM, slow=True),
    "local-weak": Way(
        build=lambda image: LocalWeak(image=image), reaches=ConfinementClass.LOCAL_WEAK, counts_strangers=True
    ),
}


async def tried(name: str, image: Image) -> tuple[Mechanism | None, Offer]:
    """Build one sandbox by the way `name` and read it; the mechanism when that worked, and what it offers."""
    mechanism = None
    try:
        mechanism = WAYS[name].build(image)
        return mechanism, Offer(mechanism=name, works=True, attestation=await _built(mechanism))
    except (AssentError, OSError) as error:
        if mechanism is not None:
            await mechanism.close()
        return None, refused(name, error)


async def untried(name: str, image: Image) -> Offer:
    """The offer of a mechanism that could be there and was not tried, or of one that cannot be."""
    try:
        await WAYS[name].build(image).close()
    except AssentError as error:
        return refused(name, error)
    return Offer(
        mechanism=name, works=False, reason="not tried yet: that takes a while",
        fix="run `assent doctor --fresh`, or let an order ask for it",
    )  # fmt: skip


def refused(name: str, error: Exception) -> Offer:
    """The offer of a mechanism that does not work: why, and what would mend it."""
    reason, fix = explained(name, getattr(error, "message", str(error)), getattr(error, "hint", ""))
    return Offer(mechanism=name, works=False, reason=reason, fix=fix)


async def _built(mechanism: Mechanism) -> Attestation:
    """Build one sandbox, read it, and end it before anything runs."""
    with tempfile.TemporaryDirectory(prefix="assent-trial-") as made:
        folder = os.path.realpath(made)  # noqa: ASYNC240 - our own fresh folder
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)  # a mechanism without id maps runs nothing in a folder of root's
        order = ProcessOrder(argv=("true",), workspace=folder, limits=_LIMITS)
        streams = Streams(b"")
        try:
            launch = await mechanism.launch(order, streams)
            try:
                return mechanism.attest(launch, order)
            finally:
                await kill_and_prove(launch)
                launch.close()
        finally:
            streams.close()
