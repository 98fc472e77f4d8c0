"""TLS in which both sides show who they are."""

from __future__ import annotations

import ssl
from pathlib import Path

from assent.primitives.errors import Malformed


def server_context(*, authorities: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.3 for a server that lets in nobody without a certificate of one of `authorities`.

    Raises:
        Malformed: `tls_unusable`: one of the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cafile=authorities)
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise Malformed("tls_unusable", f"a TLS file cannot be used: {error}") from error
    return context
