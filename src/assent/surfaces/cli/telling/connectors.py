"""Connectors in words. Their texts are a third party's: paper writes out what could steer a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from assent.operations.connecting import Broken, Proposal, Row, Shown
from assent.surfaces.cli.paper import Paper, Span, Tone

ROWS_MAX = 200
LEFT_MAX = 50
EFFECT_TONES = {"read": Tone.GOOD, "write": Tone.WAIT, "irreversible": Tone.BAD}


def tell_proposal(paper: Paper, proposal: Proposal) -> None:
    """What was made, or how it differs from what was admitted."""
    shown = proposal.shown
    if not proposal.known:
        tell_operations(paper, shown)
        return
    paper.line(Span(f"`{shown.name}` differs from what was admitted:", Tone.WAIT))
    rows = [
        [change.operation, change.what, f"{change.was} → {change.now}" if change.was or change.now else ""]
        for change in proposal.changes
    ]
    paper.table(
        rows[:ROWS_MAX] or [["", "the description", "its text is another; its operations are the same"]], indent=2
    )
    _more(paper, len(rows), ROWS_MAX)
    changed = {change.operation for change in proposal.changes}
    paper.table(
        [_cells(row) for row in shown.operations if row.operation.partition(".")[2] in changed][:ROWS_MAX], indent=2
    )
    _tell_left_out(paper, shown)


def tell_shown(paper: Paper, shown: Shown) -> None:
    """One connector, whole."""
    tell_operations(paper, shown)
    noted = [row for row in shown.operations if row.hints or row.answers]
    for row in noted[:ROWS_MAX]:
        paper.gap()
        paper.line(row.operation)
        paper.pairs([*(("note", hint) for hint in row.hints), *((f"{s}:", text) for s, text in row.answers.items())])
    paper.gap()
    paper.line(Span("Rules to begin with", Tone.STRONG), "  (nothing is permitted that no rule of yours permits)")
    paper.block(shown.rules, indent=2)


def tell_operations(paper: Paper, shown: Shown) -> None:
    """A connector's operations, and what was left out."""
    title = f"  {shown.title}" if shown.title else ""
    paper.line(Span(shown.name, Tone.STRONG), f" ({shown.family}), {len(shown.operations)} operations", title)
    paper.pairs([("from", shown.where), ("digest", Span(shown.source, Tone.QUIET))])
    paper.table([_cells(row) for row in shown.operations[:ROWS_MAX]], indent=2)
    _more(paper, len(shown.operations), ROWS_MAX)
    _tell_left_out(paper, shown)


def tell_shelf(paper: Paper, found: Sequence[Shown], broken: Sequence[Broken]) -> None:
    """Every connector in one line."""
    if not found and not broken:
        paper.line("No connector was admitted; `assent connect openapi|graphql|mcp|cli …` makes one.")
    paper.table([[one.name, one.family, f"{len(one.operations)} operations", one.where] for one in found])
    for one in broken:
        paper.line(Span("broken", Tone.BAD), f"  {one.name}: {one.file}, {one.message}")
        paper.pairs([("next", one.hint)])


def tell_row(paper: Paper, row: Row) -> None:
    """One operation after something was said about it."""
    paper.line(row.operation, " is ", Span(row.effect, EFFECT_TONES.get(row.effect, Tone.PLAIN)), f": {row.why}")
    if row.made is not row.effect:
        paper.line(f"by its description it would be {row.made}", indent=2)
    paper.line(f"`assent connect show {row.operation.partition('.')[0]}` shows rules that fit", indent=2)


def _cells(row: Row) -> list[str | Span]:
    hosts = ", ".join(row.hosts) or "no host"
    return [
        row.operation,
        Span(row.effect, EFFECT_TONES.get(row.effect, Tone.PLAIN)),
        hosts,
        f"{row.why}. {row.summary}",
    ]


def _tell_left_out(paper: Paper, shown: Shown) -> None:
    if not shown.left_out:
        return
    paper.line(Span("Left out", Tone.STRONG), indent=2)
    paper.table([[one.what, one.why] for one in shown.left_out[:LEFT_MAX]], indent=4)
    _more(paper, len(shown.left_out), LEFT_MAX)


def _more(paper: Paper, count: int, most: int) -> None:
    if count > most:
        paper.line(Span(f"… and {count - most} more; --json has them all", Tone.QUIET), indent=2)
