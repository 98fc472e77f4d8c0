"""Digests and commitments, always SHA-256 and always written `sha256:` and 64 hex digits."""

from __future__ import annotations

import hashlib
from typing import NewType

Digest = NewType("Digest", str)


def digest(data: bytes) -> Digest:
    """SHA-256 of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def commitment(salt: bytes, data: bytes) -> Digest:
    """A salted digest: it proves `data` while the salt exists and tells nothing once the salt is erased."""
    return Digest("sha256:" + hashlib.sha256(salt + data).hexdigest())
