"""Skills: what each is for, and on whose word it counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assent.surfaces.cli.paper import Paper, Span, Tone

_WORD = {"org": "yours", "third_party": "a third party's: it stands in the workspace, and no digest pins it"}


def tell_skills(paper: Paper, skills: Sequence[Mapping[str, Any]], faults: Iterable[str]) -> None:
    """Each skill with its digest, then what cannot be used."""
    if not skills:
        paper.line("There is no skill. One is a folder with a `SKILL.md`, in `skills` beside `assent.toml`.")
    for one in skills:
        paper.line(Span(one["name"], Tone.STRONG), f"  {one['description']}")
        integrity = one["label"]["integrity"]
        paper.pairs([("word", _WORD.get(integrity, integrity)), ("digest", one["digest"])])
    for fault in faults:
        paper.line(Span("left out", Tone.BAD), f"  {fault}")
