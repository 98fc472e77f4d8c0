"""An authority of a test's own, and servers with certificates of it, good and bad."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import warnings
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


class Authority:
    """Signs certificates. `last_der` is the last one it signed."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._certificate = self._signed(self._name, self._key.public_key(), dt.timedelta(), authority=True)
        self.last_der = b""

    def file(self, folder: Path) -> Path:
        """Its own certificate, in PEM."""
        path = folder / "authority.pem"
        path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def pair(self, name: str, *, folder: Path, shift: dt.timedelta = dt.timedelta()) -> Path:
        """A certificate for `name` and its key in one file; valid from yesterday to tomorrow, moved by `shift`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        made = self._signed(subject, key.public_key(), shift, alternative=name)
        self.last_der = made.public_bytes(serialization.Encoding.DER)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = folder / f"{name}.pem"
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        return path

    def server(
        self, name: str, *, folder: Path, shift: dt.timedelta = dt.timedelta(), asks: bool = False, old: bool = False
    ) -> ssl.SSLContext:
        """A server's context; `asks` for a client's certificate, or speaks nothing newer than TLS 1.1 when `old`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair(name, folder=folder, shift=shift))
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file(folder))
        if old:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        shift: dt.timedelta,
        *,
        authority: bool = False,
        alternative: str = "",
    ) -> x509.Certificate:
        start = dt.datetime.now(dt.UTC) - DAY + shift
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start + 2 * DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )  # fmt: skip
        if alternative:
            literal = alternative[0].isdigit()
            general = x509.IPAddress(ipaddress.ip_address(alternative)) if literal else x509.DNSName(alternative)
            builder = builder.add_extension(x509.SubjectAlternativeName([general]), critical=False)
        return builder.sign(self._key, hashes.SHA256())
