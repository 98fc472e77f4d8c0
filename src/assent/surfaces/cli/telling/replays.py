"""Recorded calls, decided again: what changes, whom it reaches, and which rules were met."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.telling.calls import short

if TYPE_CHECKING:
    from typing import Any

    from assent.operations.backtests import BackTest

NAMES_SHOWN = 4
EXAMPLES_SHOWN = 6
_TONES = {"allow": Tone.GOOD, "deny": Tone.BAD, "review": Tone.WAIT}


def tell_backtest(paper: Paper, found: BackTest) -> None:
    """What activating changes, then what has drifted, then what could not be decided again."""
    verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(found.verdicts.items()))
    paper.line(
        Span(f"{_calls(found.calls)} decided again", Tone.STRONG),
        f"{': ' if verdicts else ''}{verdicts} ({found.per_second:,} a second)",
    )
    paper.gap()
    if found.changes:
        count = sum(one.calls for one in found.changes)
        paper.line(Span(f"Activating this would change {_calls(count)}", Tone.WAIT))
        _tell_changes(paper, found.changes)
    else:
        paper.line(Span("Activating this would change none of them", Tone.GOOD))
    if found.drift and found.drift != found.changes:
        paper.gap()
        paper.line(Span("Against what was decided then", Tone.STRONG))
        _tell_changes(paper, found.drift)
    if found.left_out:
        paper.gap()
        paper.line(Span("Could not be decided again", Tone.STRONG))
        rows: list[list[Part]] = [
            [f"{one.calls:,}", one.why, Span(short(one.example), Tone.QUIET)] for one in found.left_out
        ]
        paper.table(rows, indent=2)


def tell_coverage(paper: Paper, found: BackTest, place: Callable[[int], str]) -> None:
    """Each rule with how many calls it applied to; then those that none met, and calls that met none."""
    rules, coverage = found.coverage.rules, found.coverage
    met = sorted((one for one in rules if one.calls), key=lambda one: -one.calls)
    paper.line(Span(f"{len(met)} of {len(rules)} rules were met by {_calls(found.calls)}", Tone.STRONG))
    paper.table([[f"{one.calls:,}", one.effect, one.rule, Span(place(one.line), Tone.QUIET)] for one in met], indent=2)
    idle = [one for one in rules if not one.calls]
    if idle:
        paper.gap()
        paper.line(Span("Met by none", Tone.WAIT))
        paper.table([[one.effect, one.rule, Span(place(one.line), Tone.QUIET)] for one in idle], indent=2)
    if coverage.unmatched:
        paper.gap()
        paper.line(Span("Calls that no rule says anything about", Tone.WAIT), "; they are denied")
        paper.table([[f"{count:,}", name] for name, count in coverage.unmatched.items()], indent=2)


def tell_comparison(paper: Paper, found: Any) -> None:  # noqa: ANN401 (a `Comparison`, which surfaces do not name)
    """Calls that may happen more easily, one of each sort, and how hard it was looked."""
    if not found.loosens:
        paper.line(
            Span("Nothing looser was found", Tone.GOOD), f" on {found.points:,} calls; {found.tighter:,} tighter"
        )
        return
    paper.line(Span(f"Looser on {found.looser:,} of {found.points:,} calls", Tone.BAD), ", for example")
    for one in found.examples[:EXAMPLES_SHOWN]:
        paper.line(f"  {one.how}: {one.call}")
        paper.pairs([("rules", ", ".join(one.rules))], indent=6)


def _tell_changes(paper: Paper, changes: Sequence[Any]) -> None:  # (`Change`s, which surfaces do not name)
    for one in changes:
        words = " (more may happen)" if one.loosens else ""
        paper.line(
            f"  {one.calls:,}  ", Span(one.before, _TONES[one.before]), " → ", Span(one.after, _TONES[one.after]), words
        )
        rows: list[tuple[str, Part | list[Part]]] = [
            ("agents", _names(one.agents)),
            ("people", _names(one.people)),
            ("operations", _names(one.operations)),
            ("effects", _names(one.effects)),
        ]
        rows += [("for example", f"{short(example.effect)}: {example.reason}") for example in one.examples[:1]]
        paper.pairs(rows, indent=6)


def _names(names: Mapping[str, int]) -> str:
    shown = [f"{name} ({count:,})" for name, count in list(names.items())[:NAMES_SHOWN]]
    return ", ".join([*shown, *([f"and {len(names) - NAMES_SHOWN} more"] if len(names) > NAMES_SHOWN else [])])


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"
