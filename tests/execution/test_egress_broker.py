"""The egress broker against well-behaved programs and hosts: what passes, how it ends, what the record says."""

from __future__ import annotations

import asyncio

import pytest

from assent.execution.adapters.egress import EgressLimits
from tests.execution.brokers import Brokered, listed, status
from tests.execution.sites import Site, pinned, raw_answer, text_answer, whole

pytestmark = pytest.mark.anyio


def connect(port: int, host: str = "allowed.test") -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def get(port: int, path: str = "/", host: str = "allowed.test", more: str = "") -> bytes:
    return f"GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n{more}\r\n".encode()


async def test_tunnel_carries_both_ways_and_is_recorded_when_the_host_is_listed():
    async with Site() as site, Brokered(*listed(site.port)) as brokered:
        async with await brokered.connect() as program:
            await program.send(connect(site.port))
            assert status(await program.head()) == 200
            for _ in range(3):
                await program.send(b"GET / HTTP/1.1\r\n\r\n")
                assert await program.answer() == b"hello"
        await brokered.settled()
    contact = brokered.contact
    assert (contact["kind"], contact["host"], contact["port"]) == ("tunnel", "allowed.test", site.port)
    assert (contact["address"], contact["verdict"], contact["ended"]) == ("127.0.0.1", "allowed", "closed")
    assert (contact["bytes_out"], contact["bytes_in"]) == (54, 3 * len(whole(200, b"hello")))
    assert brokered.facts["verdicts"] == {"allowed": 1}
    assert (brokered.facts["left_out"], brokered.facts["broker"]) == (0, "ended")


async def test_tunnel_carries_on_what_the_program_sent_too_early():
    async with Site() as site, Brokered(*listed(site.port)) as brokered, await brokered.connect() as program:
        await program.send(connect(site.port) + b"GET /early HTTP/1.1\r\n\r\n")
        assert status(await program.head()) == 200
        assert await program.answer() == b"hello"
        assert site.asked[0].target == "/early"


async def test_tunnel_passes_the_end_of_one_way_and_keeps_the_other():
    async def answer_at_the_end(reader, writer):
        asked = await reader.read()
        writer.write(b"got %d" % len(asked))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer_at_the_end, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Brokered(*listed(port)) as brokered:
        said = await brokered.say(connect(port), b"x" * 1000, half_close=True)
        assert said.endswith(b"\r\n\r\ngot 1000")
    server.close()
    assert brokered.contact["ended"] == "closed"


async def test_plain_request_is_rewritten_for_the_host_when_it_passes():
    more = (
        "Connection: x-private\r\nX-Private: 1\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\n"
    )
    more += "Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nAccept: */*\r\n"
    async with Site() as site, Brokered(*listed(site.port)) as brokered, await brokered.connect() as program:
        await program.send(get(site.port, "/a?b=c", more=more))
        assert await program.answer() == b"hello"
        (asked,) = site.asked
    assert (asked.method, asked.target) == ("GET", "/a?b=c")
    assert asked.fields == [("Host", f"allowed.test:{site.port}"), ("Accept", "*/*")]


async def test_plain_requests_share_a_connection_when_they_follow_each_other():
    async with Site() as site, Brokered(*listed(site.port)) as brokered:
        async with await brokered.connect() as program:
            for number in range(3):
                await program.send(get(site.port, f"/{number}"))
                assert await program.answer() == b"hello"
        await brokered.settled()
        assert site.connections == 1
    assert brokered.contact["requests"] == 3
    assert brokered.contact["ended"] == "closed"
    assert "/1" not in str(brokered.facts)


async def test_plain_request_opens_another_connection_when_it_is_for_another_host():
    async with Site() as one, Site(text_answer(b"other")) as other:
        hosts = (*listed(one.port), *listed(other.port))
        async with Brokered(*hosts) as brokered, await brokered.connect() as program:
            for _ in range(2):
                await program.send(get(one.port))
                assert await program.answer() == b"hello"
                await program.send(get(other.port))
                assert await program.answer() == b"other"
        assert (one.connections, other.connections) == (2, 2)
    assert [contact["port"] for contact in brokered.facts["connections"]] == [one.port, other.port] * 2


async def test_plain_request_carries_its_body_when_it_has_one():
    async with Site() as site, Brokered(*listed(site.port)) as brokered, await brokered.connect() as program:
        for body in (b"", b"x" * 300_000):
            head = f"POST http://allowed.test:{site.port}/ HTTP/1.1\r\nHost: allowed.test:{site.port}\r\n"
            await program.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert await program.answer() == b"hello"
        assert [asked.body for asked in site.asked] == [b"", b"x" * 300_000]


async def test_chunked_body_passes_as_it_is_and_its_end_is_found():
    body = b"5\r\nhello\r\n1\r\n\n\r\n0\r\nX-Trailer: 1\r\n\r\n"
    got = []

    async def collect(reader, writer):
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            got.append(await reader.readexactly(len(body)))
            writer.write(whole(200, b"ok"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(collect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Brokered(*listed(port)) as brokered, await brokered.connect() as program:
        head = f"POST http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n"
        await program.send(head.encode() + body)  # whole
        assert await program.answer() == b"ok"
        await program.send(head.encode())
        for at in range(len(body)):  # and byte by byte
            await program.send(body[at : at + 1])
        assert await program.answer() == b"ok"
    server.close()
    assert got == [body, body]


async def test_answer_without_a_length_reaches_the_program_when_the_host_closes():
    async with (
        Site(raw_answer(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")) as site,
        Brokered(*listed(site.port)) as brokered,
    ):
        assert (await brokered.say(get(site.port))).endswith(b"until the end")
    assert brokered.contact["ended"] == "closed"


async def test_answer_still_comes_when_the_program_has_said_its_last_word():
    async with Site() as site, Brokered(*listed(site.port)) as brokered:
        assert (await brokered.say(get(site.port), half_close=True)).endswith(b"hello")


async def test_http_1_0_closes_after_the_answer():
    async with Site(raw_answer(whole(200, b"old"))) as site, Brokered(*listed(site.port)) as brokered:
        said = await brokered.say(f"GET http://allowed.test:{site.port}/ HTTP/1.0\r\n\r\n".encode())
        assert said.endswith(b"old")
        assert ("Connection", "close") in site.asked[0].fields


async def test_tunnel_opens_for_http_1_0_without_host():
    async with Site() as site, Brokered(*listed(site.port)) as brokered, await brokered.connect() as program:
        await program.send(f"CONNECT allowed.test:{site.port} HTTP/1.0\r\n\r\n".encode())
        assert status(await program.head()) == 200


async def test_unreachable_host_is_answered_502_and_recorded():
    async with Brokered("allowed.test:1", "127.0.0.1:1") as brokered:
        assert status(await brokered.say(connect(1))) == 502
    assert brokered.contact["verdict"] == "unreachable"


async def test_lookup_is_shared_by_the_run_when_the_name_is_rebound():
    async with Site() as site, Site(host="127.0.0.2", port=site.port) as canary:
        answers = [["127.0.0.1"], ["127.0.0.2"]]
        hosts = listed(site.port, f"127.0.0.2:{site.port}")
        async with Brokered(*hosts, resolver=lambda _name: answers.pop(0)) as brokered:
            for _ in range(3):
                assert b"hello" in await brokered.say(get(site.port), half_close=True)
        assert (site.connections, canary.connections) == (3, 0)
    assert answers == [["127.0.0.2"]]


async def test_records_are_bounded_and_say_how_many_were_left_out():
    limits = EgressLimits(records_max=3)
    async with Site() as site, Brokered(*listed(site.port), limits=limits) as brokered:
        for _ in range(5):
            await brokered.say(get(site.port), half_close=True)
        for _ in range(6):
            await brokered.say(connect(443, "other.test"))
    facts = brokered.facts
    assert [contact["verdict"] for contact in facts["connections"]] == ["allowed"] * 3 + ["host_refused"] * 3
    assert facts["left_out"] == 5
    assert facts["verdicts"] == {"allowed": 5, "host_refused": 6}
    assert facts["bytes_in"] == 5 * len(whole(200, b"hello"))


async def test_two_brokers_share_nothing_when_they_serve_at_once():
    async with Site() as site, Site(text_answer(b"other")) as other:
        first = Brokered(*listed(site.port), resolver=pinned(allowed_test=["127.0.0.1"]))
        second = Brokered(*listed(other.port), resolver=pinned(allowed_test=["127.0.0.1"]))
        async with first, second:
            said = await asyncio.gather(
                *(one.say(get(port), half_close=True) for one in (first, second) for port in (site.port, other.port))
            )
        assert [status(one) for one in said] == [200, 403, 403, 200]
    assert [one.facts["verdicts"] for one in (first, second)] == [{"allowed": 1, "host_refused": 1}] * 2
