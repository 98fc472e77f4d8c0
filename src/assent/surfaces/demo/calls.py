"""What the helper may do by itself: read the change log, run the tests, write the report."""

from __future__ import annotations

import re

import msgspec

from assent.execution.attestations import ConfinementClass, Known
from assent.execution.outcomes import Outcome
from assent.ledger.effects import EffectState
from assent.operations.wishes import Answer
from assent.primitives.digests import digest
from assent.surfaces.cli.paper import Span, Tone
from assent.surfaces.cli.ports import House
from assent.surfaces.demo.promises import expect
from assent.surfaces.demo.scene import Scene
from assent.surfaces.demo.verdicts import decided, expect_allowed, expect_done, found, rules, spent_ms

CHANGE_LOG = "CHANGELOG.md"
REPORT = "report.md"
UNCONFINED = ("confinement_unmet", "sandbox_failed")
_RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)\n\n((?:- .*\n)+)", re.MULTILINE)
_TESTED = re.compile(r"^Ran (\d+) tests? in [0-9.]+s\n+OK$", re.MULTILINE)
_TELLING = ("network", "user", "capabilities", "private-root")


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """What the change log says about the newest release."""

    version: str
    day: str
    changes: tuple[str, ...]


async def read_change_log(scene: Scene, house: House) -> Release:
    """Reading in the workspace is allowed and happens at once."""
    scene.begin("The helper reads the change log")
    answer = await decided(scene, house, scene.wish("files.read", {"path": CHANGE_LOG}))
    outcome = expect_allowed(answer, "read-workspace")
    expect_done(answer, outcome)
    on_disk = (scene.desk.place.workspace / CHANGE_LOG).read_bytes()
    expect(outcome.value.get("sha256") == digest(on_disk), "the file that is on disk", found=outcome.value)
    release = _newest(str(outcome.value["text"]))
    scene.paper.line(f"ran at once: {release.version} of {release.day}, {len(release.changes)} changes", indent=3)
    scene.end(
        "read", "allowed", effect=answer.effect.id, rules=rules(answer), version=release.version,
        changes=len(release.changes), bytes=len(on_disk), spent_ms=spent_ms(outcome),
    )  # fmt: skip
    return release


async def run_tests(scene: Scene, house: House) -> str:
    """The tests are foreign code: they run shut in, or not at all. Returns a sentence for the report."""
    scene.begin("The helper runs the tests")
    answer = await decided(scene, house, scene.wish("shell.run", {"argv": ["python3", "-B", "-m", "unittest"]}))
    outcome = expect_allowed(answer, "tests-confined")
    if outcome.code in UNCONFINED:
        return _not_run(scene, answer, outcome)
    expect_done(answer, outcome)
    tested = _TESTED.search(str(outcome.value["stderr"]))
    expect(tested is not None, "that all tests pass", found=outcome.value["stderr"])
    assert tested is not None
    observed = _tell_confinement(scene, outcome)
    scene.paper.line(f"{tested[1]} tests ran in {spent_ms(outcome)} ms, all passed", indent=3)
    attestation = outcome.evidence.attestation
    scene.end(
        "test", "allowed", effect=answer.effect.id, rules=rules(answer), tests=int(tested[1]),
        mechanism=attestation.mechanism, confinement=attestation.confinement, observed=observed,
        properties=len(attestation.properties), spent_ms=spent_ms(outcome),
    )  # fmt: skip
    return f"{tested[1]} tests ran confined ({attestation.confinement}), all passed"


async def write_report(scene: Scene, house: House, text: str) -> None:
    """Writing in the workspace is allowed."""
    scene.begin("The helper writes the report")
    answer = await decided(scene, house, scene.wish("files.write", {"path": REPORT, "content": text}))
    outcome = expect_allowed(answer, "write-workspace")
    expect_done(answer, outcome)
    written = (scene.desk.place.workspace / REPORT).read_bytes()
    expect(written == text.encode(), "the report on disk", found=written)
    scene.paper.line(f"workspace/{REPORT} has {len(written)} bytes", indent=3)
    scene.end(
        "report", "allowed", effect=answer.effect.id, rules=rules(answer), bytes=len(written),
        sha256=digest(written), spent_ms=spent_ms(outcome),
    )  # fmt: skip


def report(scene: Scene, release: Release, tested: str) -> str:
    """The report, from what was read and what the tests said."""
    head = f"# Release {release.version}\n\nPrepared by {scene.agent} for {scene.person}.\n"
    return f"{head}\nTests: {tested}.\n\nChanges since the release before:\n\n" + "\n".join(release.changes) + "\n"


def announcement(release: Release) -> str:
    """A second, shorter document."""
    return f"# postage {release.version} is out\n\nReleased {release.day}, with {len(release.changes)} changes.\n"


def _newest(text: str) -> Release:
    first = _RELEASE.search(text)
    expect(first is not None, "a release in the change log", found=text)
    assert first is not None
    return Release(version=first[1], day=first[2], changes=tuple(first[3].rstrip("\n").split("\n")))


def _tell_confinement(scene: Scene, outcome: Outcome) -> dict[str, str]:
    """Where the tests ran, in one line; what was read from the kernel while they waited to start."""
    attestation = outcome.evidence.attestation
    observed = {name: p.value for name, p in attestation.properties.items() if p.known is Known.OBSERVED}
    expect(attestation.confinement is ConfinementClass.NAMESPACED, "a namespaced run", found=attestation.confinement)
    some = [f"{name} {observed[name]}" for name in _TELLING if name in observed]
    scene.paper.line(
        Span("confined", Tone.GOOD),
        f"  {attestation.confinement}, by {attestation.mechanism}: {len(observed)} of {len(attestation.properties)}"
        f" properties observed in this run ({', '.join(some)}, …)",
        indent=3,
    )
    return observed


def _not_run(scene: Scene, answer: Answer, outcome: Outcome) -> str:
    """This machine cannot shut the tests in, so the floor of the rule refuses them. They are not run weaker."""
    not_run = answer.effect.state is EffectState.FAILED and not outcome.value
    expect(not_run, "that what cannot be confined does not run", found=found(answer))
    scene.paper.line(Span("not run", Tone.BAD), f"  {outcome.message}", indent=3)
    scene.notice("this machine cannot confine programs as the rule demands, so the tests did not run at all")
    scene.end(
        "test", "not_confined", effect=answer.effect.id, rules=rules(answer), code=outcome.code,
        reason=outcome.message,
    )  # fmt: skip
    return "not run, because this machine could not confine them"
