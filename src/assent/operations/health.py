"""Findings about a node's health: what was looked at, how it is, and what to do about it. Pure values."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Grade(StrEnum):
    """How something is. Only FAIL means that work would go wrong."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `fix` says what to do, where there is something to do.

    `facts` are the same for programs: names and values that `says` puts into a sentence.
    """

    name: str
    grade: Grade
    says: str
    fix: str = ""
    facts: dict[str, str] = {}
