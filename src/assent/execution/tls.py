"""How a TLS connection is judged, as a value: whom to trust, from which version on, and who we are. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dialer asks of the peer of a TLS connection, and what it shows of itself.

    The system's authorities are trusted, and those in `authorities_file` (PEM) besides. `version_min` is the oldest
    version spoken. `certificate_file` and `key_file` (PEM; the key without a passphrase) are the client's own, for
    servers that ask. `peer_sha256` (`sha256:` and 64 hex digits, over the DER form) pins the one certificate that the
    peer may show, on top of everything else.
    """

    authorities_file: str = ""
    version_min: Literal["1.2", "1.3"] = "1.2"
    certificate_file: str = ""
    key_file: str = ""
    peer_sha256: str = ""
