"""The http lane under attack. A live canary listens on loopback, where it must never be reached, and counts visits."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
import threading
import tracemalloc
import zlib

import msgspec
import pytest

from assent.execution.adapters.dialing import Dialer, Goal
from assent.execution.exchanges import Hop
from assent.execution.hosts import allow_list, canonical_host
from assent.execution.outcomes import Ending
from assent.primitives.errors import Refused
from tests.execution.sites import (
    Asked,
    Site,
    carried,
    endless_answer,
    http_lane,
    no_answer,
    once,
    order,
    pinned,
    raw_answer,
    text_answer,
    whole,
)

pytestmark = pytest.mark.anyio

# Every way known to write the canary's address, or to make one parser read an allowed host and another the canary's.
# `{port}` is the canary's port.
HOSTILE = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.000.000.001:{port}/",
    "http://127.0.0.2:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://x.localhost:{port}/",
    "http://localhost..:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::7f00:1]:{port}/",
    "http://[::ffff:0:7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[127.0.0.1]:{port}/",
    "http://::1:{port}/",
    "http://localhost\0.allowed.test:{port}/",
    "http://127.0.0.1\0.allowed.test:{port}/",
    "http://localhost%00.allowed.test:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/",
    "http://\u0430llowed.test:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://%6c%6fcalhost:{port}/",
    "http://allowed.test@127.0.0.1:{port}/",
    "http://allowed.test:80@127.0.0.1:{port}/",
    "http://allowed.test%40127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@allowed.test/",
    "http://127.0.0.1:{port}#@allowed.test/",
    "http://127.0.0.1:{port}?@allowed.test/",
    "http://127.0.0.1:{port}\\@allowed.test/",
    "http://127.0.0.1:{port}\\.allowed.test/",
    "http://127.0.0.1:{port},allowed.test/",
    "http://127.0.0.1:{port} .allowed.test/",
    "http://127.0.0.1\t:{port}/",
    "http://127.0.0.1\r\nHost: allowed.test:{port}/",
    "http:127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "\\\\127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET",
    "unix:///run/x.sock",
    "ws://127.0.0.1:{port}/",
    "http+unix://%2Frun%2Fx.sock/",
    "jar:http://127.0.0.1:{port}/!/",
    "data:text/plain,x",
    "http://127.0.0.1:0{port}/",
    "http://127.0.0.1:9{port}/",
    "http://127.0.0.1:65536/",
    "http://127.0.0.1:-1/",
    "http://127.0.0.1:+{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://100.100.100.200/latest/",
    "http://192.0.0.192/opc/v2/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://allowed.test.evil.test/",
    "http://evil-allowed.test/",
    "http://",
    "",
]


def allowed_by(port: int) -> tuple[str, ...]:
    return (
        "allowed.test:80",
        "allowed.test:443",
        f"allowed.test:{port}",
        f"*.allowed.test:{port}",
        "*.allowed.test:80",
    )


def goal(host: str, port: int, *listed: str) -> Goal:
    page = Hop(method="GET", scheme="http", host=host, port=port)
    return Goal(host=canonical_host(host), port=port, allowed=allow_list(listed), note=page)


def everything_is_loopback(name: str) -> list[str]:
    """The most hostile name server: whatever is asked, the answer is the canary."""
    return ["127.0.0.1"]


@pytest.mark.parametrize("url", HOSTILE)
async def test_canary_is_never_reached_when_a_url_is_hostile(url):
    async with Site() as canary:
        what = order(url.format(port=canary.port), *allowed_by(canary.port), method="POST")
        outcome = await once(what, resolver=everything_is_loopback)
        assert canary.connections == 0
    assert outcome.ending is Ending.FAILED
    assert outcome.code in {"host_refused", "address_refused", "url_refused", "port_refused"}
    assert not any(control in outcome.message for control in "\0\r\n\t")


async def test_canary_is_reached_when_it_is_listed():
    async with Site() as canary:
        assert (await once(order(f"http://127.0.0.1:{canary.port}/", f"127.0.0.1:{canary.port}"))).code == "ok"
        assert canary.connections == 1


@pytest.mark.parametrize(
    "answer",
    ["127.0.0.1", "127.0.0.53", "0.0.0.0", "10.0.0.1", "169.254.169.254", "::1", "::", "::ffff:127.0.0.1", "::7f00:1",
     "2002:7f00:1::", "64:ff9b::7f00:1", "fe80::1%lo", "fd00:ec2::254", "127.1", "0x7f000001", "localhost", "", "\0"],
)  # fmt: skip
async def test_allowed_name_is_refused_when_it_resolves_to_special_space(answer):
    async with Site() as canary:
        what = order(f"http://allowed.test:{canary.port}/", *allowed_by(canary.port))
        outcome = await once(what, resolver=pinned(allowed_test=[answer]))
        assert canary.connections == 0
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "address_refused")
    assert outcome.evidence.facts["hops"][0]["verdict"] == "address_refused"
    assert outcome.evidence.facts["resolved"] == [answer]


@pytest.mark.parametrize("answers", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2a00:1450::1", "::1"]])
async def test_allowed_name_is_refused_whole_when_one_answer_of_several_is_special(answers):
    async with Site() as canary:
        what = order(f"http://allowed.test:{canary.port}/", *allowed_by(canary.port))
        outcome = await once(what, resolver=pinned(allowed_test=answers))
        assert canary.connections == 0
    assert outcome.code == "address_refused"
    assert outcome.evidence.attestation.properties["addresses"].value == "none"


async def test_allowed_name_is_refused_when_only_another_port_of_its_address_is_listed():
    async with Site() as canary:
        hosts = (*allowed_by(canary.port), "127.0.0.1:1", f"127.0.0.2:{canary.port}", f"localhost:{canary.port}")
        outcome = await once(order(f"http://allowed.test:{canary.port}/", *hosts), resolver=everything_is_loopback)
        assert (outcome.code, canary.connections) == ("address_refused", 0)


async def test_wildcard_reaches_what_is_below_it_and_not_the_name_itself():
    async with Site() as site:
        hosts = (f"*.allowed.test:{site.port}", f"127.0.0.1:{site.port}")
        for name, code in (("a.allowed.test", "ok"), ("a.b.allowed.test", "ok"), ("allowed.test", "host_refused")):
            what = order(f"http://{name}:{site.port}/", *hosts)
            assert (await once(what, resolver=everything_is_loopback)).code == code
        assert site.connections == 2


async def test_rebinding_changes_nothing_when_the_second_answer_differs():
    async with Site() as site, Site(host="127.0.0.2", port=site.port) as canary:
        answers = itertools.chain([["127.0.0.1"]], itertools.repeat(["127.0.0.2"]))
        asked: list[str] = []

        def rebinding(name: str) -> list[str]:
            asked.append(name)
            return next(answers)

        what = order(f"http://allowed.test:{site.port}/", f"allowed.test:{site.port}", f"127.0.0.1:{site.port}")
        async with http_lane(resolver=rebinding) as lane:
            first, _ = await carried(lane, what)
            await asyncio.sleep(0)
            second, _ = await carried(lane, msgspec.structs.replace(what, headers=(("X-Api-Key", "other"),)))
        assert (first.code, site.connections, canary.connections) == ("ok", 1, 0)
        assert first.evidence.facts["address"] == "127.0.0.1"
        assert (second.code, asked) == ("address_refused", ["allowed.test", "allowed.test"])


async def test_peer_is_refused_when_it_is_not_the_address_that_was_dialled(monkeypatch):
    async with Site() as canary:
        loop = asyncio.get_running_loop()
        genuine = loop.sock_connect

        async def diverted(bare, address):
            await genuine(bare, ("127.0.0.1", address[1]))

        monkeypatch.setattr(loop, "sock_connect", diverted)
        outcome = await once(order(f"http://127.0.0.2:{canary.port}/", f"127.0.0.2:{canary.port}", method="POST"))
        assert canary.asked == []
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "address_refused")


async def test_lookup_ends_in_time_when_the_name_server_hangs():
    release = threading.Event()

    def hanging(_: str) -> list[str]:
        release.wait(10)
        return ["127.0.0.1"]

    try:
        async with http_lane(resolver=hanging, connect_ms=20) as lane:
            for _ in range(3):
                outcome, _ = await carried(lane, order("http://allowed.test/", "allowed.test:80", method="POST"))
                assert (outcome.ending, outcome.code) == (Ending.FAILED, "unreachable")
    finally:
        release.set()


async def test_lookups_are_bounded_when_all_of_them_hang():
    release = threading.Event()

    def hanging(_: str) -> list[str]:
        release.wait(10)
        raise OSError

    dialer = Dialer(resolver=hanging, connect_ms=1)
    before = threading.active_count()
    try:
        for _ in range(80):
            with pytest.raises(Exception, match="cannot be reached"):
                await dialer.dial(goal("allowed.test", 80, "allowed.test:80"), secure=False)
        assert threading.active_count() - before <= 64
    finally:
        release.set()


async def test_name_is_refused_when_it_has_hundreds_of_addresses():
    outcome = await once(
        order("http://allowed.test/", "allowed.test:80"),
        resolver=pinned(allowed_test=[f"8.8.{high}.{low}" for high in range(2) for low in range(200)]),
    )
    assert outcome.code == "address_refused"


def redirecting(location: str, status: int = 302):
    """Redirect everything but `/end`, where there is an answer."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(200, b"end") if asked.target == "/end" else whole(status, b"", f"Location: {location}"))

    return answer


@pytest.mark.parametrize("url", [url for url in HOSTILE if url and "\r" not in url])
async def test_canary_is_never_reached_when_a_redirect_is_hostile(url):
    async with Site() as canary:
        location = url.format(port=canary.port).encode().decode("latin-1")
        async with Site(redirecting(location)) as site:
            hosts = (*allowed_by(canary.port), f"127.0.0.1:{site.port}")
            what = order(f"http://127.0.0.1:{site.port}/start", *hosts)
            outcome = await once(what, resolver=everything_is_loopback)
        assert canary.connections == 0
    assert outcome.ending is Ending.FAILED
    assert outcome.code == ("cut_short" if "\0" in url else "redirect_refused")  # a NUL is no HTTP at all


async def test_redirect_ends_when_it_leads_in_a_circle():
    async with Site(redirecting("/again")) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", redirects_max=3))
        assert len(site.asked) == 4
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (
        Ending.FAILED,
        "redirect_refused",
        "redirects_max",
    )
    assert [hop["status"] for hop in outcome.evidence.facts["hops"]] == [302] * 4


async def test_redirect_is_the_answer_when_none_may_be_followed():
    async with Site(redirecting("http://evil.test/")) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", redirects_max=0))
    assert (outcome.code, outcome.value["status"]) == ("ok", 302)


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", b""), (302, "POST", "GET", b""), (303, "POST", "GET", b""), (303, "PUT", "GET", b""),
        (307, "POST", "POST", b"data"), (308, "POST", "POST", b"data"), (302, "PUT", "PUT", b"data"),
        (303, "HEAD", "HEAD", b"data"),
    ],
)  # fmt: skip
async def test_redirect_keeps_or_drops_the_method_as_rfc_9110_says(status, method, then, body):
    async with Site(redirecting("/end", status)) as site:
        what = order(
            f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method=method, body=b"data",
            headers=(("Content-Type", "text/x"), ("Authorization", "Bearer x")), idempotency_key="k",
        )  # fmt: skip
        outcome = await once(what)
    assert outcome.code == "ok"
    last = site.asked[-1]
    assert (last.method, last.body) == (then, body)
    assert ("content-type" in last.headers) == ("idempotency-key" in last.headers) == (then == method)
    assert last.headers["authorization"] == "Bearer x"


async def test_credentials_stay_behind_when_a_redirect_leads_to_another_origin():
    secrets = ("Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "Client-Secret", "X-Amz-Security-Token")
    async with Site() as other, Site(redirecting(f"http://127.0.0.1:{other.port}/end", 307)) as site:
        what = order(
            f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", f"127.0.0.1:{other.port}", method="POST",
            headers=(*((name, "v") for name in secrets), ("X-Plain", "v")), idempotency_key="k",
        )  # fmt: skip
        assert (await once(what)).code == "ok"
    first, then = site.asked[0].headers, other.asked[0].headers
    assert {name.lower() for name in secrets} <= first.keys()
    assert {name.lower() for name in secrets} & then.keys() == set()
    assert then["x-plain"] == "v"
    assert then["idempotency-key"] == "k"


@pytest.mark.parametrize(("status", "ending"), [(303, Ending.UNKNOWN), (302, Ending.UNKNOWN), (307, Ending.FAILED)])
async def test_post_is_unknown_when_the_redirect_that_answers_it_leads_nowhere(status, ending):
    async with Site(redirecting("http://evil.test/", status)) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method="POST"))
    assert (outcome.ending, outcome.code) == (ending, "redirect_refused")
    assert outcome.value["status"] == status


async def test_post_is_unknown_when_the_page_after_its_redirect_is_missing():
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(303, b"", "Location: /gone") if asked.method == "POST" else whole(404))

    async with Site(answer) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method="POST"))
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "http_status")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "piece", "limit"),
    [
        (PLAIN, b"x" * 65_536, "output_bytes_max"),
        (CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n", "output_bytes_max"),
        (CHUNKED, b"1;" + b"e" * 8_000 + b"\r\nx\r\n", "output_bytes_max"),
        (GZIP, gzip.compress(b"", mtime=0) * 500, "output_bytes_max"),
        (b"", b"HTTP/1.1 100 Continue\r\nX-Pad: " + b"p" * 5_000 + b"\r\n\r\n", "output_bytes_max"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Flood: " + b"f" * 1_000 + b"\r\n", "head_bytes"),
        (b"HTTP/1.1 200 OK\r\nX-Flood: ", b"f" * 10_000, "head_bytes"),
        (b"HTTP/1.1 200 ", b"O" * 10_000, "head_bytes"),
    ],
    ids=["body", "chunks", "chunk-extensions", "empty-members", "interim", "headers", "one-header", "reason"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_flood_ends_at_the_limit_wherever_in_the_protocol_it_hides(start, piece, limit, method):
    async with Site(endless_answer(start, piece)) as site:
        what = order(
            f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method=method, output_bytes_max=100_000
        )
        outcome = await once(what)
    assert (outcome.code, outcome.evidence.limit) == ("output_limit", limit)
    assert outcome.ending is (Ending.FAILED if method == "GET" else Ending.UNKNOWN)
    assert "body" not in outcome.value
    assert outcome.evidence.facts["bytes_in"] < 2 * 100_000 + 262_144 + 65_536 + 1


async def test_headers_are_refused_when_they_are_too_many():
    fields = [f"X-{number}: v" for number in range(101)]
    async with Site(text_answer(b"", 200, *fields)) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}"))
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, "output_limit", "head_bytes")


async def test_shown_headers_are_bounded_when_the_server_sends_large_ones():
    fields = [f"X-{number}: {'v' * 1_000}" for number in range(90)]
    async with Site(text_answer(b"", 200, *fields)) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}"))
    assert outcome.code == "ok"
    assert sum(len(name) + len(value) for name, value in outcome.value["headers"].items()) <= 32_768


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(size // 2**20)), packer.flush()])


@pytest.mark.slow
async def test_gzip_bomb_is_defused_when_it_unpacks_to_far_more_than_the_limit():
    packed = bomb(256 * 2**20)
    async with Site(text_answer(packed, 200, "Content-Encoding: gzip")) as site, http_lane() as lane:
        what = order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", output_bytes_max=1_000_000)
        tracemalloc.start()
        try:
            outcome, seen = await carried(lane, what)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert outcome.code == "output_limit"
    assert seen == bytes(1_000_000)
    assert peak < 20_000_000


async def test_body_of_exactly_the_limit_is_whole():
    async with Site(text_answer(gzip.compress(b"x" * 70_000, mtime=0), 200, "Content-Encoding: gzip")) as site:
        here = f"127.0.0.1:{site.port}"
        exact = await once(order(f"http://{here}/", here, output_bytes_max=70_000))
        short = await once(order(f"http://{here}/", here, output_bytes_max=69_999))
    assert (exact.code, short.code) == ("ok", "output_limit")


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        CHUNKED + b"5\r\nhel", CHUNKED + b"5\r\nhello\r\n", GZIP + gzip.compress(b"x" * 999, mtime=0)[:-9],
        GZIP + b"no gzip at all", b"SSH-2.0-OpenSSH\r\n", b"\0" * 100, b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"HTTP/1.1 101 Go\r\n\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("method", "ending", "code"), [
    ("GET", Ending.FAILED, "cut_short"), ("HEAD", Ending.FAILED, "cut_short"), ("POST", Ending.UNKNOWN, "no_answer"),
    ("PUT", Ending.UNKNOWN, "no_answer"), ("DELETE", Ending.UNKNOWN, "no_answer"),
])  # fmt: skip
async def test_broken_answer_is_failed_or_unknown_when_the_stream_is_cut(sent, method, ending, code):
    if method == "HEAD" and b"\r\n\r\n" in sent and b"Length: -1" not in sent and b"101" not in sent:
        sent = sent.partition(b"\r\n\r\n")[0]
    async with Site(raw_answer(sent)) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method=method))
    assert (outcome.ending, outcome.code) == (ending, code)
    assert "body" not in outcome.value


async def test_refusal_stands_when_its_body_is_cut():
    async with Site(raw_answer(b"HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\nhalf")) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method="POST"))
    assert (outcome.ending, outcome.code, outcome.value["status"]) == (Ending.FAILED, "cut_short", 403)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
@pytest.mark.parametrize(("method", "ending"), [("GET", Ending.FAILED), ("POST", Ending.UNKNOWN)])
async def test_wall_limit_ends_the_exchange_when_the_server_falls_silent(start, method, ending):
    async with Site(no_answer(lambda: site.over, start)) as site:
        what = order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method=method, wall_ms=60)
        outcome = await once(what)
        assert len(site.asked) == 1
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (ending, "wall_limit", "wall_ms")


async def test_wall_limit_ends_the_exchange_when_the_body_drips():
    async def drip(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.005)

    async with Site(drip) as site, http_lane() as lane:
        what = order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", wall_ms=80)
        outcome, seen = await carried(lane, what)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "wall_limit")
    assert seen
    assert set(seen) == {ord("x")}


async def test_wall_limit_is_failed_when_nothing_was_sent_yet():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never shakes hands
        here = f"127.0.0.1:{silent.getsockname()[1]}"
        outcome = await once(order(f"https://{here}/", here, method="POST", wall_ms=60))
        early = await once(order(f"https://{here}/", here, method="POST"), connect_ms=60)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "wall_limit")
    assert (early.ending, early.code) == (Ending.FAILED, "unreachable")


async def test_one_hanging_exchange_does_not_hold_up_another():
    async with (
        Site(no_answer(lambda: hanging.over)) as hanging,
        Site() as site,
        http_lane() as lane,
        asyncio.TaskGroup() as group,
    ):
        here = f"127.0.0.1:{hanging.port}"
        stuck = [group.create_task(carried(lane, order(f"http://{here}/", here))) for _ in range(20)]
        here = f"127.0.0.1:{site.port}"
        outcome, _ = await carried(lane, order(f"http://{here}/", here, wall_ms=2_000))
        assert outcome.code == "ok"
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nX-B: b"), ("X-A", "a\nb"), ("X-A", "a\0b"), ("X-A", "a\x7fb"), ("X-A", " a"), ("X-A", "\u20ac"),
        ("X A", "v"), ("X-A:", "v"), ("", "v"), ("X\r\nY", "v"), ("Host", "evil.test"), ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"), ("Connection", "upgrade"), ("Upgrade", "h2c"), ("Proxy-Authorization", "x"),
        ("X-\u00e9", "v"), ("X-Long", "v" * 70_000),
    ],
)  # fmt: skip
async def test_header_is_refused_when_it_breaks_the_grammar_or_belongs_to_the_lane(name, value):
    async with Site() as site:
        what = order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", headers=((name, value),))
        outcome = await once(what)
        assert site.connections == 0
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "header_refused")


@pytest.mark.parametrize(
    "more",
    [
        {"method": "CONNECT"}, {"method": "TRACE"}, {"method": "GET / HTTP/1.1\r\nX: y\r\n\r\nGET"}, {"method": ""},
        {"idempotency_key": "a\r\nb"}, {"idempotency_key": "x" * 256}, {"headers": (("X-A", "v"),) * 101},
        {"headers": (("Idempotency-Key", "a"),), "idempotency_key": "b"},
    ],
)  # fmt: skip
async def test_request_is_refused_when_its_first_lines_are_not_in_order(more):
    async with Site() as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", **more))
        assert site.connections == 0
    assert outcome.ending is Ending.FAILED
    assert outcome.code in {"method_refused", "header_refused"}


async def test_order_is_refused_when_its_allow_list_cannot_be_read():
    async with Site() as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", "*.org:443"))
        assert site.connections == 0
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "allow_list_malformed")


async def test_dialer_refuses_by_itself_when_the_host_is_not_listed():
    async with Site() as canary:
        dialer = Dialer(resolver=everything_is_loopback, connect_ms=1_000)
        with pytest.raises(Refused) as caught:
            await dialer.dial(goal("127.0.0.1", canary.port, "allowed.test:80"), secure=False)
        assert (caught.value.code, canary.connections) == ("host_refused", 0)
