"""Log entries: canonical JSON (RFC 8785: sorted ASCII keys, integers and strings), chained by leaf hash.

    {"at":ms,"body":{…},"prev":"<leaf hash of the entry before>","seq":n,"tenant":"…","type":"…","v":1}

`prev` of the first entry is 64 zeros. A body about an effect carries `before`, the position of that effect's previous
entry (-1: none), so an effect's whole history is read by walking back from its last entry. Personal data stays out of
entries: arguments, results and reasons live in the payload, to which the entry commits with a salted digest.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assent.primitives.digests import commitment
from assent.primitives.ids import TenantId

GENESIS = "0" * 64
SALT_BYTES = 16

_sorted = msgspec.json.Encoder(order="sorted")


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An entry before it has a place: its type, the encoded body up to its last field, and what it commits to."""

    type: str
    body: dict[str, Any]
    salt: bytes | None = None
    payload: bytes | None = None


def draft(kind: str, body: dict[str, Any], *, salt: bytes = b"", payload: bytes | None = None) -> Draft:
    """Make a draft of `body`, which it keeps; with a payload, its commitment becomes the body's `payload`."""
    if payload is None:
        return Draft(type=kind, body=body)
    if len(salt) != SALT_BYTES:
        raise ValueError("a payload needs a salt of 16 bytes")
    body["payload"] = commitment(salt, payload)
    return Draft(type=kind, body=body, salt=salt, payload=payload)


def entry_bytes(*, draft: Draft, tenant: TenantId, seq: int, prev: str, at_ms: int) -> bytes:
    """The entry's canonical bytes in its place."""
    return b'{"at":%d,"body":%b,"prev":"%b","seq":%d,"tenant":"%b","type":"%b","v":1}' % (
        at_ms,
        _sorted.encode(draft.body),
        prev.encode(),
        seq,
        tenant.encode(),
        draft.type.encode(),
    )


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decoded entry. `at` is milliseconds since the epoch on the database's clock."""

    at: int
    body: dict[str, Any]
    prev: str
    seq: int
    tenant: TenantId
    type: str
    v: int


_entry = msgspec.json.Decoder(Entry)


def read_entry(data: bytes) -> Entry:
    """Decode an entry's bytes."""
    return _entry.decode(data)
