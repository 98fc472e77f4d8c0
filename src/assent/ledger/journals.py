"""Journals: what is written down, in order, about a run or a session. Pure values.

An effect's history is about one thing done to the world. A journal is about work: it begins, is told things, waits,
and ends. Its entries stand in the same log, chained by `before` as an effect's are; its row says where it stands, whose
it is, and is compared with the log by `verify`. The ledger keeps journals and does not read them: which states there
are and what an entry means is the business of whoever writes them.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from assent.ledger.entries import Draft, draft
from assent.primitives.digests import Digest, digest
from assent.primitives.ids import TenantId

JournalKind: TypeAlias = Literal["run", "session", "request", "halt", "stand_in", "waiver", "token"]
ID_BYTES_MAX = 400
KEY_BYTES_MAX = 200
CONTENT_BYTES_MAX = 16 * 1_048_576


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """Where one journal stands now. `name` is what it is about (an agent), `parent` what it belongs to (empty:
    nothing); `node` is who works on it (empty: nobody); `entries` counts what was written."""

    tenant: TenantId
    kind: JournalKind
    id: str
    state: str
    name: str
    parent: str
    node: str
    fence: int
    entries: int
    first_seq: int
    last_seq: int
    updated_at_ms: int


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One entry to be written into one journal.

    It is written only where the journal still stands at `before` (-1: it is not there yet). `state` is where it stands
    afterwards, `owned` whether the writer's node works on it from then on. `key`, when not empty, may stand in this
    journal only once: the same key with the same `draft` payload is the entry that is there, with another a conflict.
    """

    kind: JournalKind
    id: str
    before: int
    state: str
    owned: bool
    draft: Draft
    name: str = ""
    parent: str = ""
    key: str = ""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A piece that is kept once and named by its digest. `kept`: it is known to be there, and is not written again."""

    digest: Digest
    data: bytes
    kept: bool = False


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """`seqs` are the log positions of the notes, in their order; `fresh` is False when a key was there before."""

    seqs: tuple[int, ...]
    fresh: bool


def content(data: bytes) -> Content:
    """`data` under its name."""
    return Content(digest=digest(data), data=data)


def note(
    *,
    kind: JournalKind,
    id_: str,
    before: int,
    state: str,
    owned: bool,
    type_: str,
    body: dict[str, Any],
    salt: bytes = b"",
    payload: bytes | None = None,
    name: str = "",
    parent: str = "",
    key: str = "",
) -> Note:
    """A note of an entry of `type_` whose body says, besides `body`, all that the journal's row does."""
    said = {"journal": f"{kind}:{id_}", "before": before, "state": state, **body}
    if key:  # keys may name people, and entries are for ever: only the digest stands there
        said |= {"key": digest(key.encode())}
    if before < 0:
        said |= {"name": name, "parent": parent}
    return Note(
        kind=kind, id=id_, before=before, state=state, owned=owned, name=name, parent=parent, key=key,
        draft=draft(type_, said, salt=salt, payload=payload),
    )  # fmt: skip
