"""Everything `assent doctor` looks at, from the machine up to the record. Each finding stands alone: what cannot be
looked at because something below it is broken is left out, and that something is the finding to mend first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from assent.bootstrap.connector_folder import ConnectorFolder
from assent.bootstrap.inspection_confinement import confinement
from assent.bootstrap.inspection_machine import clock_sanity, folders, kernel, key_files, python
from assent.bootstrap.node import DATABASE_NAME, Node, open_node
from assent.bootstrap.policy_folder import read_policy
from assent.bootstrap.settings import Settings, blueprint
from assent.execution.targets import Descriptor
from assent.ledger.adapters.sqlite_verify import SqliteVerifier
from assent.operations.health import Finding, Grade
from assent.operations.verification import Verification
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError, Malformed, Unavailable
from assent.primitives.ids import NodeId
from assent.storage.adapters.liveness import Liveness


def verification(settings: Settings, *, clock: Clock) -> Verification:
    """The verifier of an installation's record. Nothing need be opened for it, and nothing is written.

    Raises:
        Malformed: `record_missing`: there is no database or no key yet.
    """
    database, key = settings.data / DATABASE_NAME, settings.data / "keys" / "log.pub"
    for path in (database, key):
        if not path.is_file():
            raise Malformed("record_missing", f"there is no `{path}`", hint="nothing was recorded here yet")
    try:
        return Verification(verifier=SqliteVerifier(database, key=key.read_text(encoding="ascii").strip(), clock=clock))
    except (OSError, ValueError) as error:
        raise Unavailable("key_unreadable", f"`{key}` cannot be read", hint="restore it from a backup") from error


async def examine(settings: Settings | AssentError, *, clock: Clock, fresh: bool) -> AsyncIterator[Finding]:
    """Look at everything; `fresh` runs the sandbox's self-test again even when its last result still holds."""
    yield python()
    yield kernel()
    yield clock_sanity(clock)
    if isinstance(settings, AssentError):
        yield _failed("settings", settings)
        return
    yield Finding(name="settings", grade=Grade.OK, says=f"`{settings.file}` is in order")
    for finding in (*folders(settings), *key_files(settings.data)):
        yield finding
    yield _connectors(settings)
    async for finding in confinement(settings.data / "sandbox", clock=clock, fresh=fresh):
        yield finding
    record = await _record(settings, clock)
    yield record
    if record.grade is not Grade.FAIL:  # a damaged database is looked at, and not written to
        async for finding in _household(settings, clock, fresh=fresh):
            yield finding


def _connectors(settings: Settings) -> Finding:
    """The connectors that were admitted; what cannot be used is offered to nobody."""
    folder = ConnectorFolder(settings.connectors)
    broken = folder.broken()
    if broken:
        first = broken[0]
        return Finding(
            name="connectors", grade=Grade.FAIL, says=f"{len(broken)} not offered: `{first.file}`, {first.message}",
            fix=first.hint or f"connect it again, or run `assent connect remove {first.name}`",
        )  # fmt: skip
    count = len(folder.admissions())
    return Finding(name="connectors", grade=Grade.OK, says=f"{count} admitted" if count else "none but those built in")


async def _record(settings: Settings, clock: Clock) -> Finding:
    """The database and what is in it: sound, whole, and all of one story."""
    if not (settings.data / DATABASE_NAME).exists():
        return Finding(name="record", grade=Grade.OK, says="nothing was recorded yet")
    try:
        report = await verification(settings, clock=clock).verify(settings.tenant)
    except AssentError as error:
        return _failed("record", error)
    if report.ok:
        says = f"{report.entries} entries and {report.effects} effects verified in {report.duration_ms} ms"
        return Finding(name="record", grade=Grade.OK, says=says)
    first = report.faults[0]
    return Finding(
        name="record", grade=Grade.FAIL, says=f"{first.table}, {first.place}: {first.message}",
        fix="run `assent verify`; keep a copy of the folder as it is",
    )  # fmt: skip


async def _household(settings: Settings, clock: Clock, *, fresh: bool) -> AsyncIterator[Finding]:
    """What only a running node can tell."""
    findings: list[Finding] = []
    try:
        async with open_node(blueprint(settings), clock=clock) as node:
            findings += [
                await _policy(node, settings),
                _nodes(settings.data / "nodes", node.id),
                await _unknown(node, settings),
                await _clock_against_log(node, settings, clock),
                *[_target(one) for one in await node.targets.describe(fresh=fresh, beyond=True)],
            ]
            if node.anchors.fault:
                findings.append(
                    Finding(
                        name="anchors", grade=Grade.FAIL, says=f"checkpoints are not kept: {node.anchors.fault}",
                        fix="make that file writable; without it a rolled-back database is not noticed",
                    )
                )  # fmt: skip
    except AssentError as error:
        findings.append(_failed("node", error))
    for finding in findings:
        yield finding


async def _policy(node: Node, settings: Settings) -> Finding:
    active = await node.policies.active_revision(settings.tenant)
    if active is None:
        return Finding(
            name="policy", grade=Grade.FAIL, says="no policy is active, so everything is denied",
            fix="run `assent policy activate`",
        )  # fmt: skip
    lacking = await node.policies.lacking(settings.tenant)
    if lacking:
        return Finding(
            name="policy", grade=Grade.FAIL, says=f"the policy in force decides nothing: {lacking}",
            fix="run `assent policy sign`, then `assent policy activate`",
        )  # fmt: skip
    try:
        written = read_policy(settings.policy).revision
    except Malformed as malformed:
        return Finding(name="policy", grade=Grade.WARN, says=f"the policy files cannot be read: {malformed}")
    if written != active[0]:
        return Finding(
            name="policy", grade=Grade.WARN, says=f"the policy files differ from the active revision {active[1]}",
            fix="run `assent policy check`, then `assent policy activate`",
        )  # fmt: skip
    return Finding(name="policy", grade=Grade.OK, says=f"revision {active[1]} is active and is what the files say")


def _nodes(folder: Path, own: NodeId) -> Finding:
    liveness = Liveness(folder)
    others = [NodeId(path.stem) for path in folder.glob("*.lock") if path.stem != own]
    alive = sum(not liveness.is_dead(node) for node in others)
    dead = len(others) - alive
    says = f"{alive} other node{'' if alive == 1 else 's'} at work here"
    return Finding(name="nodes", grade=Grade.OK, says=says + (f", {dead} ended without order" if dead else ""))


def _target(found: Descriptor) -> Finding:
    """A declared target: what it holds, or why orders for it are refused."""
    if found.held:
        return Finding(name=found.name, grade=Grade.OK, says=f"target by {found.kind}, holds {', '.join(found.held)}")
    fix = next((offer.fix for offer in found.offers if offer.fix), "orders for it are refused until then")
    return Finding(
        name=found.name, grade=Grade.WARN, says=f"target by {found.kind}: {found.reason or 'holds no class'}", fix=fix
    )


async def _unknown(node: Node, settings: Settings) -> Finding:
    unknown = await node.timelines.unknown(settings.tenant)
    if not unknown:
        return Finding(name="effects", grade=Grade.OK, says="nobody's outcome is unknown")
    return Finding(
        name="effects", grade=Grade.WARN, says=f"the outcome of {len(unknown)} is unknown",
        fix="run `assent recover`; what it cannot tell, `assent attest` settles",
    )  # fmt: skip


async def _clock_against_log(node: Node, settings: Settings, clock: Clock) -> Finding:
    moments = await node.timelines.newest(settings.tenant, limit=1)
    ahead_s = (moments[-1].at_ms - clock.now_ms()) // 1000 if moments else 0
    if ahead_s > 1:
        return Finding(
            name="log clock", grade=Grade.WARN, says=f"the last entry was written {ahead_s} s in the future",
            fix="the clock went back: check time synchronisation; expiry is judged by this clock",
        )  # fmt: skip
    return Finding(name="log clock", grade=Grade.OK, says="the clock agrees with the log")


def _failed(name: str, error: AssentError) -> Finding:
    return Finding(name=name, grade=Grade.FAIL, says=error.message, fix=error.hint)
