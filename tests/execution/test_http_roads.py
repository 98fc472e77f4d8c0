"""How the http lane gets there: through a proxy that was named, and by named TLS settings and pins."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

import pytest

from assent.execution.adapters.http import HttpLane
from assent.execution.outcomes import Ending
from assent.execution.tls import TlsSettings
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed
from tests.execution.authorities import Authority
from tests.execution.sites import RealClock, Site, carried, http_lane, once, order, pinned

pytestmark = pytest.mark.anyio


class Proxy:
    """A forward proxy that tunnels CONNECT and remembers what it was asked for."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self._answer = answer
        self._ended: list[asyncio.Future[None]] = []
        self.asked: list[str] = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.get_running_loop().create_future()
        self._ended.append(ended)
        head = await reader.readuntil(b"\r\n\r\n")
        where = head.split()[1].decode()
        self.asked.append(where)
        writer.write(self._answer)
        if b" 200 " in self._answer:
            host, port = where.rsplit(":", 1)
            there, out = await asyncio.open_connection(host.strip("[]"), int(port))
            await asyncio.gather(_pump(reader, out), _pump(there, writer))
        await _shut(writer)
        ended.set_result(None)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    await _shut(sink)


async def _shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_proxy_is_asked_for_the_judged_address_when_it_is_configured():
    async with Site() as site, Proxy() as proxy:
        what = order(f"http://allowed.test:{site.port}/", f"allowed.test:{site.port}", f"127.0.0.1:{site.port}")
        outcome = await once(what, resolver=pinned(allowed_test=["127.0.0.1"]), proxy=f"127.0.0.1:{proxy.port}")
        assert proxy.asked == [f"127.0.0.1:{site.port}"]
    assert outcome.code == "ok"
    (hop,) = outcome.evidence.facts["hops"]
    assert (hop["address"], hop["proxy"]) == ("127.0.0.1", f"127.0.0.1:{proxy.port}")
    assert site.asked[0].headers["host"] == f"allowed.test:{site.port}"


async def test_order_is_checked_before_the_proxy_is_asked():
    async with Site() as canary, Proxy() as proxy:
        through = f"127.0.0.1:{proxy.port}"
        unlisted = await once(order(f"http://127.0.0.1:{canary.port}/", "allowed.test:80"), proxy=through)
        private = await once(
            order("http://allowed.test/", "allowed.test:80"), resolver=pinned(allowed_test=["10.0.0.1"]), proxy=through
        )
        assert (proxy.asked, canary.connections) == ([], 0)
    assert (unlisted.code, private.code) == ("host_refused", "address_refused")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n", b"HTTP/1.1 407 Who are you\r\n\r\n", b"", b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 " + b"x" * 20_000, b"HTTP/1.1 200 ok\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)  # fmt: skip
async def test_host_is_unreachable_when_the_proxy_refuses_or_speaks_for_the_server(answer):
    async with Site() as site, Proxy(answer) as proxy:
        here = f"127.0.0.1:{site.port}"
        what = order(f"http://{here}/", here, method="POST", body=b"data")
        outcome = await once(what, proxy=f"127.0.0.1:{proxy.port}")
    assert (outcome.ending, outcome.code, site.asked) == (Ending.FAILED, "unreachable", [])


async def test_lane_cannot_be_built_when_the_proxy_is_no_host_and_port():
    for proxy in ("http://proxy:3128", "proxy", "proxy:0", "127.1:3128"):
        with pytest.raises(Malformed):
            HttpLane(clock=RealClock(), proxy=proxy)


# TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def test_named_settings_are_used_when_the_order_names_them(authority, tmp_path):
    server = authority.server("allowed.test", folder=tmp_path)
    named = {"inner": TlsSettings(authorities_file=str(authority.file(tmp_path)))}
    resolver = pinned(allowed_test=["127.0.0.1"])
    async with Site(tls=server) as site, http_lane(resolver=resolver, tls_named=named) as lane:
        url, hosts = f"https://allowed.test:{site.port}/", (f"allowed.test:{site.port}", f"127.0.0.1:{site.port}")
        plain, _ = await carried(lane, order(url, *hosts))
        trusted, _ = await carried(lane, order(url, *hosts, tls="inner"))
        unknown, _ = await carried(lane, order(url, *hosts, tls="other"))
        assert len(site.asked) == 1
    assert [one.code for one in (plain, trusted, unknown)] == ["unreachable", "ok", "tls_unknown"]
    assert {one.ending for one in (plain, unknown)} == {Ending.FAILED}


async def test_pinned_certificate_is_the_only_one_accepted(authority, tmp_path):
    server = authority.server("127.0.0.1", folder=tmp_path)
    tls = TlsSettings(authorities_file=str(authority.file(tmp_path)))
    async with Site(tls=server) as site, http_lane(tls=tls) as lane:
        here = f"127.0.0.1:{site.port}"
        wrong, _ = await carried(lane, order(f"https://{here}/", here, method="POST", tls_peer_sha256=digest(b"x")))
        assert site.asked == []
        right, _ = await carried(lane, order(f"https://{here}/", here, tls_peer_sha256=digest(authority.last_der)))
        again, _ = await carried(lane, order(f"https://{here}/", here, tls_peer_sha256=digest(b"x")))
        assert len(site.asked) == 1
    assert (wrong.ending, wrong.code, right.code, again.code) == (Ending.FAILED, "unreachable", "ok", "unreachable")
    assert "pinned" in wrong.message


async def test_pin_is_refused_when_there_is_no_tls():
    async with Site() as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, tls_peer_sha256=digest(b"x")))
        assert (outcome.code, site.connections) == ("url_refused", 0)


@pytest.mark.parametrize("fault", ["expired", "not yet valid", "wrong name", "TLS 1.1"])
async def test_server_is_unreachable_when_its_certificate_is_not_good_now(fault, authority, tmp_path):
    name = "other.test" if fault == "wrong name" else "127.0.0.1"
    days = {"expired": dt.timedelta(days=-10), "not yet valid": dt.timedelta(days=10)}.get(fault, dt.timedelta())
    server = authority.server(name, folder=tmp_path, shift=days, old=fault == "TLS 1.1")
    tls = TlsSettings(authorities_file=str(authority.file(tmp_path)))
    async with Site(tls=server) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"https://{here}/", here, method="POST", body=b"data"), tls=tls)
        assert site.asked == []
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "unreachable")


async def test_client_certificate_is_shown_when_the_settings_have_one(authority, tmp_path):
    server = authority.server("127.0.0.1", folder=tmp_path, asks=True)
    pair = authority.pair("client.test", folder=tmp_path)
    trust = str(authority.file(tmp_path))
    tls = {
        "me": TlsSettings(authorities_file=trust, certificate_file=str(pair), key_file=str(pair)),
        "nobody": TlsSettings(authorities_file=trust),
    }
    async with Site(tls=server) as site, http_lane(tls_named=tls) as lane:
        here = f"127.0.0.1:{site.port}"
        known, _ = await carried(lane, order(f"https://{here}/", here, tls="me"))
        stranger, _ = await carried(lane, order(f"https://{here}/", here, tls="nobody"))
        assert len(site.asked) == 1
    assert (known.code, stranger.ending) == ("ok", Ending.FAILED)


async def test_tls_goes_through_the_proxy_to_the_server_itself(authority, tmp_path):
    server = authority.server("allowed.test", folder=tmp_path)
    tls = TlsSettings(authorities_file=str(authority.file(tmp_path)))
    async with Site(tls=server) as site, Proxy() as proxy:
        what = order(f"https://allowed.test:{site.port}/", f"allowed.test:{site.port}", f"127.0.0.1:{site.port}")
        resolver = pinned(allowed_test=["127.0.0.1"])
        outcome = await once(what, resolver=resolver, tls=tls, proxy=f"127.0.0.1:{proxy.port}")
    assert outcome.code == "ok"
    assert outcome.evidence.facts["tls_peer_sha256"] == digest(authority.last_der)
