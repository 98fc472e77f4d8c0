"""`assent policy matrix`: what the policy files decide, as a table that is kept beside them."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.primitives.errors import Malformed
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Desk, Said

NAME = "MATRIX.md"
LINES_SHOWN = 40


async def matrix(
    *,
    check: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Write down what the policy files decide, as a table in MATRIX.md beside them: who may do what, on whose word, and
    by which rule. Commit it, and a change of policy shows as a change of the table.

    Example: assent policy matrix

    Parameters
    ----------
    check
        Write nothing; end with 1, and show what differs, when the table is not there or not current.
    """
    desk.use(common)
    rows, page = desk.rehearsals().matrix(desk.policy_text().text)
    kept = kept_matrix(desk)
    current = kept == page
    if not check and not current:
        (desk.place.policy / NAME).write_text(page, encoding="utf-8")
    stale = check and not current

    def tell(paper: Paper) -> None:
        if not stale:
            written = "is current" if current else "is written"
            paper.line(Span(f"{desk.place.policy.name}/{NAME} {written}", Tone.GOOD), f", {len(rows)} rows")
            return
        what = "is not what the policy files decide" if kept is not None else "is not there"
        paper.line(Span(f"{desk.place.policy.name}/{NAME} {what}", Tone.BAD), "; run `assent policy matrix`")
        if kept is not None:
            changes = difflib.unified_diff(kept.splitlines(), page.splitlines(), "committed", "now", n=0, lineterm="")
            for line in islice(changes, LINES_SHOWN):
                paper.line(line, indent=2)

    document = {"current": current, "written": not check and not current, "rows": msgspec.to_builtins(rows)}
    return Said(document=document, tell=tell, exit=Exit.FAILED if stale else Exit.DONE)


def kept_matrix(desk: Desk) -> str | None:
    """The table that is kept beside the policy files; None when there is none.

    Raises:
        Malformed: `policy_unreadable`.
    """
    path = desk.place.policy / NAME
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(
            "policy_unreadable", f"`{path}` cannot be read", hint="remove it and run `assent policy matrix`"
        ) from error


def is_stale(desk: Desk) -> bool:
    """Whether a table is kept that is not what the policy files decide."""
    kept = kept_matrix(desk)
    return kept is not None and kept != desk.rehearsals().matrix(desk.policy_text().text)[1]
