"""Numbered, forward migrations. `NNNN_name.sql` files in this folder are the one place where the schema stands.

Each runs once, in its own transaction together with the row that says it ran. A released file never changes: its digest
is recorded when it runs and compared at every opening.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import msgspec

from assent.primitives.digests import Digest, digest

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql\Z")


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the schema."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> Digest:
        """What a database remembers of the step it ran."""
        return digest(self.sql.encode())


@cache
def migrations() -> tuple[Migration, ...]:
    """All steps this release knows, in order, numbered from 1 without a gap."""
    found = []
    for entry in files(__package__).iterdir():
        match = _NAME.match(entry.name)
        if match:
            sql = entry.read_text(encoding="utf-8")
            found.append(Migration(number=int(match.group(1)), name=match.group(2), sql=sql))
    found.sort(key=lambda m: m.number)
    return tuple(found)
