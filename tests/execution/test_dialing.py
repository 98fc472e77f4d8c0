"""Dialing: what is checked before a connection exists, pinned answers, and how TLS is judged."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from assent.execution.adapters.dialing import Dialer, Goal, Pins
from assent.execution.exchanges import Hop
from assent.execution.hosts import allow_list, canonical_host
from assent.execution.tls import TlsSettings
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed, Refused, Unavailable
from tests.execution.certificates import certificate
from tests.execution.sites import Site, pinned

pytestmark = pytest.mark.anyio


def goal(host: str, port: int, *listed: str, pins: Pins | None = None) -> Goal:
    page = Hop(method="", scheme="", host=host, port=port)
    return Goal(
        host=canonical_host(host),
        port=port,
        allowed=allow_list(listed),
        note=page,
        pins=Pins() if pins is None else pins,
    )


def both(port: int) -> tuple[str, str]:
    return f"allowed.test:{port}", f"127.0.0.1:{port}"


LOOPBACK = pinned(allowed_test=["127.0.0.1"])


class Echo:
    """Says what it hears."""

    async def __aenter__(self):
        self.connections = 0
        self._accepted = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._tasks = [asyncio.ensure_future(self._accept())]
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for bare in (self._listener, *self._accepted):
            bare.close()

    async def _accept(self):
        while True:
            bare, _address = await asyncio.get_running_loop().sock_accept(self._listener)
            self.connections += 1
            self._accepted.append(bare)
            self._tasks.append(asyncio.ensure_future(self._serve(bare)))

    async def _serve(self, bare):
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(bare, 65_536):
                await loop.sock_sendall(bare, data)


async def test_stream_carries_both_ways_and_knows_where_it_leads_when_it_is_dialled():
    async with Echo() as echo:
        wanted = goal("allowed.test", echo.port, *both(echo.port))
        stream = await Dialer(resolver=LOOPBACK).dial(wanted, secure=False)
        assert (stream.address, stream.resolved, stream.tls_peer_sha256) == ("127.0.0.1", ["127.0.0.1"], "")
        assert not stream.readable()
        await stream.send(b"hello")
        assert await stream.receive(65_536) == b"hello"
        await stream.aclose()
        await stream.aclose()
        assert stream.readable()
        with pytest.raises(OSError, match="closed"):
            await stream.receive(1)


async def test_socket_is_bare_and_non_blocking_when_it_is_connected():
    async with Echo() as echo:
        wanted = goal("allowed.test", echo.port, *both(echo.port))
        with await Dialer(resolver=LOOPBACK).connect(wanted) as bare:
            loop = asyncio.get_running_loop()
            assert not bare.getblocking()
            assert not bare.get_inheritable()
            await loop.sock_sendall(bare, b"hello")
            assert await loop.sock_recv(bare, 64) == b"hello"
        assert wanted.note.address == "127.0.0.1"


async def test_second_connection_of_a_run_goes_to_the_first_answer_when_the_name_is_rebound():
    async with Echo() as echo:
        answers = itertools.chain([["127.0.0.1"]], itertools.repeat(["127.0.0.2"]))
        dialer, pins = Dialer(resolver=lambda _name: next(answers)), Pins()
        listed = (*both(echo.port), f"127.0.0.2:{echo.port}")
        for _ in range(3):
            wanted = goal("allowed.test", echo.port, *listed, pins=pins)
            (await dialer.connect(wanted)).close()
            assert wanted.note.address == "127.0.0.1"
        other_run = goal("allowed.test", echo.port, *listed)
        with pytest.raises(Unavailable):  # nobody listens at the second answer: it was asked for anew
            await dialer.connect(other_run)
        assert other_run.note.resolved == ["127.0.0.2"]


async def test_connections_of_one_run_share_a_lookup_when_they_ask_at_the_same_time():
    async with Echo() as echo:
        release, asked = threading.Event(), []

        def slow(name: str) -> list[str]:
            asked.append(name)
            release.wait(10)
            return ["127.0.0.1"]

        dialer, pins = Dialer(resolver=slow), Pins()
        wanted = [goal("allowed.test", echo.port, *both(echo.port), pins=pins) for _ in range(5)]
        tasks = [asyncio.ensure_future(dialer.connect(one)) for one in wanted]
        await asyncio.sleep(0)
        tasks[0].cancel()  # who asked first goes away, and takes nothing from the others
        await asyncio.sleep(0)
        release.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(ended[0], asyncio.CancelledError)
        for bare in ended[1:]:
            assert not isinstance(bare, BaseException)
            bare.close()
        assert asked == ["allowed.test"]


async def test_failed_lookup_is_asked_again_when_the_run_goes_on():
    async with Echo() as echo:
        answers = iter([[], None, ["127.0.0.1"]])

        def recovering(_name: str) -> list[str]:
            answer = next(answers)
            if answer is None:
                raise OSError
            return answer

        dialer, pins = Dialer(resolver=recovering), Pins()
        wanted = goal("allowed.test", echo.port, *both(echo.port), pins=pins)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await dialer.connect(wanted)
        (await dialer.connect(wanted)).close()


@pytest.mark.slow  # a thousand look-ups, each in a thread
async def test_names_of_one_run_are_bounded_when_a_wildcard_lets_through_any_number():
    dialer, pins = Dialer(resolver=lambda _name: ["127.0.0.1"]), Pins()
    codes = set()
    for number in range(1030):
        with pytest.raises(Refused) as caught:
            await dialer.connect(goal(f"n{number}.allowed.test", 1, "*.allowed.test:1", pins=pins))
        codes.add((number < 1024, caught.value.code))
    assert codes == {(True, "address_refused"), (False, "host_refused")}


async def test_next_address_is_tried_when_nobody_listens_at_the_first():
    async with Echo() as echo:
        wanted = goal("allowed.test", echo.port, *both(echo.port), f"127.0.0.2:{echo.port}")
        (await Dialer(resolver=pinned(allowed_test=["127.0.0.2", "127.0.0.1"])).connect(wanted)).close()
        assert wanted.note.address == "127.0.0.1"


async def test_every_address_is_judged_before_the_first_is_dialled():
    async with Echo() as echo:
        wanted = goal("allowed.test", echo.port, *both(echo.port))
        with pytest.raises(Refused, match="metadata"):
            await Dialer(resolver=pinned(allowed_test=["127.0.0.1", "169.254.169.254"])).connect(wanted)
        assert echo.connections == 0


class Pki:
    """Files of a server's certificate and a client's, and contexts of the server."""

    def __init__(self, folder):
        self.folder = folder
        self.server, self.client = folder / "server.pem", folder / "client.pem"
        for path, name in ((self.server, "allowed.test"), (self.client, "client.test")):
            public, private = certificate(name)
            path.write_bytes(public + private)
        der = x509.load_pem_x509_certificate(self.server.read_bytes()).public_bytes(serialization.Encoding.DER)
        self.digest = digest(der)

    def context(self, *, asks: bool = False, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.server)
        made.maximum_version = newest
        if asks:
            made.load_verify_locations(self.client)
            made.verify_mode = ssl.CERT_REQUIRED
        return made

    def settings(self, **more) -> TlsSettings:
        return TlsSettings(authorities_file=str(self.server), **more)


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


async def spoken(context: ssl.SSLContext, settings: TlsSettings) -> str:
    """One exchange over TLS; the digest of the certificate that the server showed."""
    async with Site(tls=context) as site:
        dialer = Dialer(resolver=LOOPBACK, tls=settings, protocols=("http/1.1",))
        stream = await dialer.dial(goal("allowed.test", site.port, *both(site.port)), secure=True)
        try:
            await stream.send(b"GET / HTTP/1.1\r\n\r\n")
            if not (await stream.receive(65_536)).startswith(b"HTTP/1.1 200"):
                raise OSError("no answer")
            return stream.tls_peer_sha256
        finally:
            await stream.aclose()


async def test_own_authority_is_trusted_when_the_settings_name_it(pki):
    assert await spoken(pki.context(), pki.settings()) == pki.digest
    with pytest.raises(Unavailable, match="certificate"):
        await spoken(pki.context(), TlsSettings())


async def test_pinned_certificate_is_the_only_one_when_the_settings_pin_it(pki):
    assert await spoken(pki.context(), pki.settings(peer_sha256=pki.digest)) == pki.digest
    with pytest.raises(Unavailable, match="pinned"):
        await spoken(pki.context(), pki.settings(peer_sha256=digest(b"another")))


async def test_old_version_is_refused_when_the_settings_want_a_newer_one(pki):
    old = ssl.TLSVersion.TLSv1_2
    assert await spoken(pki.context(newest=old), pki.settings()) == pki.digest
    with pytest.raises(Unavailable):
        await spoken(pki.context(newest=old), pki.settings(version_min="1.3"))


async def test_client_certificate_is_shown_when_the_server_asks(pki):
    assert await spoken(pki.context(asks=True), pki.settings(certificate_file=str(pki.client))) == pki.digest
    with pytest.raises((Unavailable, OSError)):
        await spoken(pki.context(asks=True), pki.settings())


@pytest.mark.parametrize(
    "naming", [lambda path: TlsSettings(authorities_file=path), lambda path: TlsSettings(certificate_file=path)]
)
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\ngarbage"])
async def test_settings_are_refused_when_a_file_of_theirs_is_useless(naming, content, tmp_path):
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    async with Echo() as echo:
        dialer = Dialer(resolver=LOOPBACK, tls=naming(str(path)))
        with pytest.raises(Malformed) as caught:
            await dialer.dial(goal("allowed.test", echo.port, *both(echo.port)), secure=True)
        assert (caught.value.code, echo.connections) == ("tls_malformed", 0)


async def test_key_with_a_passphrase_is_refused_instead_of_asking_the_terminal(pki):
    key = serialization.load_pem_private_key(pki.client.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    (pki.folder / "key.pem").write_bytes(locked)
    settings = pki.settings(certificate_file=str(pki.client), key_file=str(pki.folder / "key.pem"))
    with pytest.raises(Malformed, match="passphrase"):
        await spoken(pki.context(), settings)
