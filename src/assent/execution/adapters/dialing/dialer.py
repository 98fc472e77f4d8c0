"""Connections that are checked before they exist, and the stream that is handed out. See the package."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import select
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol, TypeVar

import anyio
import msgspec
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from assent.execution.adapters.dialing import trust
from assent.execution.adapters.dialing.lookups import Lookups, Pins, Resolver, system_resolver
from assent.execution.addresses import judge
from assent.execution.hosts import AllowList, Host
from assent.execution.tls import TlsSettings
from assent.primitives.digests import digest
from assent.primitives.errors import Refused, Unavailable

CONNECT_MS = 10_000
_LOCALHOST = ("127.0.0.1", "::1")
_ANSWERS_MAX = 128
_DIALS_MAX = 4


Opened = TypeVar("Opened")


class Notebook(Protocol):
    """Where the dialer writes down what it learns, as it learns it: it is right also when dialing fails."""

    resolved: list[str]
    address: str


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, by which list, with which answers of the name server, and where what is learned is written down."""

    host: Host
    port: int
    allowed: AllowList
    note: Notebook
    pins: Pins = msgspec.field(default_factory=Pins)

    @property
    def where(self) -> str:
        """The goal as an allow-list spells it."""
        return f"{self.host.in_url}:{self.port}"


# Connects to an address that has passed, in another way than directly, and writes it down as the goal's.
Tunnel = Callable[[Goal, str], Awaitable[socket.socket]]


class CheckedStream:
    """A connected stream whose peer was checked, and what is known of it."""

    def __init__(self, stream: ByteStream, bare: socket.socket, *, address: str, resolved: list[str]) -> None:
        self._stream, self._bare = stream, bare
        self.address = address
        self.resolved = resolved
        self.tls_peer_sha256 = peer_digest(stream)

    async def receive(self, bytes_max: int) -> bytes:
        """Some bytes, at most `bytes_max`; empty at the end.

        Raises:
            OSError: the connection broke.
        """
        with _translated():
            try:
                return await self._stream.receive(bytes_max)
            except anyio.EndOfStream:
                return b""

    async def send(self, data: bytes) -> None:
        """Send all of `data`, as fast as it is taken.

        Raises:
            OSError: the connection broke.
        """
        with _translated():
            if data:
                await self._stream.send(data)

    def readable(self) -> bool:
        """Whether something waits to be read, the end included. Says nothing of what TLS has already taken in."""
        if self._bare.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._bare, select.POLLIN)
        return bool(poll.poll(0))

    async def aclose(self) -> None:
        """Close it, even while being cancelled. Idempotent."""
        with anyio.CancelScope(shield=True), contextlib.suppress(OSError, anyio.BrokenResourceError):
            await self._stream.aclose()


class Dialer:
    """Opens checked connections.

    `resolver` blocks and answers addresses as text, or raises OSError. `tls` is how TLS is judged: settings, or a
    finished context (its ALPN included), for which `protocols` say nothing. `connect_ms` bounds look-up, connection and
    TLS handshake together.
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        tls: TlsSettings | ssl.SSLContext | None = None,
        protocols: tuple[str, ...] = (),
        connect_ms: int = CONNECT_MS,
    ) -> None:
        self._lookups = Lookups(resolver or system_resolver)
        self._context = tls if isinstance(tls, ssl.SSLContext) else None
        self._settings = tls if isinstance(tls, TlsSettings) else TlsSettings()
        self._protocols = protocols
        self._connect_s = connect_ms / 1000

    async def dial(self, goal: Goal, *, secure: bool, tunnel: Tunnel | None = None) -> CheckedStream:
        """A checked stream to the goal, with TLS when it is to be `secure`, through a `tunnel` if there is one.

        Raises:
            Refused: `host_refused` or `address_refused`; no socket was opened, or none that a byte was sent on. Or
                `tls_malformed`: the settings cannot be used.
            Unavailable: `unreachable`: no answer from the name server, nobody there, or no trust in who is.
        """
        context = await self._trust() if secure else None

        async def opened(address: str) -> CheckedStream:
            bare = await (tunnel(goal, address) if tunnel is not None else _connected(goal, address))
            stream = await _wrapped(bare)
            try:
                if context is not None:
                    stream = await self._trusted(stream, context, goal)
            except BaseException:
                with anyio.CancelScope(shield=True), contextlib.suppress(OSError, anyio.BrokenResourceError):
                    await stream.aclose()
                raise
            return CheckedStream(stream, bare, address=goal.note.address, resolved=goal.note.resolved)

        return await self._checked(goal, opened)

    async def connect(self, goal: Goal) -> socket.socket:
        """The bare, connected, non-blocking socket to the goal, for who moves bytes without looking at them.

        Raises:
            Refused: `host_refused` or `address_refused`.
            Unavailable: `unreachable`.
        """

        async def opened(address: str) -> socket.socket:
            return await _connected(goal, address)

        return await self._checked(goal, opened)

    async def _checked(self, goal: Goal, opened: Callable[[str], Awaitable[Opened]]) -> Opened:
        """The first address of the goal that opens, once all of them have passed."""
        check_listed(goal)
        try:
            async with asyncio.timeout(self._connect_s):
                goal.note.resolved = [*await self._answers(goal)]
                return await _first(goal, _judged(goal), opened)
        except TimeoutError as error:
            raise _unreachable(goal, f"no connection within {self._connect_s:g} s") from error

    async def _answers(self, goal: Goal) -> tuple[str, ...]:
        if goal.host.is_address:
            return (goal.host.text,)
        if goal.host.text == "localhost":
            return _LOCALHOST
        try:
            return await goal.pins.answers(goal.host.text, self._lookups.ask)
        except (OSError, ValueError) as error:
            raise _unreachable(goal, "the name does not resolve") from error

    async def _trust(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await asyncio.to_thread(trust.context, self._settings, protocols=self._protocols)
        return self._context

    async def _trusted(self, stream: ByteStream, context: ssl.SSLContext, goal: Goal) -> ByteStream:
        try:
            secured = await TLSStream.wrap(
                stream, ssl_context=context, hostname=goal.host.text, standard_compatible=False, server_side=False
            )
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            raise OSError("the peer broke off the TLS handshake") from error
        wanted = self._settings.peer_sha256
        if wanted and peer_digest(secured) != wanted:
            raise OSError("the peer does not show the pinned certificate")
        return secured


def check_listed(goal: Goal) -> None:
    """Raises Refused (`host_refused`) unless the allow-list admits the goal's host and port."""
    if not goal.allowed.admits(goal.host, goal.port):
        raise Refused("host_refused", f"`{goal.where}` is not on the order's allow-list", hint=f"list `{goal.where}`")


def peer_digest(stream: anyio.TypedAttributeProvider) -> str:
    """The digest of the certificate that the peer has shown, or nothing where there is no TLS."""
    tls = stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610 (this is anyio)
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return digest(certificate) if certificate else ""


async def _first(goal: Goal, addresses: tuple[str, ...], opened: Callable[[str], Awaitable[Opened]]) -> Opened:
    reason = ""
    for address in addresses[:_DIALS_MAX]:
        try:
            return await opened(address)
        except (OSError, ValueError) as error:
            reason = str(error)
    raise _unreachable(goal, reason)


def _judged(goal: Goal) -> tuple[str, ...]:
    answers, name = goal.note.resolved, goal.host.text
    if len(answers) > _ANSWERS_MAX:
        raise Refused("address_refused", f"`{name}` resolves to more than {_ANSWERS_MAX} addresses")
    passed: list[str] = []
    for answer in answers:
        verdict = judge(answer)
        literally = goal.allowed.lists_address(verdict.address, goal.port)
        loopback_by_name = name == "localhost" and answer in _LOCALHOST
        if not (verdict.public or literally or loopback_by_name):
            message = f"`{name}` resolves to `{verdict.address[:60]}`: {verdict.reason}"
            raise Refused("address_refused", message, hint="list the address itself, with the port, if it is meant")
        passed.append(verdict.address)
    return tuple(passed)


async def _connected(goal: Goal, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bare = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(bare, (address, goal.port))
        goal.note.address = _checked_peer(bare, address, goal.port)
    except BaseException:
        bare.close()
        raise
    return bare


def _checked_peer(bare: socket.socket, address: str, port: int) -> str:
    peer = bare.getpeername()
    there = ipaddress.ip_address(str(peer[0])), int(peer[1])
    if there != (ipaddress.ip_address(address), port):
        raise Refused("address_refused", f"`{address}` was dialled and `{there[0]}` answered")
    return str(there[0])


async def _wrapped(bare: socket.socket) -> ByteStream:
    try:
        return await SocketStream.from_socket(bare)
    except BaseException:
        bare.close()
        raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        raise ConnectionError(str(error.__cause__ or "the connection is closed")) from error


def _unreachable(goal: Goal, reason: str) -> Unavailable:
    return Unavailable("unreachable", f"`{goal.where}` cannot be reached: {reason[:200]}")
