"""The websocket lane against a real server of the `websockets` library: talking, closing, reconnecting."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.websocket import WebSocketLane
from assent.execution.orders import HttpOrder
from assent.execution.outcomes import Ending
from assent.execution.steering import EndInput, Input
from assent.execution.tls import TlsSettings
from assent.primitives.digests import digest
from assent.testing.conformance.lanes import LaneCase, LaneSuite
from assent.testing.steerings import HeldSteering
from tests.execution.authorities import Authority
from tests.execution.sites import RealClock
from tests.execution.websocket_sites import MIB, talk, talked

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def site(handler, **more):
    async with serve(handler, "127.0.0.1", 0, **more) as server:
        yield server.sockets[0].getsockname()[1]


async def echo(peer: ServerConnection) -> None:
    async for message in peer:
        await peer.send(message)


async def test_messages_are_sent_and_answers_told_when_the_server_echoes():
    async with site(echo) as port:
        outcome, events = await talked(talk(port, say=("one", "zw\u00f6lf", b"\0\xff", ""), messages_max=4))
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.SUCCEEDED, "ok", "")
    assert outcome.value["messages"] == ["one", "zw\u00f6lf", {"base64": "AP8="}, ""]
    assert [event.stream for event in events] == ["message", "message", "binary", "message"]
    assert (outcome.value["sent"], outcome.value["received"], outcome.value["ended_by"]) == (4, 4, "messages_max")
    assert outcome.value["close"] == {"ours": {"code": 1000, "reason": ""}, "theirs": {"code": 1000, "reason": ""}}
    facts = outcome.evidence.facts
    assert (facts["hops"][0]["status"], facts["hops"][0]["verdict"], facts["hops"][0]["address"]) == (
        101, "allowed", "127.0.0.1",
    )  # fmt: skip
    assert facts["bytes_in"] > 20
    assert facts["bytes_out"] > 20
    assert set(outcome.evidence.digests) == {"sent", "received"}


async def test_handshake_carries_headers_and_negotiates_a_subprotocol():
    seen: list[tuple[str, dict[str, str]]] = []

    async def handler(peer: ServerConnection) -> None:
        request = peer.request
        assert request is not None
        seen.append((request.path, dict(request.headers.raw_items())))
        await peer.send("hello")

    async with site(handler, subprotocols=["v2", "v1"]) as port:
        what = talk(port, headers=(("X-Api-Key", "s3cret"), ("Origin", "http://a.test")), subprotocols=("v1", "v2"))
        outcome, _ = await talked(what)
    (path, headers) = seen[0]
    assert path == "/chat?x=y"
    assert (headers["X-Api-Key"], headers["Origin"]) == ("s3cret", "http://a.test")
    assert headers["User-Agent"].startswith("assent/")
    assert "Sec-WebSocket-Extensions" not in headers
    assert outcome.value["subprotocol"] in {"v1", "v2"}
    assert (outcome.code, outcome.value["ended_by"], outcome.value["messages"]) == ("ok", "", ["hello"])
    assert "s3cret" not in msgspec.json.encode(outcome).decode()


async def test_asker_talks_until_the_end_of_the_input_when_it_stays_open():
    async with site(echo) as port:
        steering = HeldSteering(Input(data=b"one"), Input(data=b"\xff"))
        work = asyncio.ensure_future(talked(talk(port, stays_open=True), steering))
        while len(steering.heard) < 2:
            await asyncio.wait_for(steering.piece.wait(), 5)
            steering.piece.clear()
        steering.say(EndInput())
        outcome, events = await work
    assert [(event.stream, event.data) for event in events] == [("message", b"one"), ("binary", b"\xff")]
    assert (outcome.code, outcome.value["ended_by"], outcome.value["sent"]) == ("ok", "asker", 2)


async def test_asker_may_not_add_to_what_was_allowed_when_it_does_not_stay_open():
    async with site(echo) as port:
        steering = HeldSteering(Input(data=b"more"), EndInput())
        outcome, events = await talked(talk(port, say=("one",)), steering)
    assert (outcome.value["sent"], outcome.evidence.facts["unheeded"]) == (1, 1)
    assert [event.data for event in events] in ([b"one"], [])


@pytest.mark.parametrize(
    ("code", "said", "ending", "word"),
    [
        (1000, 0, Ending.SUCCEEDED, "ok"), (1001, 0, Ending.SUCCEEDED, "ok"), (1000, 1, Ending.SUCCEEDED, "ok"),
        (1008, 0, Ending.FAILED, "closed"), (1011, 1, Ending.FAILED, "closed"), (4321, 1, Ending.FAILED, "closed"),
    ],
)  # fmt: skip
async def test_end_is_the_servers_word_when_it_closes(code, said, ending, word):
    async def handler(peer: ServerConnection) -> None:
        for _ in range(said):
            await peer.recv()
        await peer.close(code, "because")

    async with site(handler) as port:
        outcome, _ = await talked(talk(port, say=("x",) * said))
    assert (outcome.ending, outcome.code) == (ending, word)
    assert outcome.value["close"]["theirs"] == {"code": code, "reason": "because"}
    assert outcome.evidence.facts["close_theirs"] == code


async def test_end_is_unknown_when_the_server_closes_well_before_all_was_said():
    async def handler(peer: ServerConnection) -> None:
        await peer.recv()
        await peer.close()

    async with site(handler, max_size=64 * MIB) as port:
        what = talk(port, say=("x", "y" * (32 * MIB), "z"), message_bytes_max=MIB)
        outcome, _ = await talked(what)
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "closed")


async def test_listening_ends_well_after_its_time():
    async def handler(peer: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await peer.send("tick")
                await asyncio.sleep(0.01)

    async with site(handler) as port:
        outcome, _ = await talked(talk(port, listen_ms=150))
    assert (outcome.ending, outcome.value["ended_by"]) == (Ending.SUCCEEDED, "listen_ms")
    assert outcome.value["received"] > 1
    assert outcome.value["close"]["theirs"]["code"] == 1000


async def test_value_keeps_the_last_messages_and_an_artefact_all_of_them(tmp_path):
    folder = ArtefactFolder(tmp_path / "artefacts", entropy=os.urandom)

    async def handler(peer: ServerConnection) -> None:
        for number in range(500):
            await peer.send(f"{number} " + "x" * 4_000)

    async with site(handler) as port:
        outcome, events = await talked(talk(port, output_bytes_max=4 * MIB), artefacts=folder)
    kept = [int(message.split()[0]) for message in outcome.value["messages"]]
    assert kept == list(range(500 - len(kept), 500))
    assert len(events) == outcome.value["received"] == 500
    name = outcome.value["transcript"]["artefact"]
    assert name == outcome.evidence.digests["received"]
    assert [msgspec.json.decode(line) for line in folder.path(name).read_bytes().splitlines()] == [
        event.data.decode() for event in events
    ]


async def test_large_message_is_handed_up_in_parts():
    async with site(echo) as port:
        outcome, events = await talked(talk(port, say=("x" * 300_000,), messages_max=1))
    assert [event.stream for event in events] == ["part"] * 4 + ["message"]
    assert b"".join(event.data for event in events) == b"x" * 300_000
    assert outcome.value["transcript"]


async def test_connection_is_made_anew_while_nothing_was_said():
    times = [0]

    async def handler(peer: ServerConnection) -> None:
        times[0] += 1
        await peer.send(str(times[0]))
        if times[0] < 3:
            peer.transport.abort()
        else:
            await peer.close()

    async with site(handler) as port:
        outcome, _ = await talked(talk(port, reconnects_max=5))
    assert (outcome.ending, outcome.code, times[0]) == (Ending.SUCCEEDED, "ok", 3)
    assert [one["code"] for one in outcome.evidence.facts["connections"]] == [
        "connection_lost",
        "connection_lost",
        "ok",
    ]
    assert [hop["attempt"] for hop in outcome.evidence.facts["hops"]] == [1, 2, 3]


@pytest.mark.parametrize("code", [1012, 1013])
async def test_connection_is_made_anew_when_the_server_closes_with_later(code):
    times = [0]

    async def handler(peer: ServerConnection) -> None:
        times[0] += 1
        await peer.close(code if times[0] == 1 else 1000)

    async with site(handler) as port:
        outcome, _ = await talked(talk(port, reconnects_max=1))
    assert (outcome.code, times[0]) == ("ok", 2)


async def test_nothing_is_said_twice_when_the_connection_is_lost_after_a_message():
    times = [0]

    async def handler(peer: ServerConnection) -> None:
        times[0] += 1
        await peer.recv()
        peer.transport.abort()

    async with site(handler) as port:
        outcome, _ = await talked(talk(port, say=("pay",), reconnects_max=5))
    assert (outcome.ending, outcome.code, times[0]) == (Ending.UNKNOWN, "connection_lost", 1)


async def test_pings_keep_going_and_are_answered_both_ways():
    async def handler(peer: ServerConnection) -> None:
        for _ in range(3):
            await (await peer.ping())
        await asyncio.sleep(0.1)
        await peer.send("done")

    async with site(handler) as port:
        outcome, _ = await talked(talk(port, ping_ms=10, pong_ms=2_000))
    assert outcome.value["messages"] == ["done"]


async def test_server_waits_while_the_asker_takes_nothing():
    sent = [0]

    async def handler(peer: ServerConnection) -> None:
        for _ in range(512):
            await peer.send(b"x" * 65_536)
            sent[0] += 65_536

    async with site(handler) as port:
        steering = HeldSteering(room=False)
        what = talk(port, output_bytes_max=64 * MIB, wall_ms=60_000, ping_ms=50, pong_ms=50, idle_ms=200)
        work = asyncio.ensure_future(talked(what, steering))
        before = -1
        while before != sent[0]:
            before = sent[0]
            await asyncio.sleep(0.4)  # longer than the idle and the pong time: both stand still meanwhile
        assert 0 < sent[0] < 24 * MIB
        assert not steering.heard
        steering.give_room()
        outcome, _ = await work
    assert (outcome.code, len(steering.output)) == ("ok", 32 * MIB)


async def test_talk_is_held_over_tls_with_a_pinned_certificate(tmp_path):
    authority = Authority()
    server = authority.server("127.0.0.1", folder=tmp_path)
    tls = TlsSettings(authorities_file=str(authority.file(tmp_path)))
    async with site(echo, ssl=server) as port:
        more = {"url": f"wss://127.0.0.1:{port}/", "say": ("x",), "messages_max": 1}
        good, _ = await talked(talk(port, tls_peer_sha256=digest(authority.last_der), **more), tls=tls)
        wrong, _ = await talked(talk(port, tls_peer_sha256=digest(b"x"), **more), tls=tls)
        stranger, _ = await talked(talk(port, **more))
    assert (good.code, wrong.code, stranger.code) == ("ok", "unreachable", "unreachable")
    assert wrong.ending is stranger.ending is Ending.FAILED


async def test_cancelling_says_what_may_have_been_acted_upon():
    arrived = asyncio.Event()

    async def handler(peer: ServerConnection) -> None:
        await peer.send("hello")
        async for _ in peer:
            arrived.set()

    async with site(handler) as port:
        saying = asyncio.ensure_future(talked(talk(port, say=("x",))))
        await arrived.wait()
        saying.cancel()
        outcome, _ = await saying
        assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "cancelled")
        steering = HeldSteering()
        listening = asyncio.ensure_future(talked(talk(port), steering))
        await steering.piece.wait()
        listening.cancel()
        await asyncio.wait([listening])
        assert listening.cancelled()


class TestWebSocketLane(LaneSuite):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        served: list[str] = []
        alive: set[ServerConnection] = set()

        async def handler(peer: ServerConnection) -> None:
            assert peer.request is not None
            served.append(peer.request.path)
            alive.add(peer)
            try:
                if peer.request.path == "/echo":
                    await echo(peer)
                    return
                count = {"/flood": 4_096, "/endless": 10**9}.get(peer.request.path, 3)
                with contextlib.suppress(ConnectionClosed):
                    for _ in range(count):
                        await peer.send(b"x" * 1_024)
                        if peer.request.path == "/endless":
                            await asyncio.sleep(0.01)
            finally:
                alive.discard(peer)

        async with site(handler) as port:
            here = f"ws://127.0.0.1:{port}"
            more = {"wall_ms": 60_000, "output_bytes_max": 8 * MIB}
            yield LaneCase(
                lane=WebSocketLane(clock=RealClock()),
                good=talk(port, url=f"{here}/", **more),
                foreign=HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=()),
                malformed=talk(port, messages_max=0),
                endless=talk(port, url=f"{here}/endless", **more),
                flood=talk(port, url=f"{here}/flood", **more),
                flood_bytes=4 * MIB,
                echo=talk(port, url=f"{here}/echo", stays_open=True, **more),
                deeds=lambda: len(served),
                running=lambda: 0,
                unmet=None,
            )
