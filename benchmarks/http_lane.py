"""What the http and the file lane add, for information: a guarded exchange and a guarded file operation.

Measured     the p50 of a keep-alive GET through the http lane (URL grammar, allow-list, address check, limits, digests,
             evidence), and of reading and writing a file of 4 KiB through the file lane (every step of the path opened
             beneath the workspace; a write goes to a draft, is flushed and renamed). Then a body of 100 MB, streamed
             through the http lane, handed up, hashed and kept as an artefact, and without keeping it; and the most
             memory that Python held meanwhile.
Yardstick    the same GET by a bare httpx2 client on the same loopback server; open() with read, and a durable write
             (draft, fsync, rename, fsync of the folder), both in this thread. A plain open() with write stands beside.
             The same 100 MB streamed by httpx2 and dropped, and hashed.
Target       none.
Repeat       python -m benchmarks.http_lane [--quick]
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx2

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.files import FileLane
from assent.execution.adapters.http import HttpLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import FileOrder, HttpOrder, Limits, Order
from assent.execution.outcomes import Ending, StreamEvent
from assent.execution.ports import Lane
from benchmarks.reporting import arguments, result, row, scratch
from benchmarks.windows import Window, by_tasks, ratio

BODY = b"z" * 1024
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CONTENT = b"c" * 4096
MEGABYTE = 1_000_000
LARGE = 100
Call = Callable[[], Awaitable[object]]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    rounds, seconds = (1, 0.2) if options.quick else (5, 0.5)
    print(__doc__)
    with scratch(options.folder) as folder:
        asyncio.run(_main(folder, rounds=rounds, seconds=seconds))


async def _main(folder: Path, *, rounds: int, seconds: float) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lane = HttpLane(clock=SystemClock())
    async with server, httpx2.AsyncClient() as client:
        gets: dict[str, Call] = {
            "GET, http lane": partial(_carry, lane, _get(port)),
            "GET, bare httpx2": partial(_bare_get, client, port),
        }
        got = await _in_turn(gets, rounds=rounds, seconds=seconds)
        await lane.close()
    files: dict[str, Call] = {
        "read, file lane": partial(_carry, FileLane(clock=SystemClock()), _file(folder, "read")),
        "read, open()": partial(_bare_read, folder / "bare"),
        "write, file lane": partial(_carry, FileLane(clock=SystemClock()), _file(folder, "write")),
        "write, open() durably": partial(_durable_write, folder / "bare"),
        "write, open()": partial(_bare_write, folder / "bare"),
    }
    for name in ("bare", "lane"):
        (folder / name).write_bytes(CONTENT)
    found = got | await _in_turn(files, rounds=rounds, seconds=seconds)
    for name, windows in found.items():
        row(name, windows)
    for ours, theirs in (
        ("GET, http lane", "GET, bare httpx2"),
        ("read, file lane", "read, open()"),
        ("write, file lane", "write, open() durably"),
    ):
        result(f"p50 of {ours}, against {theirs}", ratio(found[ours], found[theirs], lambda window: window.p50_ms))
    await _large(folder, rounds=max(rounds, 1))


async def _large(folder: Path, *, rounds: int) -> None:
    """100 MB through the lane and through the yardstick, in turn."""
    server = await asyncio.start_server(_pour, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    keeping = HttpLane(clock=SystemClock(), artefacts=ArtefactFolder(folder / "artefacts", entropy=SystemEntropy()))
    passing = HttpLane(clock=SystemClock())
    async with server, httpx2.AsyncClient(timeout=60) as client:
        calls: dict[str, Call] = {
            "100 MB, http lane, kept": partial(_carry, keeping, _get(port, megabytes=LARGE)),
            "100 MB, http lane": partial(_carry, passing, _get(port, megabytes=LARGE)),
            "100 MB, httpx2, hashed": partial(_bare_stream, client, port, hashed=True),
            "100 MB, httpx2": partial(_bare_stream, client, port, hashed=False),
        }
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                began_s = time.perf_counter()
                await call()
                rates[name].append(LARGE / (time.perf_counter() - began_s))
        peaks = {name: await _peak_mb(call) for name, call in calls.items()}
    await keeping.close()
    await passing.close()
    for name, found in rates.items():
        print(f"  {name:<44} {statistics.median(found):>9,.0f} MB/s  most memory {peaks[name]:5.1f} MB")
    pairs = zip(rates["100 MB, http lane"], rates["100 MB, httpx2, hashed"], strict=True)
    result(
        "MB/s of 100 MB through the http lane, against httpx2 with a hash",
        statistics.median(ours / theirs for ours, theirs in pairs),
    )
    result("most memory for 100 MB, kept as an artefact", peaks["100 MB, http lane, kept"], unit="MB", at_most=16)


async def _peak_mb(call: Call) -> float:
    tracemalloc.start()
    try:
        await call()
        return tracemalloc.get_traced_memory()[1] / MEGABYTE
    finally:
        tracemalloc.stop()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers with 100 MB, and then hangs up."""
    piece = bytes(MEGABYTE)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (LARGE * MEGABYTE))
    for _ in range(LARGE):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def _bare_stream(client: httpx2.AsyncClient, port: int, *, hashed: bool) -> None:
    found, size = hashlib.sha256(), 0
    async with client.stream("GET", f"http://127.0.0.1:{port}/large") as response:
        async for piece in response.aiter_bytes():
            size += len(piece)
            if hashed:
                found.update(piece)
    assert size == LARGE * MEGABYTE


async def _in_turn(calls: dict[str, Call], *, rounds: int, seconds: float) -> dict[str, list[Window]]:
    found: dict[str, list[Window]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            found[name].append(await by_tasks(call, callers=1, seconds=seconds))
    return {name: windows[1:] for name, windows in found.items()}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that gives the same answer to every request, on one connection as long as the client likes."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _carry(lane: Lane, order: Order) -> None:
    outcome = await lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=_ignore)
    if outcome.ending is not Ending.SUCCEEDED:
        raise RuntimeError(f"{outcome.code}: {outcome.message}")


def _get(port: int, *, megabytes: int = 1) -> HttpOrder:
    limits = Limits(output_bytes_max=(megabytes + 1) * MEGABYTE, wall_ms=60_000)
    return HttpOrder(method="GET", url=f"http://127.0.0.1:{port}/thing", hosts=(f"127.0.0.1:{port}",), limits=limits)


async def _bare_get(client: httpx2.AsyncClient, port: int) -> None:
    response = await client.get(f"http://127.0.0.1:{port}/thing")
    assert response.content == BODY


def _file(folder: Path, verb: str) -> FileOrder:
    content = CONTENT if verb == "write" else b""
    return FileOrder(verb="write" if verb == "write" else "read", workspace=str(folder), path="lane", content=content)


async def _bare_read(path: Path) -> None:
    with path.open("rb") as file:
        assert file.read() == CONTENT


async def _bare_write(path: Path) -> None:
    with path.open("wb") as file:
        file.write(CONTENT)


async def _durable_write(path: Path) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(CONTENT)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _ignore(_: StreamEvent) -> None:
    return None


if __name__ == "__main__":
    main()
