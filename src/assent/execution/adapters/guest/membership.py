"""A guest's own side of being a member: its key and certificate, and how it becomes one.

guest.key           its private key, never sent anywhere
guest.crt           its certificate, from the hub's authority
authority.crt       the hub's authority, the only one it believes
membership.json     its name, and the key the hub signs tickets with
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import ssl
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from assent.execution.adapters.guest.authority import HUB_NAME, keep, private_pem, who
from assent.execution.adapters.guest.wire import HELLO_S, READ_AHEAD_BYTES, Lost, Peer
from assent.execution.guests import VERSION, Enrol, Enrolled, Refusal
from assent.primitives.errors import Malformed, Refused, Unavailable

_TOKEN = re.compile(r"assent-guest\.([a-z0-9-]{1,63})\.([0-9a-f]{32})\.([0-9a-f]{64})\Z")
CONNECT_S = 10.0


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    hub: str
    tickets: bytes


class Membership:
    """What a guest that has joined knows. Its key cannot be printed out of it.

    Raises:
        Malformed: `guest_not_joined`: the folder holds no membership, or a damaged one.
    """

    __slots__ = ("_folder", "_key", "hub", "name", "public", "tickets")

    def __init__(self, folder: Path) -> None:
        try:
            kept = msgspec.json.decode((folder / "membership.json").read_bytes(), type=_Kept)
            key = load_pem_private_key((folder / "guest.key").read_bytes(), None)
            assert isinstance(key, Ed25519PrivateKey)
        except (OSError, ValueError, AssertionError) as error:
            raise Malformed(
                "guest_not_joined", f"`{folder}` holds no membership",
                hint="ask for an invitation: `assent node invite` on the hub",
            ) from error  # fmt: skip
        self._folder, self._key = folder, key
        self.name, self.hub, self.tickets = kept.name, kept.hub, kept.tickets
        self.public = key.public_key().public_bytes_raw()

    def sign(self, text: bytes) -> bytes:
        """This guest's signature."""
        return self._key.sign(text)

    async def connect(self, hub: str) -> Peer:
        """A connection on which both sides have proved who they are. Raises Lost."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self._folder / "authority.crt")
        context.load_cert_chain(self._folder / "guest.crt", self._folder / "guest.key")
        return await _connected(hub, context)


async def join(folder: Path, *, hub: str, token: str) -> Membership:
    """Use an invitation: make a key, have it certified by the hub that the token names, and keep all of it in `folder`.

    The secret in the token is sent to nobody but the holder of the certificate whose digest is in the token.

    Raises:
        Malformed: `token_malformed`.
        Refused: `hub_foreign`, or what the hub says.
        Unavailable: `hub_unreachable`.
    """
    found = _TOKEN.match(token.strip())
    if not found:
        raise Malformed("token_malformed", "this is not an invitation's token", hint="copy it whole, it is one word")
    name, secret, pin = found.groups()
    _make(folder)
    key = Ed25519PrivateKey.generate()
    try:
        enrolled = await _enrol(hub, pin, Enrol(version=VERSION, name=name, secret=secret, request=_request(key, name)))
    except Lost as lost:
        raise Unavailable("hub_unreachable", f"the hub at `{hub[:200]}`: {lost}", hint="check the address") from lost
    if who(enrolled.certificate) != (name, key.public_key().public_bytes_raw()):
        raise Refused("hub_foreign", "the hub certified another key than ours")
    keep(folder / "guest.key", private_pem(key))
    for file, der in (("guest.crt", enrolled.certificate), ("authority.crt", enrolled.authority)):
        keep(folder / file, x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
    keep(folder / "membership.json", msgspec.json.encode(_Kept(name=name, hub=hub, tickets=enrolled.tickets)))
    return Membership(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable("folder_unwritable", f"`{folder}` cannot be made: {error.strerror}") from error


def refused(refusal: Refusal) -> Refused:
    """The error that a hub's refusal is: asking again would get the same answer."""
    if refusal.why == "version":
        return Refused("version_unknown", f"the hub speaks another version than {VERSION}", hint="upgrade the older")
    if refusal.why == "stranger":
        return Refused("guest_unknown", "the hub has no such guest, or not any more", hint="ask for an invitation")
    return Refused(
        "invitation_refused", "the invitation is not good: used, withdrawn or too old", hint="ask for a new one"
    )


def split_address(hub: str) -> tuple[str, int]:
    """Host and port of `host:port`.

    Raises:
        Malformed: `address_malformed`.
    """
    host, _, port = hub.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise Malformed("address_malformed", f"`{hub[:200]}` is not an address", hint="write it as `host:port`")
    return host.strip("[]"), int(port)


def _request(key: Ed25519PrivateKey, name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None).public_bytes(Encoding.DER)


async def _enrol(hub: str, pin: str, enrol: Enrol) -> Enrolled:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # no authority is known yet: the pin says which certificate it must be
    peer = await _connected(hub, context)
    try:
        if not hmac.compare_digest(hashlib.sha256(peer.certificate).hexdigest(), pin):
            raise Refused("hub_foreign", "this is not the hub that invited us", hint="check the address and the token")
        await peer.send(enrol)
        answer: Enrolled | Refusal = await peer.receive(Enrolled | Refusal, within_s=HELLO_S)
    finally:
        await peer.close()
    if isinstance(answer, Refusal):
        raise refused(answer)
    return answer


async def _connected(hub: str, context: ssl.SSLContext) -> Peer:
    host, port = split_address(hub)
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=HUB_NAME, limit=READ_AHEAD_BYTES
            )
    except TimeoutError:
        raise Lost("it does not answer") from None
    except OSError as error:
        raise Lost(f"no connection came about ({error.strerror or error})") from error
    return Peer(reader, writer)
