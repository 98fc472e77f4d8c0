"""Budgets: a line for each limit, and what they stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assent.operations.timelines import Stop
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.telling.calls import call_line, short

if TYPE_CHECKING:
    from typing import Any

_NEARLY = 0.9


def tell_budgets(paper: Paper, budgets: Sequence[Any], *, scope: str) -> None:
    """What is used and held of every limit, and what to do when there is none."""
    if not budgets:
        where = f" on `{scope}`" if scope else ""
        paper.line(f"No budgets{where}. Each `[[budgets]]` in the settings makes one.")
        return
    head: list[Part] = [Span(name, Tone.QUIET) for name in ("scope", "unit", "limit", "used", "held", "window")]
    paper.table([head, *(_row(paper, one) for one in budgets)])


def tell_stops(paper: Paper, stops: Sequence[Stop]) -> None:
    """Each budget that stands in the way: which, how it stands, the last call it stopped, and the next step."""
    for stop in stops:
        budget, about = stop.budget, stop.about
        paper.line(Span(f"Stopped by a budget: {budget.scope}, {budget.unit}{_per(budget)}", Tone.BAD))
        more = f", and {budget.stops - 1} before it" if budget.stops > 1 else ""
        id_ = short(about.effect.id)
        again = "ask again" if about.effect.state == "refused" else f"`assent approve {id_}`"
        held = f", {budget.held:,} held by calls under way" if budget.held else ""
        paper.pairs(
            [
                ("call", call_line(about.effect.operation, about.intent.arguments if about.intent else {}) + more),
                ("asked", f"up to {budget.asked:,}"),
                ("limit", f"{budget.limit:,}, of which {budget.spent:,} are used{held}"),
                ("next", f"raise the limit in `[[budgets]]`, then {again}; or `assent dismiss {id_}`"),
                ("effect", Span(about.effect.id, Tone.QUIET)),
            ]
        )
        paper.gap()


def _row(paper: Paper, one: Any) -> list[Part]:  # noqa: ANN401 (a `Budget`, which surfaces do not name)
    gone = one.spent + one.held
    tone = Tone.BAD if gone >= one.limit else Tone.WAIT if gone >= _NEARLY * one.limit else Tone.GOOD
    since = "" if one.window == "all" else f", since {paper.clock(one.since_ms)}"
    return [
        Span(one.scope, Tone.STRONG), one.unit, f"{one.limit:,}", Span(f"{one.spent:,}", tone), f"{one.held:,}",
        f"{one.window}{since}",
    ]  # fmt: skip


def _per(budget: Any) -> str:  # noqa: ANN401 (as above)
    return "" if budget.window == "all" else f" a {budget.window}"
