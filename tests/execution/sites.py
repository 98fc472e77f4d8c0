"""Real servers on loopback for the http lane's tests: they record who came, and misbehave as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from assent.execution.adapters.http import HttpLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import HttpOrder, Limits
from assent.execution.outcomes import Outcome, StreamEvent


class RealClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class Asked:
    """One request as it came in."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *rest = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.fields = [tuple(line.split(": ", 1)) for line in rest if line]
        self.headers = {name.lower(): value for name, value in self.fields}
        self.body = body


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class Site:
    """A server on one loopback address. `answer` writes what it likes, and the connection stays open unless it closes
    it."""

    def __init__(self, answer: Answer | None = None, *, host: str = "127.0.0.1", port: int = 0, tls=None) -> None:
        self._answer = answer or text_answer(b"hello")
        self._where = host, port
        self._tls = tls
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Future[None]] = set()
        self.connections = self.most_open = 0
        self.asked: list[Asked] = []
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()
        self.over = asyncio.Event()

    async def __aenter__(self) -> Self:
        host, port = self._where
        self._server = await asyncio.start_server(self._serve, host, port, ssl=self._tls, limit=2**22)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.over.set()
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.most_open = max(self.most_open, len(self._open) + 1)
        self._open.add(writer)
        served = asyncio.get_running_loop().create_future()
        self._serving.add(served)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not writer.is_closing():
                    await self._one(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._open.discard(writer)
            served.set_result(None)
            self.left.set()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
        asked = Asked(head, b"")
        asked.body = await reader.readexactly(int(asked.headers.get("content-length", "0")))
        self.asked.append(asked)
        self.arrived.set()
        await self._answer(asked, writer)
        await writer.drain()


def whole(status: int, body: bytes = b"", *fields: str) -> bytes:
    """A complete answer."""
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def text_answer(body: bytes, status: int = 200, *fields: str) -> Answer:
    """The same complete answer to everybody."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(status, b"" if asked.method == "HEAD" else body, *fields))

    return answer


def raw_answer(data: bytes) -> Answer:
    """These bytes, and then the connection ends."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return answer


def endless_answer(start: bytes, piece: bytes) -> Answer:
    """`start`, and then `piece` until the other side has had enough."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return answer


def no_answer(site_over: Callable[[], asyncio.Event], start: bytes = b"") -> Answer:
    """`start`, and then nothing until the test is over."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await writer.drain()
        await site_over().wait()

    return answer


def pinned(**answers: Sequence[str]) -> Callable[[str], Sequence[str]]:
    """A resolver that knows these names (written with `_` for `.`) and no other."""
    table = {name.replace("_", "."): found for name, found in answers.items()}

    def resolve(name: str) -> Sequence[str]:
        if name not in table:
            raise OSError(-2, "name or service not known")
        return table[name]

    return resolve


def order(url: str, *hosts: str, method: str = "GET", **more) -> HttpOrder:
    """An order with a short life, so that what hangs ends soon."""
    limits = Limits(wall_ms=more.pop("wall_ms", 5_000), output_bytes_max=more.pop("output_bytes_max", 1_048_576))
    return HttpOrder(method=method, url=url, hosts=hosts, limits=limits, **more)


async def carried(lane: HttpLane, what: HttpOrder) -> tuple[Outcome, bytes]:
    """Carry one order; returns the outcome and all the body that was handed up meanwhile."""
    events: list[StreamEvent] = []
    outcome = await lane.carry(what, floor=ConfinementClass.NAMESPACED, on_event=events.append)
    assert all(event.stream == "body" and 0 < len(event.data) <= 65_536 for event in events)
    return outcome, b"".join(event.data for event in events)


@contextlib.asynccontextmanager
async def http_lane(**options):
    """A lane that is closed afterwards."""
    lane = HttpLane(clock=RealClock(), **options)
    try:
        yield lane
    finally:
        await lane.close()


async def once(what: HttpOrder, **options) -> Outcome:
    """Carry one order on a lane of its own."""
    async with http_lane(**options) as lane:
        return (await carried(lane, what))[0]
