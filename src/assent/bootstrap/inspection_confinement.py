"""What `assent doctor` says of confinement: for each class what holds it here, why the rest does not, what mends it;
and how each mechanism stood the attacks of its self-test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.sandboxes import selftest
from assent.execution.adapters.sandboxes.selection import WAYS
from assent.execution.attestations import ConfinementClass, meets
from assent.execution.targets import Offer
from assent.operations.health import Finding, Grade
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError

# What is missed when it is not there: below these a program that somebody lets run is not run at all.
_MISSED = (ConfinementClass.NAMESPACED, ConfinementClass.CONFINED)
_TOLD = (
    *_MISSED, ConfinementClass.CONTAINER, ConfinementClass.USER_KERNEL, ConfinementClass.MICROVM,
    ConfinementClass.LOCAL_WEAK,
)  # fmt: skip


async def confinement(state: Path, *, clock: Clock, fresh: bool) -> AsyncIterator[Finding]:
    """Try and attack every mechanism, anew when `fresh`; what is kept of an earlier look on this boot counts too."""
    lane = ProcessLane(clock=clock, state_dir=state)
    try:
        offers = await lane.offers(fresh)
        for name in _TOLD:
            yield _class(name, offers)
        default = await lane.selftest()
        for finding in _attacked(default):
            yield finding
        claimed = {one.attestation.mechanism: set(one.attestation.properties) for one in offers if one.attestation}
        for report in lane.roster.reports().values():
            if report.mechanism != default.mechanism:
                yield _beside(report, claimed.get(report.mechanism, set()))
    except AssentError as error:
        fix = error.hint or "programs will be refused; files and http still work"
        yield Finding(name="sandbox", grade=Grade.FAIL, says=error.message, fix=fix)
    finally:
        await lane.close()


def _class(name: ConfinementClass, offers: Sequence[Offer]) -> Finding:
    """One class: the mechanisms that hold it, or why each that could does not."""
    holding = [offer for offer in offers if name in offer.held]
    able = [offer for offer in offers if offer not in holding and meets(WAYS[offer.mechanism].reaches, name)]
    facts = {"class": name.value, "held": "yes" if holding else "no"}
    facts |= {offer.mechanism: "holds it" for offer in holding} | {offer.mechanism: _why(offer, name) for offer in able}
    if holding:
        first, *others = (offer.mechanism for offer in holding)
        also = f" (also {', '.join(others)})" if others else ""
        return Finding(name=name.value, grade=Grade.OK, says=f"held by {first}{also}", facts=facts)
    missed = name in _MISSED and not any(meets(have, name) for offer in offers for have in offer.held)
    why = "; ".join(f"{offer.mechanism}: {_why(offer, name)}" for offer in able) or "nothing here reaches it"
    says = f"not held: {why}" if missed else f"not held, and needed only where a rule asks for it: {why}"
    fix = next((offer.fix for offer in able if offer.fix), "")
    return Finding(name=name.value, grade=Grade.WARN if missed else Grade.OK, says=says, fix=fix, facts=facts)


def _why(offer: Offer, name: ConfinementClass) -> str:
    if not offer.works or offer.attestation is None:
        return offer.reason
    return f"works, and is only `{offer.attestation.confinement.value}` here, not `{name.value}`"


def _beside(report: selftest.Report, claimed: set[str]) -> Finding:
    """How a mechanism that is not the default one stood the attacks on what it claims, in a line.

    A guest's own kernel may well be asked for what ours refuses: that is no loss where nobody said otherwise.
    """
    weak = report.mechanism == ConfinementClass.LOCAL_WEAK
    about = [probe for probe in report.probes if probe.property in claimed]
    lost = [probe.name.replace("_", " ") for probe in about if not probe.held]
    says = f"{report.mechanism} withstood {len(about) - len(lost)} of {len(about)} attacks on what it claims"
    if lost:
        says += ", and no more is expected of it" if weak else f", but not: {', '.join(lost)}"
    grade = Grade.OK if weak or not lost else Grade.WARN
    return Finding(name=f"self-test {report.mechanism}", grade=grade, says=says, facts=_facts(report))


def _attacked(report: selftest.Report) -> Iterator[Finding]:
    """One finding for all attacks that were withstood, and one for each that was not."""
    # Where confinement is weak and says so, what it does not hold is no failure: policy's floor decides about it.
    grade = Grade.WARN if report.mechanism == ConfinementClass.LOCAL_WEAK else Grade.FAIL
    held = [probe.name.replace("_", " ") for probe in report.probes if probe.held]
    yield Finding(
        name="self-test", grade=Grade.OK if report.held else grade,
        says=f"{report.mechanism} withstood {len(held)} of {len(report.probes)} attacks: {', '.join(held)}",
        facts=_facts(report),
    )  # fmt: skip
    for probe in (*report.probes, *report.with_hosts):
        if not probe.held:
            beside = "" if probe in report.probes else ", by a program that may reach hosts"
            yield Finding(
                name=probe.name.replace("_", " "), grade=grade, says=f"not withstood{beside}: {probe.seen}",
                fix="programs that need this are refused; see the sandbox notes in the documentation",
            )  # fmt: skip


def _facts(report: selftest.Report) -> dict[str, str]:
    told = {"mechanism": report.mechanism, "taken_at_ms": str(report.taken_at_ms)}
    return told | {probe.name: "held" if probe.held else "broken" for probe in report.probes}
