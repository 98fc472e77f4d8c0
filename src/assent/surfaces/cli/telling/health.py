"""Reports of checks: doctor, verify, policy check and test."""

from __future__ import annotations

from collections.abc import Sequence

from assent.operations.health import Finding, Grade
from assent.operations.verification import VerificationReport
from assent.surfaces.cli.paper import Paper, Part, Span, Tone

TONES = {Grade.OK: Tone.GOOD, Grade.WARN: Tone.WAIT, Grade.FAIL: Tone.BAD}


def tell_finding(paper: Paper, finding: Finding) -> None:
    """One line, and the fix below it."""
    head: list[Part] = [Span(f"{finding.grade:<4}", TONES[finding.grade]), f"  {finding.name:<18}  ", finding.says]
    paper.line(*head, hang=26)
    if finding.fix:
        paper.line("→ ", finding.fix, indent=6)


def tell_sum(paper: Paper, findings: Sequence[Finding]) -> None:
    """How many of each."""
    failed = sum(finding.grade is Grade.FAIL for finding in findings)
    warned = sum(finding.grade is Grade.WARN for finding in findings)
    paper.gap()
    if failed:
        paper.line(Span(f"{failed} to mend", Tone.BAD), f", {warned} warnings, {len(findings)} looked at")
    elif warned:
        paper.line(Span("Works", Tone.GOOD), f", with {warned} warning{'s' if warned > 1 else ''}")
    else:
        paper.line(Span("Everything is in order", Tone.GOOD), f" ({len(findings)} looked at)")


def tell_report(paper: Paper, report: VerificationReport) -> None:
    """Whether the record is whole, and each place where it is not."""
    counted = f"{report.entries} entries, {report.effects} effects, {report.payloads} payloads"
    if report.ok:
        kept = f", {report.checkpoints} checkpoints, {report.duration_ms} ms"
        paper.line(Span("The record is whole:", Tone.GOOD), f" {counted}{kept}")
    else:
        paper.line(Span("The record does not verify:", Tone.BAD), f" {len(report.faults)} faults in {counted}")
        paper.table([[f.table, f.tenant, f.place, f.message] for f in report.faults], indent=2)
        paper.line("Keep a copy of the data folder as it is, then compare it with a backup.", indent=2)
    for notice in report.notices:
        paper.line(Span(notice, Tone.QUIET), indent=2)
