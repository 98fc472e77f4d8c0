"""Which mechanism this node gets: each is tried by building a sandbox and reading it; presence proves nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from assent.execution.adapters.sandboxes.bubblewrap import Bubblewrap
from assent.execution.adapters.sandboxes.image import Image
from assent.execution.adapters.sandboxes.launches import Mechanism
from assent.execution.adapters.sandboxes.local_weak import NOBODY, LocalWeak
from assent.execution.adapters.sandboxes.namespaces import Namespaces
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.adapters.sandboxes.supervision import kill_and_prove
from assent.execution.attestations import Attestation, ConfinementClass, meets
from assent.execution.orders import ProcessOrder
from assent.execution.targets import Offer
from assent.primitives.errors import AssentError, Unavailable

_LADDER: dict[str, Callable[[Image], Mechanism]] = {
    "namespaces": lambda image: Namespaces(image=image),
    "bubblewrap": lambda image: Bubblewrap(image=image),
    "local-weak": lambda image: LocalWeak(image=image),
}
_SIGNS = {
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1", "AppArmor restricts user namespaces: allow them for this interpreter in an AppArmor profile (`userns,`)"
    ),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "set kernel.unprivileged_userns_clone to 1"),
    "/proc/sys/user/max_user_namespaces": ("0", "set user.max_user_namespaces above 0"),
}  # fmt: skip


async def try_all(image: Image) -> list[Offer]:
    """Try every mechanism, strongest first."""
    trials = []
    for name in _LADDER:
        mechanism, trial = await _try(name, image)
        trials.append(trial)
        if mechanism is not None:
            await mechanism.close()
    return trials


async def choose(image: Image, *, forced: str | None) -> Mechanism:
    """The forced mechanism, or the first that is namespaced, or else the strongest that works.

    Raises:
        Unavailable: none works; the message says why for each.
    """
    best: tuple[Mechanism, Offer] | None = None
    reasons = []
    for name in [forced] if forced else _LADDER:
        mechanism, trial = await _try(name, image)
        if mechanism is None:
            reasons.append(f"{name}: {trial.reason}")
        elif best is None or _stronger(trial, best[1]):
            if best is not None:
                await best[0].close()
            best = (mechanism, trial)
        else:
            await mechanism.close()
        if ConfinementClass.NAMESPACED in trial.held:
            break
    if best is None:
        raise Unavailable("sandbox_failed", f"no sandbox works here ({'; '.join(reasons)})")
    return best[0]


async def _try(name: str, image: Image) -> tuple[Mechanism | None, Offer]:
    mechanism = None
    try:
        mechanism = _LADDER[name](image)
        return mechanism, Offer(mechanism=name, works=True, attestation=await _built(mechanism))
    except (AssentError, OSError) as error:
        if mechanism is not None:
            await mechanism.close()
        return None, Offer(mechanism=name, works=False, reason=_explained(str(error)))


async def _built(mechanism: Mechanism) -> Attestation:
    """Build one sandbox, read it, and end it before anything runs."""
    with tempfile.TemporaryDirectory(prefix="assent-trial-") as made:
        folder = os.path.realpath(made)  # noqa: ASYNC240 - our own fresh folder
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)  # a mechanism without id maps runs nothing in a folder of root's
        order = ProcessOrder(argv=("true",), workspace=folder)
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


def _stronger(one: Offer, other: Offer) -> bool:
    have, had = one.held[-1], other.held[-1]
    return have is not had and meets(have, had)


def _explained(reason: str) -> str:
    """Add the host setting that is the usual cause, when it is set that way."""
    for path, (value, hint) in _SIGNS.items():
        try:
            if Path(path).read_text(encoding="ascii").strip() == value:
                return f"{reason}; {hint}"
        except OSError:
            continue
    return reason
