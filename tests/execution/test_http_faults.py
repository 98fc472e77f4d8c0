"""The http lane against servers that lie about where an answer ends, cut it anywhere, or drip it byte by byte."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from assent.execution.outcomes import Ending
from tests.execution.sites import Asked, Site, carried, http_lane, once, order, raw_answer, whole

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
], ids=["length", "chunks", "refusal"])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_exchange_cut_at_every_byte_never_claims_more_than_is_known(answer, method):
    for at in range(len(answer) + 1):
        async with Site(raw_answer(answer[:at])) as site:
            here = f"127.0.0.1:{site.port}"
            outcome = await once(order(f"http://{here}/", here, method=method))
        refused = b"404" in answer
        head_is_there = at >= answer.index(b"\r\n\r\n") + 4
        if at == len(answer):
            expected = Ending.FAILED if refused else Ending.SUCCEEDED
        elif method == "GET" or (refused and head_is_there):
            expected = Ending.FAILED
        else:
            expected = Ending.UNKNOWN
        assert outcome.ending is expected, (at, outcome)
        assert ("body" in outcome.value) is (at == len(answer)), at


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"FFFFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5 \x00\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
        CHUNKED + b"6\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\nnot a trailer\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n Content-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"ICY 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
@pytest.mark.parametrize(("method", "ending"), [("GET", Ending.FAILED), ("POST", Ending.UNKNOWN)])
async def test_answer_is_not_taken_when_its_end_is_said_in_two_ways_or_wrongly(answer, method, ending):
    async with Site(raw_answer(answer)) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, method=method))
    assert outcome.ending is ending
    assert outcome.code in {"cut_short", "no_answer"}
    assert "body" not in outcome.value


async def test_second_answer_on_a_connection_is_given_to_nobody_when_it_came_unasked():
    smuggled = whole(200, b"true") + whole(200, b"smuggled")

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(smuggled if len(site.asked) == 1 else whole(200, b"asked for"))

    async with Site(answer) as site, http_lane() as lane:
        here = f"127.0.0.1:{site.port}"
        first, _ = await carried(lane, order(f"http://{here}/", here))
        second, _ = await carried(lane, order(f"http://{here}/", here))
        assert site.connections == 2
    assert (first.value["body"], second.value["body"]) == ("true", "asked for")


async def test_wall_limit_ends_a_head_that_drips():
    async def drip(_: Asked, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Drip: " + b"d" * 100_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.005)

    async with Site(drip) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, method="POST", wall_ms=120))
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "wall_limit")


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "gzip, gzip", "gzip, deflate"])
async def test_bomb_in_a_coding_that_was_not_asked_for_stays_packed(coding):
    bomb = zlib.compress(bytes(32 * 2**20), 9)
    async with Site(raw_answer(whole(200, bomb, f"Content-Encoding: {coding}"))) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, output_bytes_max=100_000))
    assert outcome.code == "ok"
    assert outcome.evidence.facts["bytes_in"] < 100_000


async def test_name_is_pinned_for_one_try_when_the_name_server_changes_its_mind_between_hops():
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(200, b"end") if asked.target == "/end" else whole(302, b"", "Location: /end"))

    asked: list[str] = []

    def resolver(name: str) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async with Site(answer) as site, Site(host="127.0.0.2", port=site.port) as canary:
        hosts = (f"allowed.test:{site.port}", f"127.0.0.1:{site.port}", f"127.0.0.2:{site.port}")
        outcome = await once(order(f"http://allowed.test:{site.port}/", *hosts), resolver=resolver)
        assert (canary.connections, len(site.asked), asked) == (0, 2, ["allowed.test"])
    assert outcome.code == "ok"


async def test_two_orders_end_apart_when_one_of_them_is_cancelled_in_its_body():
    async def half(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        if asked.target == "/whole":
            writer.write(b"whole.")
            return
        await writer.drain()
        await site.over.wait()

    async with Site(half) as site, http_lane() as lane:
        here = f"127.0.0.1:{site.port}"
        stuck = asyncio.ensure_future(carried(lane, order(f"http://{here}/half", here)))
        await site.arrived.wait()
        outcome, _ = await carried(lane, order(f"http://{here}/whole", here))
        stuck.cancel()
        await asyncio.wait([stuck])
    assert (outcome.value["body"], stuck.cancelled()) == ("halfwhole.", True)
