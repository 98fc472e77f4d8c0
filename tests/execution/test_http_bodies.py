"""Bodies of the http lane: streamed under credit, large ones kept as artefacts, files of the workspace sent."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.http import HttpLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import FileOrder, HttpOrder, Limits, Upload
from assent.execution.outcomes import Ending
from assent.execution.retries import Backoff
from assent.execution.spools import HEAD_BYTES, KEPT_BYTES_MAX, Spool
from assent.primitives.digests import digest
from assent.testing.conformance.lanes import LaneCase, LaneSuite
from assent.testing.steerings import HeldSteering
from tests.execution.sites import Asked, RealClock, Site, carried, http_lane, once, order, text_answer, whole

MIB = 1_048_576


@pytest.fixture
def folder(tmp_path: Path) -> ArtefactFolder:
    return ArtefactFolder(tmp_path / "artefacts", entropy=os.urandom)


def streamed(piece: bytes, count: int):
    """`piece`, so many times, with the length told first."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * count))
        for _unused in range(count):
            writer.write(piece)
            await writer.drain()

    return answer


def test_spool_shows_the_whole_up_to_its_bound_and_then_head_size_and_digest(folder):
    small, large, nowhere = Spool(folder), Spool(folder), Spool(None)
    for piece in [b"a" * 1000] * 1000 + [b"b" * (KEPT_BYTES_MAX - 1_000_000)]:
        small.add(piece)
        large.add(piece)
        nowhere.add(piece)
    assert small.shown() == "a" * 1_000_000 + "b" * 48_576
    for spool in (large, nowhere):
        spool.add(b"c")
        spool.finish()
        spool.finish()
    kept = b"a" * 1_000_000 + b"b" * 48_576 + b"c"
    head = "a" * HEAD_BYTES
    assert large.shown() == {"artefact": digest(kept), "bytes": len(kept), "head": head}
    assert folder.path(digest(kept)).read_bytes() == kept
    assert nowhere.shown() == {"artefact": "", "bytes": len(kept), "head": head}
    assert large.digest == nowhere.digest == digest(kept)


@pytest.mark.parametrize("text", ["é" * MIB, "€" * MIB])
def test_head_of_a_text_is_text_when_it_is_cut_within_a_character(text):
    spool = Spool(None)
    spool.add(b"x" + text.encode())
    shown = spool.shown(content_type="text/plain; charset=utf-8")
    assert isinstance(shown, dict)
    assert isinstance(shown["head"], str)
    assert HEAD_BYTES - 4 < len(shown["head"].encode()) <= HEAD_BYTES


@pytest.mark.anyio
async def test_body_beyond_the_value_is_kept_as_an_artefact(folder):
    async with Site(streamed(b"0123456789abcdef" * 4096, 40)) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, output_bytes_max=3 * MIB), artefacts=folder)
    body = b"0123456789abcdef" * 4096 * 40
    assert outcome.code == "ok"
    assert outcome.value["body"]["bytes"] == len(body)
    assert outcome.value["body"]["artefact"] == outcome.evidence.digests["response_body"] == digest(body)
    assert folder.path(digest(body)).read_bytes() == body


@pytest.mark.anyio
async def test_nothing_is_kept_when_a_limit_ends_the_body(folder, tmp_path):
    async with Site(streamed(b"x" * 65_536, 40)) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, output_bytes_max=2 * MIB), artefacts=folder)
    assert outcome.code == "output_limit"
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.anyio
async def test_exchange_ends_honestly_when_its_body_cannot_be_kept(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    nowhere = ArtefactFolder(tmp_path / "file", entropy=os.urandom)
    async with Site(streamed(b"x" * 65_536, 40)) as site:
        here = f"127.0.0.1:{site.port}"
        for method, ending in (("GET", Ending.FAILED), ("POST", Ending.UNKNOWN)):
            what = order(f"http://{here}/", here, method=method, output_bytes_max=4 * MIB)
            outcome = await once(what, artefacts=nowhere)
            assert (outcome.ending, outcome.code) == (ending, "artefact_failed")


@pytest.mark.anyio
@pytest.mark.slow
async def test_hundred_megabytes_pass_in_constant_memory(folder):
    piece, count = os.urandom(MIB), 100
    async with Site(streamed(piece, count)) as site, http_lane(artefacts=folder) as lane:
        here = f"127.0.0.1:{site.port}"
        what = order(f"http://{here}/", here, output_bytes_max=101 * MIB, wall_ms=120_000)
        seen = [0]

        def count_only(event) -> None:
            seen[0] += len(event.data)

        tracemalloc.start()
        try:
            outcome = await lane.carry(what, floor=ConfinementClass.NAMESPACED, on_event=count_only)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (outcome.code, seen[0]) == ("ok", count * MIB)
    expected = hashlib.sha256()
    for _ in range(count):
        expected.update(piece)
    assert outcome.value["body"]["artefact"] == f"sha256:{expected.hexdigest()}"
    assert peak < 12 * MIB


@pytest.mark.anyio
async def test_server_waits_while_the_asker_takes_nothing():
    sent = [0]

    async def pour(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        for _unused in range(1024):
            writer.write(b"x" * 65_536)
            sent[0] += 65_536
            await writer.drain()

    async with Site(pour) as site, http_lane() as lane:
        here = f"127.0.0.1:{site.port}"
        what = order(f"http://{here}/", here, output_bytes_max=65 * MIB, wall_ms=60_000)
        steering = HeldSteering(room=False)
        work = asyncio.ensure_future(
            lane.carry(what, floor=ConfinementClass.BUILTIN, on_event=steering.hear, steering=steering)
        )
        await site.arrived.wait()
        before = -1
        while before != sent[0]:  # until the buffers of both kernels are full and the server stands still
            before = sent[0]
            await asyncio.sleep(0.2)
        assert sent[0] < 32 * MIB
        assert not steering.heard
        steering.give_room()
        outcome = await work
    assert (outcome.code, len(steering.output)) == ("ok", 64 * MIB)


class TestHttpLane(LaneSuite):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            if asked.target == "/flood":
                await streamed(b"x" * 65_536, 64)(asked, writer)
            elif asked.target == "/endless":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nsome")
                await writer.drain()
                await site.over.wait()
            else:
                writer.write(whole(200, b"hello"))

        async with Site(answer) as site, http_lane() as lane:
            here = f"127.0.0.1:{site.port}"
            limits = Limits(output_bytes_max=8 * MIB)

            def at(path: str, **more) -> HttpOrder:
                return HttpOrder(method="GET", url=f"http://{here}{path}", hosts=(here,), limits=limits, **more)

            yield LaneCase(
                lane=lane,
                good=at("/"),
                foreign=FileOrder(verb="read", workspace="/", path="a"),
                malformed=at("/", headers=(("Host", "other.test"),)),
                endless=at("/endless"),
                flood=at("/flood"),
                flood_bytes=4 * MIB,
                deeds=lambda: len(site.asked),
                running=lambda: 0,
                unmet=None,
            )


# Uploads


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "file.bin").write_bytes(bytes(range(256)) * 8192)
    return made


def sending(port: int, workspace: Path, path: str = "inner/file.bin", **more) -> HttpOrder:
    here = f"127.0.0.1:{port}"
    upload = Upload(workspace=str(workspace), path=path, sha256=more.pop("sha256", ""))
    return order(f"http://{here}/up", here, method=more.pop("method", "PUT"), upload=upload, **more)


@pytest.mark.anyio
async def test_file_of_the_workspace_is_sent_and_its_digest_recorded(workspace):
    content = (workspace / "inner" / "file.bin").read_bytes()
    async with Site() as site:
        outcome = await once(sending(site.port, workspace, sha256=digest(content)))
        assert [asked.body for asked in site.asked] == [content]
    assert outcome.ending is Ending.SUCCEEDED
    assert outcome.evidence.digests["request_body"] == digest(content)
    assert outcome.evidence.facts["upload_bytes"] == len(content)


@pytest.mark.anyio
async def test_file_is_sent_again_whole_in_another_try_and_after_a_redirect(workspace):
    content = (workspace / "inner" / "file.bin").read_bytes()
    answers = [whole(503), whole(307, b"", "Location: /there"), whole(200)]

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    async with Site(answer) as site:
        outcome = await once(sending(site.port, workspace, retries_max=1), backoff=Backoff(first_ms=1))
        assert [asked.body == content for asked in site.asked] == [True] * 3
    assert outcome.code == "ok"


@pytest.mark.anyio
async def test_nothing_is_sent_when_the_file_has_another_content_than_was_allowed(workspace):
    async with Site() as site:
        outcome = await once(sending(site.port, workspace, sha256=digest(b"other")))
        assert site.connections == 0
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "upload_changed")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../secret", "outside_workspace"), ("inner/../../secret", "outside_workspace"),
        ("/etc/passwd", "outside_workspace"),
        ("link", "upload_refused"), ("linked/secret", "upload_refused"), ("pipe", "upload_refused"),
        ("inner", "upload_refused"), (".", "upload_refused"), ("none", "upload_refused"), ("", "path_malformed"),
        ("inner/file.bin/x", "upload_refused"), ("a\0b", "path_malformed"),
    ],
)  # fmt: skip
async def test_nothing_is_sent_when_the_path_leads_out_or_to_no_ordinary_file(path, code, workspace, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (workspace / "link").symlink_to(tmp_path / "secret")
    (workspace / "linked").symlink_to(tmp_path)
    os.mkfifo(workspace / "pipe")
    async with Site() as site:
        outcome = await once(sending(site.port, workspace, path))
        assert site.connections == 0
    assert (outcome.ending, outcome.code) == (Ending.FAILED, code)


@pytest.mark.anyio
async def test_server_never_sees_a_whole_request_when_the_file_becomes_shorter(workspace):
    big = workspace / "big"
    big.write_bytes(b"x" * (16 * MIB))
    whole_requests = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        os.truncate(big, MIB)
        received = 0
        while piece := await reader.read(65_536):
            received += len(piece)
        whole_requests.set_result(received == 16 * MIB)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await once(sending(port, workspace, "big", method="POST"))
        assert not await whole_requests
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "upload_changed")


@pytest.mark.anyio
async def test_order_is_malformed_when_it_has_a_body_and_a_file(workspace):
    async with Site() as site:
        outcome = await once(sending(site.port, workspace, body=b"x"))
        assert (outcome.code, site.connections) == ("order_malformed", 0)


@pytest.mark.anyio
async def test_answer_is_read_when_the_server_refuses_a_large_upload_halfway(workspace):
    (workspace / "big").write_bytes(b"x" * (64 * MIB))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(413, b"too large", "Connection: close"))
        await writer.drain()
        for _ in range(20):
            await reader.read(65_536)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        outcome = await once(sending(server.sockets[0].getsockname()[1], workspace, "big"))
    # A reset may overtake the answer; then nobody can know, and the lane says so.
    assert (outcome.ending, outcome.code) in {(Ending.FAILED, "http_status"), (Ending.UNKNOWN, "no_answer")}


def test_lane_keeps_large_bodies_nowhere_unless_it_is_given_a_place():
    assert HttpLane(clock=RealClock())._artefacts is None


@pytest.mark.anyio
async def test_text_answer_of_a_megabyte_stays_in_the_value():
    async with Site(text_answer(b"x" * MIB)) as site, http_lane() as lane:
        here = f"127.0.0.1:{site.port}"
        outcome, _ = await carried(lane, order(f"http://{here}/", here, output_bytes_max=2 * MIB))
    assert outcome.value["body"] == "x" * MIB
