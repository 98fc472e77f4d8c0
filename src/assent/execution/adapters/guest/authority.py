"""The hub's own small certificate authority, its certificate, and the key it signs tickets with. Ed25519 throughout.

keys/guests/authority.key .crt    signs certificates of guests and of the hub
keys/guests/hub.key .crt          what the hub shows; a newcomer is told its digest beforehand
keys/guests/tickets.key           signs tickets
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from assent.execution.guests import signed_ticket
from assent.primitives.clock import Clock
from assent.primitives.errors import Refused, Unavailable

HUB_NAME = "assent-hub"
_YEARS = {"authority": 20, "hub": 10, "guest": 2}
_BACKDATED = dt.timedelta(hours=1)  # clocks differ


class Authority:
    """Opened from a folder; made there at the first opening.

    Raises:
        Unavailable: `key_unwritable`, `key_unreadable`.
    """

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._clock = clock
        self._folder = folder
        try:
            self._make()
            self._key = _private(folder / "authority.key")
            self._tickets = _private(folder / "tickets.key")
            self.certificate = x509.load_pem_x509_certificate((folder / "authority.crt").read_bytes())
            self._hub = x509.load_pem_x509_certificate((folder / "hub.crt").read_bytes())
        except OSError as error:
            raise Unavailable(
                "key_unwritable", f"`{folder}` cannot be used: {error.strerror}", hint="check its permissions"
            ) from error
        except ValueError as error:
            raise Unavailable("key_unreadable", f"`{folder}` is damaged", hint="restore it from a backup") from error

    @property
    def pin(self) -> str:
        """The digest of the hub's certificate (hex), by which a newcomer knows it."""
        return hashlib.sha256(self._hub.public_bytes(Encoding.DER)).hexdigest()

    @property
    def certificate_der(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def tickets_key(self) -> bytes:
        """The raw public key tickets are signed with."""
        return self._tickets.public_key().public_bytes_raw()

    def token(self, *, name: str, secret: str) -> str:
        """The token that lets the holder of `secret` in as `name`, and lets them know this hub."""
        return f"assent-guest.{name}.{secret}.{self.pin}"

    def digest(self, secret: str) -> str:
        """What is kept of a secret."""
        return hashlib.sha256(secret.encode()).hexdigest()

    def sign_ticket(self, data: bytes) -> bytes:
        """The signature of a ticket's bytes."""
        return self._tickets.sign(signed_ticket(data))

    def context(self) -> ssl.SSLContext:
        """What the hub listens with. A client may show no certificate (a newcomer), but no foreign one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.load_cert_chain(self._folder / "hub.crt", self._folder / "hub.key")
        context.load_verify_locations(cadata=_pem(self.certificate).decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def admit(self, request: bytes, *, name: str) -> tuple[bytes, bytes]:
        """The certificate (DER) for a newcomer's signing request (DER), and its raw public key. Only the key is taken
        from the request.

        Raises:
            Refused: `request_malformed`.
        """
        try:
            asked = x509.load_der_x509_csr(request)
            key = asked.public_key()
            good = asked.is_signature_valid and isinstance(key, Ed25519PublicKey)
        except (ValueError, TypeError, InvalidSignature):
            good, key = False, None
        if not good or not isinstance(key, Ed25519PublicKey):
            raise Refused("request_malformed", "the certificate request is none, or not for an Ed25519 key")
        made = self._issue(name, key, years=_YEARS["guest"], usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        return made.public_bytes(Encoding.DER), key.public_bytes_raw()

    def _make(self) -> None:
        """Make what is missing. Two first openings take turns."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self._folder / "hub.crt").exists():
                self._make_all()
        finally:
            os.close(lock)

    def _make_all(self) -> None:
        self._key, hub = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        keys = {"authority": self._key, "hub": hub, "tickets": Ed25519PrivateKey.generate()}
        for file, key in keys.items():
            keep(self._folder / f"{file}.key", private_pem(key))
        name = _named("assent guest authority")
        self.certificate = self._signed(
            self._builder(name, name, self._key.public_key(), years=_YEARS["authority"]).add_extension(
                x509.BasicConstraints(ca=True, path_length=0), critical=True
            )
        )
        keep(self._folder / "authority.crt", _pem(self.certificate))
        made = self._issue(HUB_NAME, hub.public_key(), years=_YEARS["hub"], usage=ExtendedKeyUsageOID.SERVER_AUTH)
        keep(self._folder / "hub.crt", _pem(made))  # last: it says that all is there

    def _issue(self, name: str, key: Ed25519PublicKey, *, years: int, usage: x509.ObjectIdentifier) -> x509.Certificate:
        builder = self._builder(_named(name), self.certificate.subject, key, years=years)
        return self._signed(
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: Ed25519PublicKey, *, years: int
    ) -> x509.CertificateBuilder:
        now = dt.datetime.fromtimestamp(self._clock.now_ms() / 1000, tz=dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + dt.timedelta(days=365 * years))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, None)


def who(certificate: bytes) -> tuple[str, bytes]:
    """The name and the raw public key in a verified certificate (DER); empty when it is of another kind."""
    read = x509.load_der_x509_certificate(certificate)
    key = read.public_key()
    names = read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names or not isinstance(key, Ed25519PublicKey):
        return "", b""
    return str(names[0].value), key.public_bytes_raw()


def keep(path: Path, content: bytes, *, opener: Callable[..., int] = os.open) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(opener(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """A private key as a file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _private(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & 0o077:
        raise Unavailable("key_unreadable", f"others may read `{path}`", hint=f"run `chmod 600 {path}`")
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise Unavailable("key_unreadable", f"`{path}` is not an Ed25519 key", hint="restore it from a backup")
    return key


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
