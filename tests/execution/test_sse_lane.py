"""The sse lane against real servers: the life cycle of a stream, and servers that mean ill."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.sse import SseLane
from assent.execution.adapters.wires.plans import RoadPlan
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import HttpOrder, Limits, SseOrder
from assent.execution.outcomes import Ending, Outcome, StreamEvent
from assent.execution.retries import Backoff
from assent.execution.steering import EndInput, Input
from assent.execution.tls import TlsSettings
from assent.primitives.digests import digest
from assent.testing.conformance.lanes import LaneCase, LaneSuite
from assent.testing.steerings import HeldSteering
from tests.execution.authorities import Authority
from tests.execution.sites import Asked, RealClock, Site, endless_answer, pinned, raw_answer, whole

pytestmark = pytest.mark.anyio

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"
SOON = Backoff(first_ms=1, most_ms=4)
MIB = 1_048_576


def listen(port: int, *hosts: str, path: str = "/events", **more) -> SseOrder:
    limits = Limits(wall_ms=more.pop("wall_ms", 5_000), output_bytes_max=more.pop("output_bytes_max", MIB))
    here = f"127.0.0.1:{port}"
    url = more.pop("url", f"http://{here}{path}")
    return SseOrder(**{"url": url, "hosts": (here, *hosts), "reconnects_max": 0, "limits": limits} | more)


async def heard(what: SseOrder, steering: HeldSteering | None = None, **options) -> tuple[Outcome, list[StreamEvent]]:
    roads = RoadPlan(**{name: options.pop(name) for name in ("resolver", "tls", "proxy") if name in options})
    lane = SseLane(clock=RealClock(), roads=roads, backoff=SOON, **options)
    events: list[StreamEvent] = []

    def hear(event: StreamEvent) -> None:
        events.append(event)
        if steering is not None:
            steering.hear(event)

    outcome = await lane.carry(what, floor=ConfinementClass.NAMESPACED, on_event=hear, steering=steering)
    await lane.close()
    return outcome, events


def streams(*bodies: bytes):
    """One of these for each connection in turn, and then 204."""
    left = [*bodies]

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + left.pop(0) if left else whole(204))
        await writer.drain()
        writer.close()

    return answer


async def test_events_are_handed_up_one_by_one_and_told_at_the_end():
    body = b": hi\n\nevent: add\nid: 1\ndata: a\n\ndata: b\ndata: c\n\n"
    async with Site(streams(body)) as site:
        outcome, events = await heard(listen(site.port, path="/x?y=z", headers=(("X-Api-Key", "s3cret"),)))
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.SUCCEEDED, "ok", "")
    assert [json.loads(event.data) for event in events] == outcome.value["events"] == [
        {"event": "add", "id": "1", "data": "a"}, {"event": "message", "id": "1", "data": "b\nc"},
    ]  # fmt: skip
    assert {event.stream for event in events} == {"event"}
    assert (outcome.value["received"], outcome.value["comments"], outcome.value["ended_by"]) == (2, 1, "server")
    assert outcome.value["last_event_id"] == "1"
    asked = site.asked[0]
    assert (asked.method, asked.target, asked.headers["accept"]) == ("GET", "/x?y=z", "text/event-stream")
    assert asked.headers["cache-control"] == "no-store"
    assert "last-event-id" not in asked.headers
    assert outcome.evidence.digests["events"] == digest(b"".join(event.data + b"\n" for event in events))
    assert "s3cret" not in msgspec.json.encode(outcome).decode()


async def test_lane_asks_again_with_the_last_event_id_until_the_server_says_enough():
    async with Site(streams(b"retry: 1\nid: 7\ndata: a\n\n", b"data: b\n\nid: \xe2\x82\xac\ndata: c\n\n")) as site:
        outcome, _ = await heard(listen(site.port, reconnects_max=5, last_event_id="start"))
    assert [asked.headers.get("last-event-id") for asked in site.asked] == ["start", "7", "\xe2\x82\xac"]
    assert [event["id"] for event in outcome.value["events"]] == ["7", "7", "\u20ac"]
    assert (outcome.code, outcome.value["ended_by"], outcome.value["connections"]) == ("ok", "no_content", 3)
    assert [hop["attempt"] for hop in outcome.evidence.facts["hops"]] == [1, 2, 3]
    assert [one["events"] for one in outcome.evidence.facts["connections"]] == [1, 3, 3]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_lane_asks_again_when_the_server_says_later(status):
    answers = [whole(status, b"", "Retry-After: 0"), STREAM + b"data: a\n\n"]

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    async with Site(answer) as site:
        outcome, _ = await heard(listen(site.port, reconnects_max=1))
    assert (outcome.code, outcome.value["received"], outcome.evidence.limit) == ("ok", 1, "reconnects_max")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (whole(404, b"x"), "http_status"), (whole(500, b"x"), "http_status"), (whole(301), "http_status"),
        (whole(200, b"data: a\n\n", "Content-Type: text/plain"), "not_events"),
        (whole(200, b"data: a\n\n"), "not_events"),
        (whole(200, b"data: a\n\n", "Content-Type: text/event-streams"), "not_events"),
    ],
)  # fmt: skip
async def test_listening_ends_when_the_answer_is_no_stream(answer, code):
    async with Site(raw_answer(answer)) as site:
        outcome, events = await heard(listen(site.port, reconnects_max=3))
        assert len(site.asked) == 1
    assert (outcome.ending, outcome.code, events) == (Ending.FAILED, code, [])


async def test_listening_ends_after_as_many_events_as_were_wanted():
    async with Site(endless_answer(STREAM, b"data: x\n\n" * 10)) as site:
        outcome, events = await heard(listen(site.port, events_max=25))
    assert (outcome.code, outcome.value["received"], len(events)) == ("ok", 25, 25)
    assert outcome.value["ended_by"] == "events_max"


async def test_listening_ends_well_after_its_time_and_when_the_asker_has_enough():
    async with Site(endless_answer(STREAM, b": alive\n")) as site:
        timed, _ = await heard(listen(site.port, listen_ms=100))
        asked, _ = await heard(listen(site.port), HeldSteering(Input(data=b"ignored"), EndInput()))
    assert (timed.code, timed.value["ended_by"], asked.code, asked.value["ended_by"]) == (
        "ok", "listen_ms", "ok", "asker",
    )  # fmt: skip


@pytest.mark.slow
async def test_idle_stream_is_the_end_and_a_comment_keeps_it_alive():
    async def silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + b"data: a\n\n")
        await writer.drain()
        for _ in range(8 if asked.target == "/alive" else 0):
            await asyncio.sleep(0.15)
            writer.write(b":\n")
            await writer.drain()
        if asked.target == "/alive":
            writer.close()
        await site.over.wait()

    async with Site(silent) as site:
        idle, _ = await heard(listen(site.port, idle_ms=200))
        alive, _ = await heard(listen(site.port, path="/alive", idle_ms=900))
    assert (idle.ending, idle.code, idle.evidence.limit) == (Ending.FAILED, "idle_limit", "idle_ms")
    assert idle.value["received"] == 1
    assert (alive.code, alive.value["comments"]) == ("ok", 8)


async def test_server_that_never_answers_is_idle_and_one_that_drips_meets_the_wall():
    async def drip(_: Asked, writer: asyncio.StreamWriter) -> None:
        for byte in STREAM * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.005)

    async def nothing(_: Asked, writer: asyncio.StreamWriter) -> None:
        await site.over.wait()

    async with Site(nothing) as site:
        outcome, _ = await heard(listen(site.port, idle_ms=50))
    async with Site(drip) as dripping:
        dripped, _ = await heard(listen(dripping.port, wall_ms=150))
    assert (outcome.code, dripped.code, dripped.evidence.limit) == ("idle_limit", "wall_limit", "wall_ms")


@pytest.mark.parametrize(
    ("piece", "more", "code", "limit"),
    [
        (b"data: " + b"x" * 10_000, {"event_bytes_max": 50_000}, "event_limit", "event_bytes_max"),
        (b"x" * 65_536, {"event_bytes_max": 50_000}, "event_limit", "event_bytes_max"),
        (b"data: y\n" * 1000, {"event_bytes_max": 50_000}, "event_limit", "event_bytes_max"),
        (b"id: " + b"9" * 1_025 + b"\ndata: a\n\n", {}, "event_limit", "event_bytes_max"),
        (b"data: " + b"x" * 1_000 + b"\n\n", {"output_bytes_max": 50_000}, "output_limit", "output_bytes_max"),
        (b":" + b"c" * 1_000 + b"\n", {"output_bytes_max": 50_000}, "output_limit", "output_bytes_max"),
    ],
    ids=["no-newline", "no-field", "data-without-end", "huge-id", "many-events", "comment-flood"],
)
async def test_flood_ends_at_a_named_limit(piece, more, code, limit):
    async with Site(endless_answer(STREAM, piece)) as site:
        outcome, _ = await heard(listen(site.port, reconnects_max=3, **more))
        assert len(site.asked) == 1
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, code, limit)


@pytest.mark.parametrize("piece", [b"X-Flood: " + b"f" * 1_000 + b"\r\n", b"f" * 10_000])
async def test_endless_head_ends_at_its_limit(piece):
    async with Site(endless_answer(b"HTTP/1.1 200 OK\r\n", piece)) as site:
        outcome, _ = await heard(listen(site.port, reconnects_max=3))
    assert (outcome.code, outcome.evidence.limit) in {("output_limit", "head_bytes"), ("cut_short", "")}


@pytest.mark.slow
async def test_packed_stream_is_read_and_a_bomb_in_it_defused():
    head = STREAM.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([packer.compress(b":" + bytes(MIB)) for _ in range(64)]) + packer.flush()
    async with Site(raw_answer(head + gzip.compress(b"data: a\n\n", mtime=0))) as site:
        outcome, _ = await heard(listen(site.port))
    async with Site(raw_answer(head + bomb)) as bombing:
        bombed, _ = await heard(listen(bombing.port, event_bytes_max=100_000))
    assert outcome.value["events"][0]["data"] == "a"
    assert bombed.code == "event_limit"


async def test_reconnections_end_at_their_bound():
    async with Site(endless_answer(b"", b"")) as broken:
        port = broken.port
    outcome, _ = await heard(listen(port, reconnects_max=4))
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, "unreachable", "reconnects_max")
    assert len(outcome.evidence.facts["connections"]) == 5


async def test_stream_that_breaks_is_cut_short_and_its_unfinished_event_dropped():
    chunked = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Site(raw_answer(chunked + b"9\r\ndata: a\n\n\r\n7\r\ndata: b\r\n")) as site:
        outcome, _ = await heard(listen(site.port))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "cut_short")
    assert [event["data"] for event in outcome.value["events"]] == ["a"]


@pytest.mark.slow
async def test_whole_short_stream_cut_at_every_byte_tells_whole_events_only():
    sent = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 19\r\n\r\ndata: a\n\ndata: bc\n\n"
    for at in range(len(sent) + 1):
        async with Site(raw_answer(sent[:at])) as site:
            outcome, events = await heard(listen(site.port))
        whole_events = [] if at < len(sent) - 10 else ["a"] if at < len(sent) else ["a", "bc"]
        assert [json.loads(event.data)["data"] for event in events] == whole_events, at
        assert outcome.ending is (Ending.SUCCEEDED if at == len(sent) else Ending.FAILED), at


async def test_canary_is_never_reached_when_a_redirect_or_a_name_server_is_hostile():
    async with Site() as canary:
        for location in (
            f"http://127.0.0.1:{canary.port}/", "http://169.254.169.254/latest/meta-data/", "http://[::1]/",
            "file:///etc/passwd",
        ):  # fmt: skip
            async with Site(raw_answer(whole(302, b"", f"Location: {location}"))) as site:
                outcome, _ = await heard(listen(site.port, reconnects_max=2))
                assert len(site.asked) == 1
            assert (outcome.ending, outcome.code) == (Ending.FAILED, "redirect_refused")
        assert canary.connections == 0


async def test_redirects_end_when_they_lead_in_a_circle_and_leave_credentials_behind():
    async with Site(raw_answer(whole(307, b"", "Location: /again"))) as site:
        outcome, _ = await heard(listen(site.port, redirects_max=2))
        assert len(site.asked) == 3
    assert (outcome.code, outcome.evidence.limit) == ("redirect_refused", "redirects_max")
    async with (
        Site(streams(b"data: a\n\n")) as other,
        Site(raw_answer(whole(307, b"", f"Location: http://127.0.0.1:{other.port}/x"))) as first,
    ):
        what = listen(first.port, f"127.0.0.1:{other.port}", headers=(("Authorization", "Bearer x"), ("X-A", "b")))
        outcome, _ = await heard(what)
    assert outcome.code == "ok"
    assert "authorization" not in other.asked[0].headers
    assert other.asked[0].headers["x-a"] == "b"


async def test_each_connection_is_checked_anew_when_the_name_server_changes_its_mind():
    async with Site(streams(b"data: a\n\n")) as site, Site(host="127.0.0.2", port=site.port) as canary:
        answers = iter([["127.0.0.1"], ["127.0.0.2"]])
        what = listen(site.port, f"allowed.test:{site.port}", url=f"http://allowed.test:{site.port}/", reconnects_max=3)
        outcome, _ = await heard(what, resolver=lambda _: next(answers))
        assert canary.connections == 0
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "address_refused")
    assert [hop["verdict"] for hop in outcome.evidence.facts["hops"]] == ["allowed", "address_refused"]


@pytest.mark.parametrize(
    "more",
    [
        {"headers": (("Accept", "x"),)}, {"headers": (("Last-Event-ID", "x"),)}, {"headers": (("Host", "x"),)},
        {"last_event_id": "a\r\nb"}, {"last_event_id": " a"}, {"events_max": 0}, {"event_bytes_max": 2**40},
        {"idle_ms": 0}, {"reconnects_max": -1}, {"url": "ws://127.0.0.1/"}, {"url": "http://other.test/"},
        {"hosts": ("*.org:443",)}, {"tls": "unknown"},
    ],
)  # fmt: skip
async def test_nothing_is_sent_when_the_order_is_malformed(more):
    async with Site(streams()) as site:
        outcome, _ = await heard(listen(site.port, **more))
        assert site.asked == []
    assert outcome.ending is Ending.FAILED
    assert outcome.code not in {"cut_short", "unreachable"}


async def test_lane_stops_when_the_servers_event_id_fits_no_header():
    async with Site(streams(b"id: \x01\ndata: a\n\n", b"data: b\n\n")) as site:
        outcome, _ = await heard(listen(site.port, reconnects_max=3))
        assert len(site.asked) == 1
    assert (outcome.ending, outcome.code, outcome.value["received"]) == (Ending.FAILED, "event_id_refused", 1)


async def test_value_keeps_the_last_events_and_an_artefact_all_of_them(tmp_path):
    folder = ArtefactFolder(tmp_path / "artefacts", entropy=os.urandom)
    body = b"".join(b"data: %d %s\n\n" % (number, b"x" * 4_000) for number in range(500))
    async with Site(streams(body)) as site:
        outcome, events = await heard(listen(site.port, output_bytes_max=4 * MIB), artefacts=folder)
    kept = [int(event["data"].split()[0]) for event in outcome.value["events"]]
    assert kept == list(range(500 - len(kept), 500))
    assert 10 < len(kept) <= 100
    lines = b"".join(event.data + b"\n" for event in events)
    assert outcome.value["transcript"]["artefact"] == digest(lines)
    assert folder.path(digest(lines)).read_bytes() == lines


async def test_large_event_is_handed_up_in_parts():
    async with Site(streams(b"data: " + b"x" * 200_000 + b"\n\n")) as site:
        _, events = await heard(listen(site.port))
    assert [event.stream for event in events] == ["part", "part", "part", "event"]
    assert json.loads(b"".join(event.data for event in events))["data"] == "x" * 200_000


async def test_stream_is_read_over_tls_with_a_pinned_certificate(tmp_path):
    authority = Authority()
    server = authority.server("127.0.0.1", folder=tmp_path)
    tls = TlsSettings(authorities_file=str(authority.file(tmp_path)))
    async with Site(streams(b"data: a\n\n", b"data: b\n\n"), tls=server) as site:
        url = f"https://127.0.0.1:{site.port}/"
        good, _ = await heard(listen(site.port, url=url, tls_peer_sha256=digest(authority.last_der)), tls=tls)
        wrong, _ = await heard(listen(site.port, url=url, tls_peer_sha256=digest(b"x")), tls=tls)
        assert len(site.asked) == 1
    assert (good.code, wrong.ending, wrong.code) == ("ok", Ending.FAILED, "unreachable")


async def test_cancelling_closes_the_connection():
    async with Site(endless_answer(STREAM, b"data: x\n\n")) as site:
        steering = HeldSteering()
        task = asyncio.ensure_future(heard(listen(site.port, output_bytes_max=100 * MIB), steering))
        await steering.piece.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@pytest.mark.slow
def test_importing_the_lane_loads_no_http_library():
    import subprocess
    import sys

    program = (
        "import sys, assent.execution.adapters.sse, assent.execution.adapters.http\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('httpx2', 'httpcore2', 'anyio', 'h11')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_name_is_looked_up_once_for_a_connection():
    asked: list[str] = []
    known = pinned(allowed_test=["127.0.0.1"])

    def resolver(name: str):
        asked.append(name)
        return known(name)

    async with Site(streams(b"data: a\n\n")) as site:
        what = listen(site.port, f"allowed.test:{site.port}", url=f"http://allowed.test:{site.port}/")
        outcome, _ = await heard(what, resolver=resolver)
    assert (outcome.code, asked) == ("ok", ["allowed.test"])


class TestSseLane(LaneSuite):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            count = {"/events": 3, "/flood": 4_096, "/endless": 10**9}[asked.target]
            writer.write(STREAM)
            for _ in range(count):
                if writer.is_closing():
                    return
                writer.write(b"data: " + b"x" * 1_024 + b"\n\n")
                await writer.drain()
                await asyncio.sleep(0 if asked.target != "/endless" else 0.01)
            writer.close()

        async with Site(answer) as site:
            yield LaneCase(
                lane=SseLane(clock=RealClock()),
                good=listen(site.port, wall_ms=30_000),
                foreign=HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=()),
                malformed=listen(site.port, events_max=0),
                endless=listen(site.port, path="/endless", wall_ms=30_000),
                flood=listen(site.port, path="/flood", wall_ms=60_000, output_bytes_max=8 * MIB),
                flood_bytes=4 * MIB,
                deeds=lambda: len(site.asked),
                running=lambda: 0,
                unmet=None,
            )
