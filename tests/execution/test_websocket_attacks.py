"""The websocket lane against servers that break the rules, fall silent, flood, or lie about who they are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from assent.execution.adapters.websocket.lines import FRAGMENTS_MAX
from assent.execution.outcomes import Ending, Outcome
from assent.execution.steering import EndInput
from assent.execution.urls import parse_websocket_url
from assent.primitives.errors import Malformed
from assent.testing.steerings import HeldSteering
from tests.execution.sites import Site, raw_answer, whole
from tests.execution.websocket_sites import (
    BINARY,
    CLOSE,
    MIB,
    PING,
    PONG,
    TEXT,
    Peer,
    RawSite,
    accept_of,
    close_frame,
    frame,
    switching,
    talk,
    talked,
)

pytestmark = pytest.mark.anyio
CONT = 0


async def hang_up(peer: Peer) -> None:
    """End with the connection."""


def saying(*frames: bytes, then_close: bool = False, wait: bool = True):
    """Agree, send these, and see what the client closes with."""

    async def play(peer: Peer) -> None:
        await peer.agree()
        for one in frames:
            await peer.write(one)
        if then_close:
            await peer.write(close_frame(1000))
        while wait:
            code, _ = await peer.read()
            if code == CLOSE:
                return

    return play


async def closing_code(frames: list[bytes], **more) -> tuple[Outcome, int]:
    """The outcome, and the code that the server was closed with."""
    codes: list[int] = []

    async def play(peer: Peer) -> None:
        await peer.agree()
        if more.get("say"):
            await peer.read()
        for one in frames:
            await peer.write(one)
        while True:
            kind, data = await peer.read()
            if kind == CLOSE:
                codes.append(int.from_bytes(data[:2], "big"))
                return

    async with RawSite(play) as site:
        outcome, _ = await talked(talk(site.port, **more))
    return outcome, codes[0] if codes else 0


VIOLATIONS = {
    "masked": (frame(TEXT, b"hi", mask=b"abcd"), 1002),
    "reserved-bit": (frame(TEXT, b"hi", bits=0x40), 1002),
    "unknown-opcode": (frame(3, b"hi"), 1002),
    "fragmented-ping": (frame(PING, b"hi", fin=False), 1002),
    "long-ping": (frame(PING, b"x" * 126), 1002),
    "continuation-of-nothing": (frame(CONT, b"hi"), 1002),
    "text-within-a-message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "close-within-a-message": (frame(TEXT, b"a", fin=False) + close_frame(1000), 1002),
    "close-with-half-a-code": (frame(CLOSE, b"\x03"), 1002),
    "close-with-a-forbidden-code": (close_frame(1005), 1002),
    "close-reason-no-utf8": (close_frame(1000, b"\xff"), 1007),
    "text-no-utf8": (frame(TEXT, b"\xff"), 1007),
    "text-cut-in-a-character": (frame(TEXT, b"\xe2\x82"), 1007),
    "fragments-no-utf8": (frame(TEXT, b"\xe2\x82", fin=False) + frame(CONT, b"x"), 1007),
    "surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
}


@pytest.mark.parametrize("name", VIOLATIONS)
@pytest.mark.parametrize("said", [0, 1])
async def test_connection_is_failed_when_the_server_breaks_the_protocol(name, said):
    wrong, code = VIOLATIONS[name]
    outcome, closed_with = await closing_code([wrong], say=("x",) * said)
    assert outcome.code in {"protocol_broken", "connection_lost", "closed"}
    assert outcome.ending is (Ending.UNKNOWN if said else Ending.FAILED)
    assert closed_with == code


async def test_good_fragments_become_one_message_with_pings_between_them():
    frames = [
        frame(TEXT, b"\xe2", fin=False), frame(PING, b"p"), frame(CONT, b"\x82", fin=False), frame(PONG, b"unasked"),
        frame(CONT, b"", fin=False), frame(CONT, b"\xac"), frame(BINARY, b"", fin=False), frame(CONT, b"\xff"),
    ]  # fmt: skip
    async with RawSite(saying(*frames, then_close=True)) as site:
        outcome, events = await talked(talk(site.port))
    assert (outcome.code, [(event.stream, event.data) for event in events]) == (
        "ok", [("message", "\u20ac".encode()), ("binary", b"\xff")],
    )  # fmt: skip


@pytest.mark.parametrize(
    "frames",
    [[frame(TEXT, b"x" * 1_001)], [frame(BINARY, b"x" * 600, fin=False), frame(CONT, b"x" * 600)],
     [b"\x82\x7f" + (2**62).to_bytes(8, "big")]],
    ids=["one-frame", "fragments", "announced-only"],
)  # fmt: skip
async def test_message_is_too_big_when_it_is_over_the_bound(frames):
    outcome, closed_with = await closing_code(frames, message_bytes_max=1_000)
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (
        Ending.FAILED, "message_limit", "message_bytes_max",
    )  # fmt: skip
    assert closed_with == 1009


async def test_message_of_exactly_the_bound_is_whole():
    async with RawSite(saying(frame(TEXT, b"x" * 1_000), then_close=True)) as site:
        outcome, _ = await talked(talk(site.port, message_bytes_max=1_000))
    assert (outcome.code, outcome.value["received"]) == ("ok", 1)


async def test_fragments_end_at_their_bound_when_they_never_do():
    frames = [frame(TEXT, b"", fin=False), frame(CONT, b"", fin=False) * (FRAGMENTS_MAX + 1)]
    outcome, closed_with = await closing_code(frames)
    assert (outcome.code, closed_with) == ("message_limit", 1008)


@pytest.mark.parametrize("piece", [frame(TEXT, b"x" * 1_000), frame(PING, b"p" * 100), frame(PONG, b"p" * 100)])
async def test_flood_ends_at_the_limit_whatever_it_is_made_of(piece):
    async def drain(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            while await peer.reader.read(65_536):
                pass

    async def flood(peer: Peer) -> None:
        await peer.agree()
        async with asyncio.TaskGroup() as group:
            group.create_task(drain(peer))
            with contextlib.suppress(ConnectionError):
                while not peer.reader.at_eof():
                    await peer.write(piece * 100)

    async with RawSite(flood) as site:
        outcome, _ = await talked(talk(site.port, output_bytes_max=50_000))
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (
        Ending.FAILED, "output_limit", "output_bytes_max",
    )  # fmt: skip


@pytest.mark.slow
async def test_ping_flood_that_is_never_read_ends_by_the_idle_limit():
    async def play(peer: Peer) -> None:
        await peer.agree()
        while not peer.writer.is_closing():
            await peer.write(frame(PING, b"p" * 125) * 100)  # and the pongs are left lying

    async with RawSite(play) as site:
        outcome, _ = await talked(talk(site.port, output_bytes_max=256 * MIB, idle_ms=500, wall_ms=30_000))
    assert outcome.code in {"idle_limit", "connection_lost"}


HANDSHAKES = {
    "wrong-accept": lambda key: switching(key).replace(accept_of(key).encode(), accept_of("other").encode()),
    "no-accept": lambda key: switching(key).replace(b"Sec-WebSocket-Accept", b"X-Accept"),
    "two-accepts": lambda key: switching(key, f"Sec-WebSocket-Accept: {accept_of(key)}"),
    "no-upgrade": lambda key: switching(key).replace(b"Upgrade: websocket", b"X-U: websocket"),
    "other-upgrade": lambda key: switching(key).replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    "no-connection": lambda key: switching(key).replace(b"Connection: Upgrade", b"Connection: close"),
    "extension": lambda key: switching(key, "Sec-WebSocket-Extensions: permessage-deflate"),
    "subprotocol": lambda key: switching(key, "Sec-WebSocket-Protocol: unasked"),
    "not-http": lambda key: b"SSH-2.0-OpenSSH\r\n\r\n",
    "http-1.0": lambda key: switching(key).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "nothing": lambda key: b"",
    "half": lambda key: switching(key)[:40],
}


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_nothing_is_said_when_the_handshake_is_wrong(name):
    heard: list[bytes] = []

    async def play(peer: Peer) -> None:
        await peer.write(HANDSHAKES[name](peer.key))
        if name in {"nothing", "half"}:
            return
        heard.append(await peer.reader.read())

    async with RawSite(play) as site:
        outcome, _ = await talked(talk(site.port, say=("secret",)))
    assert outcome.ending is Ending.FAILED
    assert outcome.code == ("connection_lost" if name in {"nothing", "half"} else "handshake_refused")
    assert heard in ([], [b""])
    assert outcome.value["sent"] == 0


@pytest.mark.parametrize("status", [200, 302, 401, 404, 503])
async def test_end_is_the_status_when_the_server_answers_otherwise(status):
    async with Site(raw_answer(whole(status, b"no", "Location: http://127.0.0.1:1/"))) as site:
        outcome, _ = await talked(talk(site.port, say=("x",)))
        assert len(site.asked) == 1
    assert (outcome.ending, outcome.code, outcome.value["sent"]) == (Ending.FAILED, "http_status", 0)
    assert outcome.evidence.facts["hops"][0]["status"] == status
    assert str(status) in outcome.message


@pytest.mark.parametrize("piece", [b"X-Flood: " + b"f" * 1_000 + b"\r\n", b"f" * 10_000])
async def test_endless_head_ends_at_a_limit(piece):
    async def play(peer: Peer) -> None:
        await peer.write(b"HTTP/1.1 101 Go\r\n")
        while not peer.writer.is_closing():
            await peer.write(piece)

    async with RawSite(play) as site:
        outcome, _ = await talked(talk(site.port, say=("x",), output_bytes_max=1_000))
    assert (outcome.ending, outcome.code) in {
        (Ending.FAILED, "handshake_refused"), (Ending.FAILED, "output_limit"), (Ending.FAILED, "connection_lost"),
    }  # fmt: skip


@pytest.mark.slow
async def test_server_that_falls_silent_is_idle_and_one_that_never_pongs_is_missed():
    async def silent(peer: Peer) -> None:
        await peer.agree()
        await site.over.wait()

    async def never_agrees(peer: Peer) -> None:
        await mute.over.wait()

    async with RawSite(silent) as site:
        idle, _ = await talked(talk(site.port, idle_ms=60))
        missed, _ = await talked(talk(site.port, ping_ms=20, pong_ms=40))
        spoken, _ = await talked(talk(site.port, idle_ms=500, say=("x",)))
        wall, _ = await talked(talk(site.port, wall_ms=60))
    async with RawSite(never_agrees) as mute:
        handshake, _ = await talked(talk(mute.port, idle_ms=60, say=("x",)))
    told = [(one.ending, one.code, one.evidence.limit) for one in (idle, missed, spoken, wall, handshake)]
    assert told == [
        (Ending.FAILED, "idle_limit", "idle_ms"), (Ending.FAILED, "pong_missing", "pong_ms"),
        (Ending.UNKNOWN, "idle_limit", "idle_ms"), (Ending.FAILED, "wall_limit", "wall_ms"),
        (Ending.FAILED, "idle_limit", "idle_ms"),
    ]  # fmt: skip


@pytest.mark.parametrize(("said", "ending", "code"), [
    (1, Ending.UNKNOWN, "close_unanswered"), (0, Ending.SUCCEEDED, "ok"),
])  # fmt: skip
async def test_close_is_told_when_the_server_never_answers_it(said, ending, code):
    heard = asyncio.Event()

    async def deaf(peer: Peer) -> None:
        await peer.agree()
        if said:
            await peer.read()
        heard.set()
        await site.over.wait()

    async with RawSite(deaf) as site:
        steering = HeldSteering()
        work = asyncio.ensure_future(talked(talk(site.port, say=("x",) * said), steering))
        await heard.wait()
        steering.say(EndInput())
        outcome, _ = await work
    assert (outcome.ending, outcome.code) == (ending, code)
    assert outcome.evidence.facts["close_ours"] == 1000
    assert outcome.evidence.facts["close_theirs"] == 0


async def test_end_is_good_when_what_was_wanted_came_although_the_close_is_not_answered():
    async def deaf(peer: Peer) -> None:
        await peer.agree(also=frame(TEXT, b"answer"))
        await site.over.wait()

    async with RawSite(deaf) as site:
        outcome, _ = await talked(talk(site.port, say=("x",), messages_max=1))
    assert (outcome.ending, outcome.value["messages"]) == (Ending.SUCCEEDED, ["answer"])


@pytest.mark.slow
async def test_short_exchange_cut_at_every_byte_never_claims_more_than_is_known():
    answer = frame(TEXT, b"done") + close_frame(1000)
    for said, at in itertools.product((0, 1), range(len(answer) + 1)):

        async def play(peer: Peer, said=said, at=at) -> None:
            await peer.agree()
            if said:
                await peer.read()
            await peer.write(answer[:at])

        async with RawSite(play) as site:
            outcome, events = await talked(talk(site.port, say=("x",) * said))
        assert len(events) == (at >= 6)
        lost = Ending.UNKNOWN if said else Ending.FAILED
        assert outcome.ending is (Ending.SUCCEEDED if at == len(answer) else lost), (said, at)


@pytest.mark.slow
async def test_handshake_cut_at_every_byte_is_failed_and_nothing_was_said():
    length = len(switching("x" * 24))
    for at in range(length):

        async def play(peer: Peer, at=at) -> None:
            await peer.write(switching(peer.key)[:at])

        async with RawSite(play) as site:
            outcome, _ = await talked(talk(site.port, say=("x",)))
        assert (outcome.ending, outcome.value["sent"]) == (Ending.FAILED, 0), at


async def test_each_connection_is_checked_anew_when_the_name_server_changes_its_mind():
    async with RawSite(lambda peer: peer.agree()) as site, Site(host="127.0.0.2", port=site.port) as canary:
        answers = iter([["127.0.0.1"], ["127.0.0.2"]])
        what = talk(site.port, f"allowed.test:{site.port}", url=f"ws://allowed.test:{site.port}/", reconnects_max=3)
        outcome, _ = await talked(what, resolver=lambda _: next(answers))
        assert canary.connections == 0
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "address_refused")
    assert [hop["verdict"] for hop in outcome.evidence.facts["hops"]] == ["allowed", "address_refused"]


@pytest.mark.parametrize(
    "more",
    [
        {"headers": (("Sec-WebSocket-Key", "x"),)}, {"headers": (("Upgrade", "x"),)}, {"headers": (("X-A", "a\r\nb"),)},
        {"subprotocols": ("a b",)}, {"subprotocols": ("a", "a")}, {"subprotocols": ("",)}, {"messages_max": 0},
        {"message_bytes_max": 2**40}, {"ping_ms": 0}, {"reconnects_max": -1}, {"url": "http://127.0.0.1/"},
        {"url": "ws://user@127.0.0.1/"}, {"url": "ws://169.254.169.254/"}, {"hosts": ("*.org:443",)},
        {"tls": "unknown"},
    ],
)  # fmt: skip
async def test_nothing_is_sent_when_the_order_is_malformed(more):
    async with RawSite(hang_up) as site:
        outcome, _ = await talked(talk(site.port, **more))
        assert site.heads == []
    assert outcome.ending is Ending.FAILED
    assert outcome.code not in {"connection_lost", "unreachable"}


async def test_order_is_malformed_when_a_text_is_not_text():
    from assent.execution.orders import Message

    async with RawSite(hang_up) as site:
        outcome, _ = await talked(talk(site.port, messages=(Message(data=b"\xff"),)))
        assert (outcome.code, site.heads) == ("order_malformed", [])


@pytest.mark.parametrize("text", ["http://a.test/", "wss:a.test", "ws:///x", "ws://a.test\\b/", "WSX://a.test/", ""])
def test_url_is_refused_when_it_is_no_websocket_url(text):
    with pytest.raises(Malformed):
        parse_websocket_url(text)


def test_url_of_a_websocket_is_read_as_that_of_its_handshake():
    assert parse_websocket_url("WSS://A.test/x?y").text == "https://a.test/x?y"
    assert parse_websocket_url("ws://[::1]:8080").origin == ("http", "::1", 8080)
