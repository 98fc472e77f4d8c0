"""Targets beyond this machine, and the guests among them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from assent.bootstrap.settings_targets import HubSettings, TargetSettings
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.guest import Authority, GuestTarget
from assent.execution.adapters.ssh import Access, SshTarget
from assent.execution.ports import Target
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_guests import SqliteGuests
from assent.operations.guests import Guests
from assent.primitives.clock import Clock, Entropy

GUEST_KEYS = Path("keys", "guests")


def targets_beyond(
    declared: Iterable[TargetSettings], *, data: Path, store: SqliteLedger, clock: Clock, entropy: Entropy
) -> list[Target]:
    """One target for each that is declared. Nothing is connected to before something is asked of it."""
    made: list[Target] = []
    for one in declared:
        if one.kind == "ssh":
            made.append(_ssh(one, clock, ArtefactFolder(data / "artefacts", entropy=entropy)))
        else:
            authority = Authority(data / GUEST_KEYS, clock=clock)
            made.append(
                GuestTarget(
                    name=one.name, trusted=one.trusted, book=SqliteGuests(store), sign=authority.sign_ticket,
                    hub_folder=data, clock=clock,
                )
            )  # fmt: skip
    return made


def guests_of(
    declared: Iterable[TargetSettings], *, hub: HubSettings, data: Path, store: SqliteLedger, clock: Clock,
    entropy: Entropy,
) -> Guests:  # fmt: skip
    """The guests of an installation. Its authority is made when the first invitation is."""
    return Guests(
        roll=SqliteGuests(store),
        gatekeeper=lambda: Authority(data / GUEST_KEYS, clock=clock),
        declared=[one.name for one in declared if one.kind == "guest"],
        hub=f"{hub.host}:{hub.port}",
        clock=clock,
        entropy=entropy,
    )


def _ssh(one: TargetSettings, clock: Clock, artefacts: ArtefactFolder) -> SshTarget:
    access = Access(
        host=one.host,
        port=one.port,
        user=one.user,
        identity=one.identity,
        known_hosts=one.known_hosts,
        workspace=one.workspace,
    )
    return SshTarget(name=one.name, access=access, clock=clock, artefacts=artefacts)
