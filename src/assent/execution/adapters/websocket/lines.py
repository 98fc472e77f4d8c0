"""A line: one open WebSocket connection, as the state machine of `websockets` sees it, on a checked stream.

The state machine masks what goes out, refuses masked frames, reserved bits, unknown codes and extensions (none are
offered), holds frames and messages to their size, and answers pings and closes. Added here: fragments are put together
under a bound of their number, text is checked to be UTF-8 as it comes, and a pong is matched with its ping.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Iterator

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from assent.execution.adapters.wires.wire import CountedStream, translated
from assent.execution.headers import Fields
from assent.execution.orders import Message
from assent.execution.urls import Url
from assent.primitives.errors import Refused, Unavailable

FRAGMENTS_MAX = 10_000
_READ_BYTES = 65_536
_SLICE_BYTES = 4_096  # of tiny frames there are thousands even in this: others on the loop get their turn in between
_PING_BYTES = 8


class Line:
    """One connection. Reading is one task's business; sending may be several tasks'."""

    def __init__(
        self, stream: CountedStream, url: Url, *, subprotocols: tuple[str, ...], message_bytes_max: int
    ) -> None:
        path, _, query = url.target.partition("?")
        uri = WebSocketURI(url.scheme == "https", url.host.text, url.port, path, query)
        wanted = [Subprotocol(name) for name in subprotocols] or None
        self._url = url
        self._stream = stream
        self._protocol = ClientProtocol(uri, subprotocols=wanted, max_size=message_bytes_max)
        self._writing = asyncio.Lock()
        self._assembly = _Assembly()
        self._early: list[Frame] | None = None
        self._pings = 0
        self._ponged = asyncio.Event()
        self.status = 0
        self.broken = ""
        self.too_long = False

    async def open(self, fields: Fields, *, agent: str) -> str:
        """The opening handshake; returns the subprotocol.

        Raises:
            Refused: the server answers otherwise: `http_status` (the message ends with the status) or
                `handshake_refused`.
            Unavailable: the connection broke.
        """
        request = self._protocol.connect()
        request.path = self._url.target
        del request.headers["Host"]
        for name, value in (("Host", self._url.authority), ("User-Agent", agent), *fields):
            request.headers[name] = value
        self._protocol.send_request(request)
        await self._flush()
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            await self._receive()
        failure = self._protocol.handshake_exc
        events = self._protocol.events_received()
        self.status = next((event.status_code for event in events if isinstance(event, Response)), 0)
        if isinstance(failure, InvalidStatus):
            raise Refused("http_status", f"the server answered {failure.response.status_code}")
        if isinstance(failure, Exception):
            if isinstance(failure.__cause__, EOFError):
                raise Unavailable("cut_short", "the server hung up during the opening handshake")
            raise Refused("handshake_refused", f"the opening handshake is not one: {str(failure)[:120]}")
        self._early = [event for event in events if isinstance(event, Frame)]
        return str(self._protocol.subprotocol or "")

    async def messages(self) -> list[Message]:
        """The messages that are whole with what comes next. None at the end: see `over`.

        Raises:
            Unavailable: the connection broke (`too_much`), or pongs cannot be sent.
        """
        frames, self._early = self._early, None
        if frames is None:
            await self._receive()
            frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        whole = [*self._whole(frames)]
        await self._flush()
        return whole

    @property
    def over(self) -> bool:
        """Whether nothing more can come: both sides have said goodbye, the connection is gone, or this side gave up."""
        if self._early is not None:
            return False  # what came with the handshake is still to be heard
        protocol = self._protocol
        said = protocol.close_sent is not None and protocol.close_rcvd is not None
        return said or bool(self.broken) or protocol.state is State.CLOSED or protocol.parser_exc is not None

    @property
    def bytes_in(self) -> int:
        """How much has come, of whatever kind."""
        return self._stream.bytes_in

    @property
    def ours(self) -> tuple[int, str] | None:
        """The close code and reason that was sent, if one was."""
        close = self._protocol.close_sent
        return (int(close.code), close.reason) if close is not None else None

    @property
    def theirs(self) -> tuple[int, str] | None:
        """The close code and reason that came, if one did."""
        close = self._protocol.close_rcvd
        return (int(close.code), close.reason) if close is not None else None

    def check_open(self) -> None:
        """Raises Unavailable when the connection is closing: nothing of a message would leave."""
        if self._protocol.state is not State.OPEN:
            raise Unavailable("cut_short", "the connection is closing")

    async def send(self, message: Message) -> None:
        """Send a message, once `check_open` has passed. Raises Unavailable: the connection broke."""
        if message.kind == "text":
            self._protocol.send_text(message.data)
        else:
            self._protocol.send_binary(message.data)
        await self._flush()

    async def ping(self) -> None:
        """Send a ping and wait for its pong. Raises Unavailable."""
        self._pings += 1
        self._ponged.clear()
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(self._pings.to_bytes(_PING_BYTES, "big"))
        await self._flush()
        await self._ponged.wait()

    async def goodbye(self, code: int) -> None:
        """Begin the closing handshake, if nobody did. Raises Unavailable."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
        await self._flush()

    async def give_up(self, code: int, why: str) -> None:
        """Say why nothing more is taken. Raises Unavailable."""
        self.broken = self.broken or why
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code)
        await self._flush()

    def _whole(self, frames: list[Frame]) -> Iterator[Message]:
        for frame in frames:
            if frame.opcode is Opcode.PONG and bytes(frame.data) == self._pings.to_bytes(_PING_BYTES, "big"):
                self._ponged.set()
            if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            try:
                message = self._assembly.take(frame)
            except UnicodeDecodeError:
                self._protocol.fail(1007)
                self.broken = "a text message is not UTF-8"
                return
            if message is not None:
                yield message
            elif self._assembly.fragments > FRAGMENTS_MAX:
                self._protocol.fail(1008)
                self.broken, self.too_long = f"a message has more than {FRAGMENTS_MAX} fragments", True
                return
        if self._protocol.parser_exc is not None and not isinstance(self._protocol.parser_exc, EOFError):
            self.too_long = isinstance(self._protocol.parser_exc, PayloadTooBig)
            self.broken = self.broken or str(self._protocol.parser_exc)[:120] or "its frames are not in order"

    async def _receive(self) -> None:
        with translated():
            data = await self._stream.read(_READ_BYTES)
        if not data:
            self._protocol.receive_eof()
        for at in range(0, len(data), _SLICE_BYTES):
            self._protocol.receive_data(data[at : at + _SLICE_BYTES])
            await asyncio.sleep(0)

    async def _flush(self) -> None:
        async with self._writing:
            for data in self._protocol.data_to_send():
                if data:  # an empty one asks for half-closing: the stream is closed whole a little later
                    with translated():
                        await self._stream.write(data)


class _Assembly:
    """A message on its way in, fragment by fragment."""

    def __init__(self) -> None:
        self._text = False
        self._parts: list[bytes] = []
        self._utf8 = codecs.getincrementaldecoder("utf-8")("strict")
        self.fragments = 0

    def take(self, frame: Frame) -> Message | None:
        """The message that is whole with `frame`. Raises UnicodeDecodeError."""
        if frame.opcode is not Opcode.CONT:
            self._text, self._parts, self.fragments = frame.opcode is Opcode.TEXT, [], 0
            self._utf8.reset()
        data = bytes(frame.data)
        if self._text:
            self._utf8.decode(data, final=frame.fin)
        self.fragments += 1
        if data:
            self._parts.append(data)
        if not frame.fin:
            return None
        return Message(data=b"".join(self._parts), kind="text" if self._text else "binary")
