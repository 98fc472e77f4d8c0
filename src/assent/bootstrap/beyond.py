"""Targets beyond this machine, made from the settings."""

from __future__ import annotations

from collections.abc import Iterable

from assent.bootstrap.settings_targets import TargetSettings
from assent.execution.adapters.ssh import Access, SshTarget
from assent.execution.ports import Target
from assent.primitives.clock import Clock


def targets_beyond(declared: Iterable[TargetSettings], *, clock: Clock) -> list[Target]:
    """One target for each that is declared. Nothing is connected to before something is asked of it."""
    return [_ssh(one, clock) for one in declared if one.kind == "ssh"]


def _ssh(one: TargetSettings, clock: Clock) -> SshTarget:
    access = Access(
        host=one.host,
        port=one.port,
        user=one.user,
        identity=one.identity,
        known_hosts=one.known_hosts,
        workspace=one.workspace,
    )
    return SshTarget(name=one.name, access=access, clock=clock)
