"""The keyed signature under every grant. Only `assent.policy.grants` may seal and only `assent.execution.grants` may
check; the import contracts hold that door shut."""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn


class SealKey:
    """A secret key for sealing grants. It cannot be printed, pickled or compared."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if not 32 <= len(key) <= 64:
            raise ValueError("a seal key has 32 to 64 bytes")
        self._key = key

    def __repr__(self) -> str:
        return "<seal key>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a seal key cannot be serialised")

    def seal(self, body: bytes) -> bytes:
        """Keyed BLAKE2b-256 (RFC 7693) of `body`: a MAC by design, and a tenth of the cost of OpenSSL's HMAC here."""
        return hashlib.blake2b(body, digest_size=32, key=self._key).digest()

    def holds(self, body: bytes, mac: bytes) -> bool:
        """Whether `mac` seals `body`, compared in constant time."""
        return hmac.compare_digest(self.seal(body), mac)
