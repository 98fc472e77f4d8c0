"""TLS contexts from settings: the system's authorities, found without asking the environment."""

from __future__ import annotations

import os
import re
import ssl

from assent.execution.tls import TlsSettings
from assent.primitives.errors import Malformed

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# Where distributions keep their authorities, for an interpreter that was built with another place in mind.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
)  # fmt: skip
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]\Z")


def context(settings: TlsSettings, *, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A client's context. `protocols` are offered by ALPN. Reads files: run it in a thread.

    Raises:
        Malformed: a file of the settings cannot be used (`tls_malformed`).
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = _VERSIONS[settings.version_min]
    _trust_system(made)
    try:
        if settings.authorities_file:
            made.load_verify_locations(settings.authorities_file)
        if settings.certificate_file:
            made.load_cert_chain(settings.certificate_file, settings.key_file or None, password=_no_passphrase)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Malformed(
            "tls_malformed",
            f"the TLS settings cannot be used: `{str(error)[:120]}`",
            hint="name PEM files that exist and belong together",
        ) from error
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")  # or OpenSSL would ask whoever sits at the terminal


def _trust_system(made: ssl.SSLContext) -> None:
    """Load the authorities the interpreter was built for, else the first usual bundle; never SSL_CERT_FILE's."""
    built_in = ssl.get_default_verify_paths()
    file = built_in.openssl_cafile if os.path.isfile(built_in.openssl_cafile) else None
    folder = built_in.openssl_capath if _holds_authorities(built_in.openssl_capath) else None
    if file is None and folder is None:
        file = next(filter(os.path.isfile, _BUNDLES), None)
    if file is not None or folder is not None:
        made.load_verify_locations(file, folder)


def _holds_authorities(folder: str) -> bool:
    try:
        return any(map(_HASHED.match, os.listdir(folder)))
    except OSError:
        return False
