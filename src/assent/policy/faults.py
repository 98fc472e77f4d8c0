"""What is wrong with a policy text, and where. Pure values."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from assent.primitives.errors import Malformed

FAULTS_SHOWN_MAX = 20


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mistake. `code` is a stable word, `rule` the id of the rule it is in (empty: none or unknown); `line` and
    `column` count from 1 in the policy text (0: the text as a whole)."""

    code: str
    message: str
    rule: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        rule = f"rule `{self.rule}`: " if self.rule else ""
        return f"{place}{rule}{self.message}"


def malformed(code: str, what: str, faults: Iterable[Fault | str]) -> Malformed:
    """One error that names all of `faults` (the first `FAULTS_SHOWN_MAX` of them)."""
    texts = [str(fault) for fault in faults]
    more = len(texts) - FAULTS_SHOWN_MAX
    shown = "; ".join(texts[:FAULTS_SHOWN_MAX]) + (f"; and {more} more" if more > 0 else "")
    return Malformed(code, f"{what}: {shown}")
