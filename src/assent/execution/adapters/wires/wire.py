"""Checked connections in use and at rest: what they carry, count, and may be shared for.

Idle connections are kept per allow-list *and* per credentials: an order cannot ride a connection that its own list
would not allow, nor one on which somebody else's authentication may stick (NTLM and its kind authenticate connections).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import anyio
import httpcore2

from assent.execution.adapters.dialing import CheckedStream
from assent.execution.exchanges import Hop
from assent.execution.urls import Url
from assent.primitives.errors import Unavailable

FRAMING_BYTES = 262_144  # what heads, chunk framing and interim answers may take besides the body
_KEPT_S = 3.0  # under the 5 s after which common servers hang up, so a request rarely meets a closing connection
_KEPT_MAX = 32


class Wire:
    """A checked connection, its HTTP/1.1 engine, and what it counted since it was last taken."""

    def __init__(self, stream: CheckedStream, *, url: Url) -> None:
        origin = httpcore2.Origin(url.scheme.encode(), url.host.text.encode(), url.port)
        self._stream = counted = CountedStream(stream)
        self._engine = httpcore2.AsyncHTTP11Connection(origin=origin, stream=counted, keepalive_expiry=_KEPT_S)
        self.address = stream.address
        self.resolved = stream.resolved
        self.tls_peer_sha256 = stream.tls_peer_sha256

    @property
    def sent(self) -> bool:
        """Whether a byte of the request may have left."""
        return self._stream.writing

    @property
    def idle(self) -> bool:
        """Whether another exchange can ride on it: nothing waits on it, so no answer that came unasked is taken for the
        answer to what is asked next."""
        unasked, _ = self._engine._h11_state.trailing_data  # noqa: SLF001 (the engine does not look there itself)
        return self._engine.is_idle() and not unasked and not self._engine.has_expired()

    def note(self, hop: Hop) -> None:
        """Write down what is known of the connection."""
        hop.verdict = "allowed"
        hop.address, hop.resolved, hop.tls_peer_sha256 = self.address, self.resolved, self.tls_peer_sha256

    def begin(self, *, body_bytes_max: int) -> None:
        """Start counting for the next exchange: it may take twice what its body may, and a fixed allowance."""
        self._stream.begin(2 * body_bytes_max + FRAMING_BYTES)

    def counted(self) -> tuple[int, int]:
        """Bytes read and written in this exchange, above TLS."""
        return self._stream.bytes_in, self._stream.bytes_out

    async def request(
        self, url: Url, *, method: str, fields: list[tuple[bytes, bytes]], body: bytes | AsyncIterator[bytes] = b""
    ) -> httpcore2.Response:
        """Send a request, the pieces of its body as they come, and wait for the head of the answer.

        Raises:
            Unavailable: the exchange broke (`cut_short`, `too_much`), or whatever `body` raises.
        """
        target = httpcore2.URL(scheme=url.scheme, host=url.host.text, port=url.port, target=url.target.encode("ascii"))
        with translated():
            return await self._engine.handle_async_request(
                httpcore2.Request(method, target, headers=fields, content=body)
            )

    async def body(self, response: httpcore2.Response) -> AsyncGenerator[bytes]:
        """The answer's body as it arrives.

        Raises:
            Unavailable: the exchange broke (`cut_short`, `too_much`).
        """
        with translated():
            async with contextlib.aclosing(response.aiter_stream()) as arriving:
                async for piece in arriving:
                    yield piece
            await response.aclose()  # the whole body is here: the connection is idle again

    async def close(self) -> None:
        """Close the connection, even while being cancelled."""
        with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
            await self._engine.aclose()


class Connections:
    """Idle connections by what they may be shared for. Never more than 32; the oldest goes first."""

    def __init__(self) -> None:
        self._idle: dict[tuple[object, ...], list[Wire]] = {}

    def take(self, share: tuple[object, ...]) -> Wire | None:
        """An idle connection for `share`, if one is still good."""
        wires = self._idle.get(share, [])
        while wires:
            wire = wires.pop()
            if wire.idle:
                return wire
        return None

    async def give(self, share: tuple[object, ...], wire: Wire) -> None:
        """Keep a connection if it can carry another exchange, else close it."""
        await self._drop_stale()
        if not wire.idle:
            await wire.close()
            return
        self._idle.setdefault(share, []).append(wire)

    async def close(self) -> None:
        """Close all of them."""
        wires = [wire for kept in self._idle.values() for wire in kept]
        self._idle.clear()
        for wire in wires:
            await wire.close()

    async def _drop_stale(self) -> None:
        wires = [(share, wire) for share, kept in self._idle.items() for wire in kept]
        fresh = [(share, wire) for share, wire in wires if wire.idle][-(_KEPT_MAX - 1) :]
        self._idle = {}
        for share, wire in fresh:
            self._idle.setdefault(share, []).append(wire)
        for _, wire in wires:
            if all(wire is not kept for _, kept in fresh):
                await wire.close()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Say in Assent's words what breaks on a `CountedStream` (`cut_short`, `too_much`, `head_too_long`)."""
    try:
        yield
    except _TooMuch as error:
        raise Unavailable("too_much", "the server sent more than the exchange may take") from error
    except httpcore2.RemoteProtocolError as error:
        if getattr(error.__cause__, "error_status_hint", 0) == 431:
            raise Unavailable("head_too_long", "the head of the answer is longer than 100 KiB") from error
        raise Unavailable("cut_short", f"the answer broke off or is not HTTP: {str(error)[:120]}") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
        raise Unavailable("cut_short", "the connection broke") from error


class _TooMuch(Exception):
    """More bytes came in than the exchange may take in all, framing included."""


class CountedStream(httpcore2.AsyncNetworkStream):
    """A checked stream as the engine wants it. Counts both ways and ends a flood, wherever in the protocol it hides."""

    def __init__(self, inner: CheckedStream) -> None:
        self._inner = inner
        self._bytes_in_max = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.writing = False

    def begin(self, bytes_in_max: int) -> None:
        """Start counting; reading fails once more than `bytes_in_max` have come in."""
        self._bytes_in_max = bytes_in_max
        self.bytes_in = self.bytes_out = 0
        self.writing = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 (the engine's interface)
        """Read, within the allowance."""
        if self.bytes_in > self._bytes_in_max:
            raise _TooMuch
        try:
            data = await self._inner.receive(max_bytes)
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error
        self.bytes_in += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 (the engine's interface)
        """Write; from here on the request may have reached the server.

        A server that hangs up while it is written to may have answered before: the engine goes on to read.
        """
        self.writing = True
        try:
            await self._inner.send(buffer)
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from error
        self.bytes_out += len(buffer)

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Whether something waits to be read: the one thing that the engine asks."""
        return self._inner.readable() if info == "is_readable" else None
