"""Draw the life cycles of effects and reviews from the tables in the code, as Mermaid text in docs/reference/states.md.

`python scripts/diagrams.py` writes the page; with `--check` it says whether the page is current, and ends with
status 1 when it is not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from assent.ledger.effects import EFFECT, EffectState
from assent.ledger.reviews import REVIEW, ReviewState
from assent.primitives.transitions import Transitions
from assent.surfaces.cli.exits import OF_STATE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "states.md"

EFFECT_MEANINGS: dict[EffectState, str] = {
    EffectState.REQUESTED: "asked for, not judged yet. It exists only inside the accepting commit.",
    EffectState.REFUSED: "policy or a reviewer said no. Nothing was done.",
    EffectState.IN_REVIEW: "people are asked. Nothing was done yet.",
    EffectState.GRANTED: "people said yes. It waits to be carried out, and policy is asked once more then.",
    EffectState.EXPIRED: "nobody answered in time, or the approval was not used in time. Nothing was done.",
    EffectState.REVOKED: "people said yes, and the policy of the day of dispatch said no. Nothing was done.",
    EffectState.DISPATCHED: "handed to its lane. It runs, or its process ended and nobody has noticed yet.",
    EffectState.SUCCEEDED: "it happened.",
    EffectState.FAILED: "it was tried and did not succeed; the outcome's code says how.",
    EffectState.CANCELLED: "the caller gave up, and it was stopped for certain.",
    EffectState.UNKNOWN: "it may have happened. See [unknown outcomes](../explanation/unknown-outcomes.md).",
    EffectState.QUARANTINED: "five looks could not tell whether it happened. It is set aside for people.",
}

REVIEW_MEANINGS: dict[ReviewState, str] = {
    ReviewState.OPEN: "people are asked.",
    ReviewState.APPROVED: "enough people said yes. The approval waits to be used, until it expires.",
    ReviewState.DENIED: "one person said no. That is enough.",
    ReviewState.EXPIRED: "the time to answer, or to use the approval, is over.",
    ReviewState.CONSUMED: "the approval was used, in the commit that dispatched the call.",
    ReviewState.VOID: "the approval counts no longer: policy said no when the call was to be dispatched.",
}


def diagram(table: Transitions[Any, Any]) -> str:
    """One life cycle as a Mermaid state diagram, in the order of the table."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {table.start}"]
    lines += [f"    {state} --> {after}: {move}" for (state, move), after in table.moves.items()]
    lines += [f"    {state} --> [*]" for state in sorted(table.terminal)]
    return "\n".join([*lines, "```"])


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "<!-- Written by scripts/diagrams.py from the tables in the code. Change those, then run it. -->"
    yield ""
    yield "# States"
    yield ""
    yield "The life of an effect and of a review. What the diagrams do not show cannot happen: the tables they are"
    yield "drawn from are the ones that decide, and an entry that makes another move fails verification."
    yield ""
    yield "## Effects"
    yield ""
    yield diagram(EFFECT)
    yield ""
    yield from _table(EFFECT, EffectState, EFFECT_MEANINGS, {s: f"{int(e)}" for s, e in OF_STATE.items()})
    yield ""
    yield "The last column is the [exit code](exit-codes.md) of a command that leaves an effect in that state."
    yield ""
    yield "## Reviews"
    yield ""
    yield diagram(REVIEW)
    yield ""
    yield from _table(REVIEW, ReviewState, REVIEW_MEANINGS, {})


def _table(
    table: Transitions[Any, Any], states: type[StrEnum], meanings: Mapping[Any, str], exits: Mapping[Any, str]
) -> Iterator[str]:
    yield "| state | meaning | final |" + (" exit code |" if exits else "")
    yield "|---|---|---|" + ("---|" if exits else "")
    for state in states:
        final = "yes" if state in table.terminal else ""
        yield f"| `{state}` | {meanings[state]} | {final} |" + (f" {exits[state]} |" if exits else "")


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    if "--check" in arguments:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        print(f"{PAGE.name}: {'current' if current else 'not current, run scripts/diagrams.py'}")
        return 0 if current else 1
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
