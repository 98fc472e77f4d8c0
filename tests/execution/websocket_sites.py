"""WebSocket servers for tests: the real one of `websockets`, and one made of bytes that does what it likes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
from collections.abc import Awaitable, Callable
from typing import Self

import msgspec

from assent.execution.adapters.websocket import WebSocketLane
from assent.execution.adapters.wires.plans import RoadPlan
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Limits, Message, WebSocketOrder
from assent.execution.outcomes import Outcome, StreamEvent
from assent.execution.retries import Backoff
from assent.testing.steerings import HeldSteering
from tests.execution.sites import RealClock

MIB = 1_048_576
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, mask: bytes = b"", bits: int = 0) -> bytes:
    """One frame as it stands on the wire."""
    first = (0x80 if fin else 0) | bits | opcode
    size = len(data)
    marked = 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first, marked | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, marked | 126, size)
    else:
        head = struct.pack("!BBQ", first, marked | 127, size)
    if mask:
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    return head + mask + data


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def accept_of(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def switching(key: str, *fields: str) -> bytes:
    head = [
        "HTTP/1.1 101 Switching",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_of(key)}",
    ]
    return "\r\n".join([*head, *fields]).encode() + b"\r\n\r\n"


class Peer:
    """One client, as the raw server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
        self.reader, self.writer, self.headers = reader, writer, headers

    @property
    def key(self) -> str:
        return self.headers["sec-websocket-key"]

    async def agree(self, *fields: str, also: bytes = b"") -> None:
        await self.write(switching(self.key, *fields) + also)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self) -> tuple[int, bytes]:
        """The next frame of the client, unmasked. Fails when it is not masked."""
        first, second = await self.reader.readexactly(2)
        assert second & 0x80, "a client masks"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(size)
        return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


Play = Callable[[Peer], Awaitable[None]]


class RawSite:
    """Reads the opening handshake and then does what `play` says; the connection ends with it."""

    def __init__(self, play: Play, *, host: str = "127.0.0.1", port: int = 0, tls=None) -> None:
        self._play, self._where, self._tls = play, (host, port), tls
        self._ended: list[asyncio.Future[None]] = []
        self.over = asyncio.Event()
        self.heads: list[bytes] = []
        self.codes: list[int] = []
        self.faults: list[BaseException] = []

    async def __aenter__(self) -> Self:
        host, port = self._where
        self._server = await asyncio.start_server(self._serve, host, port, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.over.set()
        self._server.close()
        await asyncio.gather(*self._ended)
        assert not self.faults, self.faults

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.get_running_loop().create_future()
        self._ended.append(ended)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            fields = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if line)
            await self._play(Peer(reader, writer, {name.lower(): value for name, value in fields.items()}))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except AssertionError as error:
            self.faults.append(error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            ended.set_result(None)


def talk(port: int, *hosts: str, **more) -> WebSocketOrder:
    """An order with a short life. `say` are its messages."""
    limits = Limits(wall_ms=more.pop("wall_ms", 5_000), output_bytes_max=more.pop("output_bytes_max", MIB))
    said = tuple(
        Message(data=one.encode()) if isinstance(one, str) else Message(data=one, kind="binary")
        for one in more.pop("say", ())
    )
    here = f"127.0.0.1:{port}"
    what = WebSocketOrder(url=f"ws://{here}/chat?x=y", hosts=(here, *hosts), messages=said, limits=limits)
    return msgspec.structs.replace(what, **more)


async def talked(
    what: WebSocketOrder, steering: HeldSteering | None = None, **options
) -> tuple[Outcome, list[StreamEvent]]:
    """Carry one order on a lane of its own."""
    roads = RoadPlan(**{name: options.pop(name) for name in ("resolver", "tls", "proxy") if name in options})
    soon = Backoff(first_ms=1, most_ms=4)
    lane = WebSocketLane(clock=RealClock(), roads=roads, backoff=soon, close_ms=300, **options)
    events: list[StreamEvent] = []

    def hear(event: StreamEvent) -> None:
        events.append(event)
        if steering is not None:
            steering.hear(event)

    outcome = await lane.carry(what, floor=ConfinementClass.NAMESPACED, on_event=hear, steering=steering)
    await lane.close()
    return outcome, events
