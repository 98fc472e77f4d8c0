"""The one place where the http lane opens a socket: connections are checked before they exist.

The engine is httpcore2, the connection layer of httpx2, without its pool and its client: they would parse the URL a
second time, keep cookies, read proxies from the environment, follow redirects and dial by name. Here every connection
is made by `Dialer.dial`, which takes a host in its one canonical spelling and

1. asks the allow-list for `host:port`;
2. resolves the name once, in a thread of its own, with a time limit;
3. judges *every* answer: one private address among public ones refuses the name, since a public service has no reason
   to hand out such a pair and an attacker has. A special address passes only when the allow-list names it literally,
   with the port; a name inside a company is reached by listing both the name and its address;
4. dials an address from step 3, never the name, so a second answer of the name server has nobody to give it to;
5. compares the address at the other end of the socket with the one dialled, before a byte is sent.

`localhost` is special: RFC 6761 reserves the name for loopback, so it is never resolved, and to list `localhost:8080`
is to list loopback in so many words. No other name, `x.localhost` included, gets there without the address being
listed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Sequence

import anyio
import httpcore2
import httpx2

from assent.execution.adapters.http.wire import CountedStream, Wire
from assent.execution.addresses import judge
from assent.execution.exchanges import Hop
from assent.execution.hosts import AllowList
from assent.execution.urls import Url
from assent.primitives.errors import Refused, Unavailable

Resolver = Callable[[str], Sequence[str]]

_LOCALHOST = ("127.0.0.1", "::1")
_ANSWERS_MAX = 128
_DIALS_MAX = 4
_LOOKUPS_MAX = 64


class Dialer:
    """Opens checked connections. `resolver` blocks and answers addresses as text, or raises OSError."""

    def __init__(self, *, resolver: Resolver | None, tls: ssl.SSLContext | None, connect_ms: int) -> None:
        self._resolver = resolver or system_resolver
        self._tls = tls
        self._connect_s = connect_ms / 1000
        self._lookups = 0

    async def dial(self, url: Url, allowed: AllowList, hop: Hop) -> Wire:
        """Connect to `url`'s host, checked as the module says; `hop` is filled in on the way.

        Raises:
            Refused: `host_refused` or `address_refused`; no socket was opened, or none that a byte was sent on.
            Unavailable: `unreachable`: no answer from the name server, nobody there, or no trust in who is.
        """
        check_listed(url, allowed)
        try:
            async with asyncio.timeout(self._connect_s):
                hop.resolved = [*await self._answers(url)]
                addresses = _judged(url, hop.resolved, allowed)
                stream = await self._first(url, addresses, hop)
        except TimeoutError as error:
            raise _unreachable(url, f"no connection within {self._connect_s:g} s") from error
        return Wire(stream, url=url, address=hop.address, resolved=hop.resolved)

    async def _answers(self, url: Url) -> tuple[str, ...]:
        if url.host.is_address:
            return (url.host.text,)
        if url.host.text == "localhost":
            return _LOCALHOST
        try:
            answers = tuple(dict.fromkeys(await self._lookup(url.host.text)))
        except (OSError, ValueError) as error:
            raise _unreachable(url, "the name does not resolve") from error
        if not answers:
            raise _unreachable(url, "the name has no address")
        return answers

    def _lookup(self, name: str) -> asyncio.Future[Sequence[str]]:
        """Run the resolver in a daemon thread: a hanging name server holds neither the loop nor a shared pool."""
        if self._lookups >= _LOOKUPS_MAX:
            raise OSError("too many look-ups are waiting for a name server")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[str]] = loop.create_future()
        self._lookups += 1

        def settle(answers: Sequence[str], error: Exception | None) -> None:
            self._lookups -= 1
            if future.done():
                return
            if error is None:
                future.set_result(answers)
            else:
                future.set_exception(error)

        def run() -> None:
            answers: Sequence[str] = ()
            failure: Exception | None = None
            try:
                answers = self._resolver(name)
            except (OSError, ValueError) as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever asked
                loop.call_soon_threadsafe(settle, answers, failure)

        threading.Thread(target=run, name="assent-lookup", daemon=True).start()
        return future

    async def _first(self, url: Url, addresses: tuple[str, ...], hop: Hop) -> CountedStream:
        reason = ""
        for address in addresses[:_DIALS_MAX]:
            try:
                return await self._open(url, address, hop)
            except (httpcore2.NetworkError, httpcore2.TimeoutException, OSError, ValueError) as error:
                reason = str(error)
        raise _unreachable(url, reason)

    async def _open(self, url: Url, address: str, hop: Hop) -> CountedStream:
        plain = await httpcore2.AnyIOBackend().connect_tcp(address, url.port)
        try:
            hop.address = _checked_peer(plain, address, url)
            if url.scheme == "http":
                return CountedStream(plain)
            return CountedStream(await plain.start_tls(self._context(), server_hostname=url.host.text))
        except BaseException:
            with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
                await plain.aclose()
            raise

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx2.create_ssl_context(trust_env=False)
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


def system_resolver(name: str) -> Sequence[str]:
    """Ask the system's resolver. Raises OSError when the name does not resolve."""
    return [str(answer[4][0]) for answer in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def check_listed(url: Url, allowed: AllowList) -> None:
    """Raises Refused (`host_refused`) unless the allow-list admits the URL's host and port."""
    if not allowed.admits(url.host, url.port):
        where = f"{url.host.in_url}:{url.port}"
        raise Refused("host_refused", f"`{where}` is not on the order's allow-list", hint=f"list `{where}`")


def _judged(url: Url, answers: Sequence[str], allowed: AllowList) -> tuple[str, ...]:
    if len(answers) > _ANSWERS_MAX:
        raise Refused("address_refused", f"`{url.host.text}` resolves to more than {_ANSWERS_MAX} addresses")
    passed: list[str] = []
    for answer in answers:
        verdict = judge(answer)
        literally = allowed.lists_address(verdict.address, url.port)
        loopback_by_name = url.host.text == "localhost" and answer in _LOCALHOST
        if not (verdict.public or literally or loopback_by_name):
            message = f"`{url.host.text}` resolves to `{verdict.address[:60]}`: {verdict.reason}"
            raise Refused("address_refused", message, hint="list the address itself, with the port, if it is meant")
        passed.append(verdict.address)
    return tuple(passed)


def _checked_peer(stream: httpcore2.AsyncNetworkStream, address: str, url: Url) -> str:
    peer = stream.get_extra_info("server_addr")
    there = ipaddress.ip_address(str(peer[0])), int(peer[1])
    if there != (ipaddress.ip_address(address), url.port):
        raise Refused("address_refused", f"`{address}` was dialled and `{there[0]}` answered")
    return str(there[0])


def _unreachable(url: Url, reason: str) -> Unavailable:
    return Unavailable("unreachable", f"`{url.host.in_url}:{url.port}` cannot be reached: {reason[:200]}")
