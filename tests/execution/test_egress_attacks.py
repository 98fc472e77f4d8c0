"""The egress broker under attack, by the program and by hosts. A live canary listens on loopback, where it must never
be reached, and counts visits."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import tracemalloc
from pathlib import Path

import pytest

from assent.execution.adapters.dialing import Dialer
from assent.execution.adapters.egress import EgressLimits
from tests.execution.brokers import WAIT_S, Brokered, listed, status
from tests.execution.sites import Site, endless_answer, no_answer, pinned, raw_answer, whole
from tests.execution.test_egress_broker import connect, get

pytestmark = pytest.mark.anyio

# Every way known to write the canary's address, or to make one parser read an allowed host and another the canary's.
HOSTILE = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "0",
    "0.0.0.0", "127.0.0.1.", "127.000.000.001", "localhost", "LOCALHOST.", "x.localhost", "[::1]", "[::]",
    "[::ffff:127.0.0.1]", "[::7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::1%lo]", "[127.0.0.1]", "::1",
    "localhost\0.allowed.test", "127.0.0.1\0.allowed.test", "127.0.0.1%00.allowed.test", "%31%32%37.0.0.1",
    "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "allowed.test@127.0.0.1", "127.0.0.1#allowed.test",
    "127.0.0.1?.allowed.test", "127.0.0.1/.allowed.test", "127.0.0.1\\.allowed.test", "127.0.0.1,allowed.test",
    "127.0.0.1 allowed.test", "127.0.0.1\t.allowed.test", "127.0.0.1\r\nX: allowed.test", "127.0.0.1\n", "127.0.0.1\r",
    "allowed.test.evil.test", "evil-allowed.test", "a_b.allowed.test", "-a.allowed.test", "", ".", "*.allowed.test",
    "169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal", "user:word@allowed.test",
]  # fmt: skip
REFUSED = {"host_refused", "address_refused", "port_refused", "url_refused", "request_refused"}


def everything_is_loopback(name: str) -> list[str]:
    """The most hostile name server: whatever is asked, the answer is the canary."""
    return ["127.0.0.1"]


def allowed_by(port: int) -> tuple[str, ...]:
    return "allowed.test:80", "allowed.test:443", f"allowed.test:{port}", f"*.allowed.test:{port}"


@pytest.mark.parametrize("host", HOSTILE)
@pytest.mark.parametrize("way", ["tunnel", "plain"])
async def test_canary_is_never_reached_when_a_host_is_hostile(host, way):
    make = connect if way == "tunnel" else get
    async with Site() as canary:
        async with Brokered(*allowed_by(canary.port), resolver=everything_is_loopback) as brokered:
            said = await brokered.say(make(canary.port, host=host))
        assert canary.connections == 0
    assert status(said) in {400, 403}
    assert brokered.contact["verdict"] in REFUSED
    assert not any(control in brokered.contact["reason"] for control in "\0\r\n\t")


@pytest.mark.parametrize(
    "answer",
    ["127.0.0.1", "127.0.0.53", "0.0.0.0", "10.0.0.1", "169.254.169.254", "::1", "::", "::ffff:127.0.0.1", "::7f00:1",
     "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "fe80::1%lo", "fd00:ec2::254", "127.1", "0x7f000001",
     ""],
)  # fmt: skip
async def test_allowed_name_is_refused_when_it_resolves_to_special_space(answer):
    async with Site() as canary:
        resolver = pinned(allowed_test=["8.8.8.8", answer])
        async with Brokered(f"allowed.test:{canary.port}", resolver=resolver) as brokered:
            assert status(await brokered.say(connect(canary.port))) == 403
        assert canary.connections == 0
    assert brokered.contact["verdict"] == "address_refused"


@pytest.mark.parametrize(
    "port", ["", "0", "65536", "99999", "-1", "+80", "080", "8e1", " 80", "80 ", "\uff18\uff10", "80:80"]
)
async def test_port_is_refused_when_it_is_not_plainly_the_listed_one(port):
    async with Brokered("allowed.test:80", resolver=everything_is_loopback) as brokered:
        said = await brokered.say(f"CONNECT allowed.test:{port} HTTP/1.1\r\n\r\n".encode())
    assert status(said) in {400, 403}
    assert brokered.contact["verdict"] in REFUSED


async def test_unlisted_port_is_refused_when_the_name_is_listed():
    async with Site() as canary, Brokered("allowed.test:443", f"127.0.0.1:{canary.port}") as brokered:
        assert status(await brokered.say(connect(canary.port))) == 403
        assert canary.connections == 0
    assert brokered.contact["verdict"] == "host_refused"


POST = "POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\n"
SMUGGLED = {
    "two hosts": "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
    "another host": "GET http://{host}/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
    "another port": "GET http://{host}/ HTTP/1.1\r\nHost: allowed.test:1\r\n\r\n",
    "no host": "GET http://{host}/ HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "another host of the tunnel": "CONNECT {host} HTTP/1.1\r\nHost: other.test\r\n\r\n",
    "length and coding": POST + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two equal lengths": POST + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "list of lengths": POST + "Content-Length: 5, 5\r\n\r\nhello",
    "signed length": POST + "Content-Length: +5\r\n\r\nhello",
    "negative length": POST + "Content-Length: -1\r\n\r\n",
    "length by a letter": POST + "Content-Length: 0x5\r\n\r\nhello",
    "other coding": POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "odd coding": POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": "GET http://{host}/ HTTP/1.1\r\nHost : {host}\r\n\r\n",
    "folded line": "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nX: 1\r\n 2\r\n\r\n",
    "bare line feeds": "GET http://{host}/ HTTP/1.1\nHost: {host}\n\r\n\r\n",
    "bare carriage return": "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nX: 1\rY: 2\r\n\r\n",
    "zero byte": "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nX: \0\r\n\r\n",
    "framing named by Connection": POST + "Connection: content-length\r\nContent-Length: 5\r\n\r\nhello",
    "tunnel with a body": "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello",
    "coding in HTTP/1.0": "POST http://{host}/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "origin form": "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "asterisk": "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "https without a tunnel": "GET https://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "other scheme": "GET ftp://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "user information": "GET http://user@{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "other version": "GET http://{host}/ HTTP/2.0\r\nHost: {host}\r\n\r\n",
    "version of old": "GET http://{host}/\r\n\r\n",
    "http 2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "extra space": "GET  http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "line break in the target": "GET http://{host}/\r\nX: y HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "leading empty line": "\r\nGET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "tls without a tunnel": "\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n",
    "socks": "\x05\x01\x00\r\n\r\n",
    "many fields": "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n" + "X: 1\r\n" * 200 + "\r\n",
}  # fmt: skip


@pytest.mark.parametrize("request_text", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_request_is_refused_when_two_parsers_could_read_it_differently(request_text):
    async with Site() as site:
        async with Brokered(*listed(site.port)) as brokered:
            said = await brokered.say(request_text.format(host=f"allowed.test:{site.port}").encode("latin-1"))
        assert site.connections == 0
    assert status(said) in {400, 403}
    assert brokered.contact["verdict"] in REFUSED


BROKEN_CHUNKS = [
    b"5;x=1\r\nhello\r\n", b"5\nhello\r\n", b"-5\r\n", b"+5\r\n", b"0x5\r\n", b"5\r\nhellooo", b" 5\r\n", b"\r\n",
    b"fffffffffffff\r\n", b"5\r\nhello0\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 2000, b"1" * 9000,
]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN_CHUNKS)
async def test_chunked_body_is_cut_off_when_its_framing_is_wrong(body):
    async with Site(no_answer(lambda: site.over)) as site, Brokered(*listed(site.port)) as brokered:
        head = f"POST http://allowed.test:{site.port}/ HTTP/1.1\r\nHost: allowed.test:{site.port}\r\n"
        said = await brokered.say(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert status(said) == 400


async def test_pipelined_requests_are_cut_off_when_no_answer_was_waited_for():
    async with Site(no_answer(lambda: site.over)) as site, Brokered(*listed(site.port)) as brokered:
        assert await brokered.say(get(site.port) * 2) == b"RESET"
        assert len(site.asked) == 1
    assert brokered.facts["verdicts"] == {"allowed": 1, "request_refused": 1}


async def test_second_request_is_refused_in_words_when_its_host_is_not_listed():
    async with Site() as site, Brokered(*listed(site.port)) as brokered, await brokered.connect() as program:
        await program.send(get(site.port))
        assert await program.answer() == b"hello"
        await program.send(get(80, host="other.test"))
        assert b"(host_refused)" in await program.rest()


async def test_slow_head_is_cut_off_when_it_takes_too_long():
    limits = EgressLimits(head_ms=100)
    async with Brokered("allowed.test:80", limits=limits) as brokered, await brokered.connect() as program:
        for byte in b"GET http://allowed.test/ HTTP/1.1\r\n":
            await program.send(bytes([byte]))
            await asyncio.sleep(0.01)
        assert status(await program.rest()) == 408
    assert brokered.contact["verdict"] == "head_wait_limit"


async def test_silent_client_is_cut_off_when_it_asks_nothing():
    async with Brokered("allowed.test:80", limits=EgressLimits(head_ms=50)) as brokered:
        assert status(await brokered.say()) == 408


@pytest.mark.parametrize("piece", [b"x" * 1_000, b"X: y\r\n" * 100])
async def test_endless_head_is_cut_off_when_it_is_too_long(piece):
    async with Brokered("allowed.test:80") as brokered:
        assert status(await brokered.say(b"GET http://allowed.test/ HTTP/1.1\r\n", *[piece] * 40)) == 431
    assert brokered.contact["verdict"] == "head_limit"


@pytest.mark.parametrize("way", ["tunnel", "plain"])
async def test_connection_ends_when_nothing_moves_for_too_long(way):
    limits = EgressLimits(idle_ms=100)
    async with Site(no_answer(lambda: site.over)) as site, Brokered(*listed(site.port), limits=limits) as brokered:
        said = await brokered.say(connect(site.port) if way == "tunnel" else get(site.port))
        assert said.endswith(b"RESET")
    assert brokered.contact["ended"] == "idle_limit"


@pytest.mark.parametrize("way", ["tunnel", "plain"])
async def test_run_moves_no_more_when_its_bytes_are_used_up(way):
    limits = EgressLimits(bytes_max=1_000_000)
    flood = endless_answer(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    async with Site(flood) as site, Brokered(*listed(site.port), limits=limits) as brokered:
        request = connect(site.port) + b"GET / HTTP/1.1\r\n\r\n" if way == "tunnel" else get(site.port)
        said = await brokered.say(request)
        assert said.endswith(b"RESET")
        assert len(said) < 2_000_000
        assert b"(bytes_limit)" in await brokered.say(request)
    allowed, refused = brokered.facts["connections"]
    assert (allowed["ended"], refused["verdict"]) == ("bytes_limit", "bytes_limit")


async def test_answer_that_breaks_off_is_a_reset_for_the_program_and_no_end():
    async def break_off(_asked, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        await writer.drain()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with Site(break_off) as site, Brokered(*listed(site.port)) as brokered:
        assert (await brokered.say(get(site.port))).endswith(b"RESET")
    assert brokered.contact["ended"] == "broken"


@pytest.mark.slow
async def test_thousand_connections_at_once_are_served_or_refused_and_none_is_forgotten():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4_000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_000), hard))
    before = len(_open_files())
    async with Site() as site, Brokered(*listed(site.port), backlog=1024) as brokered:
        with contextlib.ExitStack() as stack:
            flood = [stack.enter_context(socket.socket()) for _ in range(1_000)]
            await asyncio.gather(*(_connected(one, brokered.port) for one in flood))
            said = await asyncio.gather(*(_asked(one, get(site.port)) for one in flood))
        verdicts = brokered.facts["verdicts"]
        assert sum(verdicts.values()) == 1_000
        assert set(verdicts) == {"allowed", "connections_limit"}
        assert verdicts["allowed"] == sum(one.endswith(b"hello") for one in said) >= 64
        assert site.most_open <= 64
        assert await brokered.say(get(site.port), half_close=True) == whole(200, b"hello")  # and it still serves
    assert len(_open_files()) - before < 10


async def _connected(one: socket.socket, port: int) -> None:
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))


async def _asked(one: socket.socket, request: bytes) -> bytes:
    came, loop = b"", asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        await loop.sock_sendall(one, request)
        one.shutdown(socket.SHUT_WR)
        while data := await loop.sock_recv(one, 65_536):
            came += data
    return came


def _open_files():
    return [path.name for path in Path("/proc/self/fd").iterdir()]


@pytest.mark.slow
async def test_memory_stays_when_the_program_never_reads_and_the_host_floods():
    flood = endless_answer(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    async with Site(flood) as site, Brokered(*listed(site.port)) as brokered, await brokered.connect() as program:
        program.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await program.send(connect(site.port) + b"GET / HTTP/1.1\r\n\r\n")
        tracemalloc.start()
        moved = -1
        while moved < brokered.facts["bytes_in"]:
            moved = brokered.facts["bytes_in"]
            await asyncio.sleep(0.2)
        _held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert moved < 64_000_000  # what the kernel's buffers take, and no more
        assert peak < 2_000_000
        brokered.task.cancel()


@pytest.mark.parametrize("way", ["tunnel", "plain"])
async def test_connections_end_with_a_reset_when_the_broker_is_cancelled_in_the_middle(way):
    flood = endless_answer(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    async with Site(flood) as site, Brokered(*listed(site.port)) as brokered, await brokered.connect() as program:
        await program.send(connect(site.port) + b"GET / HTTP/1.1\r\n\r\n" if way == "tunnel" else get(site.port))
        await program.reader.readexactly(500_000)
        brokered.task.cancel()
        async with asyncio.timeout(WAIT_S):
            assert (await program.rest()).endswith(b"RESET")
            with pytest.raises(asyncio.CancelledError):
                await brokered.task
        with pytest.raises(OSError, match="onnect"):
            await brokered.connect()
        async with asyncio.timeout(WAIT_S):
            await site.left.wait()
    facts = brokered.facts
    assert facts["broker"] == "cancelled"
    assert (brokered.contact["ended"], brokered.contact["bytes_in"] > 400_000) == ("run_ended", True)


async def test_look_up_under_way_is_recorded_when_the_broker_is_cancelled():
    import threading

    release = threading.Event()

    def hanging(_name):
        release.wait(10)
        return []

    async with Brokered("allowed.test:80", resolver=hanging) as brokered, await brokered.connect() as program:
        await program.send(connect(80))
        await asyncio.sleep(0.05)
        brokered.task.cancel()
        assert await program.rest() == b"RESET"
        release.set()
    assert brokered.contact["verdict"] == "run_ended"


async def test_broker_says_that_it_broke_when_its_own_code_fails(monkeypatch):
    async def buggy(self, goal):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Dialer, "connect", buggy)
    async with Brokered("allowed.test:80") as brokered:
        assert await brokered.say(connect(80)) == b"RESET"
        await asyncio.wait([brokered.task], timeout=WAIT_S)
        with contextlib.suppress(OSError):
            await brokered.connect()
            raise AssertionError("it still listens")
    assert brokered.facts["broker"].startswith("broken: ZeroDivisionError")


async def test_descriptors_run_out_and_come_back_without_ending_the_service(monkeypatch):
    loop = asyncio.get_running_loop()
    genuine, failures = loop.sock_accept, [OSError(24, "too many open files"), OSError(23, "too many in the system")]

    async def short(listener):
        if failures:
            raise failures.pop()
        return await genuine(listener)

    monkeypatch.setattr(loop, "sock_accept", short)
    async with Site() as site, Brokered(*listed(site.port)) as brokered:
        assert b"hello" in await brokered.say(get(site.port), half_close=True)
    assert failures == []


async def test_answer_of_the_host_is_not_read_by_the_broker_when_it_is_not_http():
    async with Site(raw_answer(b"\0\1\2 anything at all")) as site, Brokered(*listed(site.port)) as brokered:
        assert await brokered.say(get(site.port)) == b"\0\1\2 anything at all"
