"""How a URL's host is reached: by which TLS settings, directly or through a proxy, and always checked.

A proxy is used only when whoever builds the lane names one; the environment is never asked. The order's allow-list and
the judgement of every resolved address hold through it as well: the proxy is asked (CONNECT) for the *address* that was
judged, so it has no name to resolve in its own way. What is at that address it alone can see, and the record says which
proxy that was. A proxy within a company is named by its address, since no list of an order names it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping

import msgspec

from assent.execution.adapters.dialing import CheckedStream, Dialer, Goal, Pins, Resolver
from assent.execution.adapters.wires.wire import Wire
from assent.execution.exchanges import Hop
from assent.execution.hosts import AllowList, allow_list, split_authority
from assent.execution.tls import TlsSettings
from assent.execution.urls import Url
from assent.primitives.errors import Malformed, Unavailable

PROXY_HEAD_BYTES_MAX = 16_384
_ALPN = ("http/1.1",)
_ESTABLISHED = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How one order reaches its hosts. `pins` keep the answers of name servers for as long as they are to hold."""

    allowed: AllowList
    pins: Pins
    tls: str = ""
    tls_peer_sha256: str = ""


class Roads:
    """Reaches hosts for the lanes.

    `tls` is how TLS is judged where an order names no settings, `named` the settings it may name. `proxy` is
    `host:port` of an HTTP proxy, or empty. `connect_ms` bounds look-up, connection and TLS handshake together.
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        tls: TlsSettings | ssl.SSLContext | None = None,
        named: Mapping[str, TlsSettings] | None = None,
        proxy: str = "",
        connect_ms: int = 10_000,
    ) -> None:
        settings: dict[str, TlsSettings | ssl.SSLContext | None] = {"": tls, **(named or {})}
        self._dialers = {
            name: Dialer(resolver=resolver, tls=one, protocols=_ALPN, connect_ms=connect_ms)
            for name, one in settings.items()
        }
        self._proxy = proxy

    async def wire(self, way: Way, url: Url, hop: Hop) -> Wire:
        """A connection that speaks HTTP/1.1. Raises as `reach` does."""
        return Wire(await self.reach(way, url, hop), url=url)

    async def reach(self, way: Way, url: Url, hop: Hop) -> CheckedStream:
        """A checked stream to the host of `url`; `hop` is filled in on the way.

        Raises:
            Refused: `host_refused`, `address_refused`, or `tls_unknown`: the order names settings that are not here.
            Unavailable: `unreachable`.
        """
        dialer = self._dialers.get(way.tls)
        secure = url.scheme == "https"
        if dialer is None:
            raise Malformed(
                "tls_unknown", f"there are no TLS settings `{way.tls[:80]}`", hint="name them in the settings"
            )
        if way.tls_peer_sha256 and not secure:
            raise Malformed("url_refused", "a certificate is pinned and the URL is not https")
        goal = Goal(host=url.host, port=url.port, allowed=way.allowed, note=hop, pins=way.pins)
        hop.proxy = self._proxy
        stream = await dialer.dial(goal, secure=secure, tunnel=self._tunnel if self._proxy else None)
        if way.tls_peer_sha256 and stream.tls_peer_sha256 != way.tls_peer_sha256:
            await stream.aclose()
            raise Unavailable("unreachable", f"`{goal.where}` does not show the pinned certificate")
        return stream

    async def _tunnel(self, goal: Goal, address: str) -> socket.socket:
        """Ask the proxy for `address`. Raises OSError when it does not let us through."""
        host, port = split_authority(self._proxy, default_port=None)
        proxy = Goal(host=host, port=port, allowed=allow_list((self._proxy,)), note=_Proxy())
        bare = await self._dialers[""].connect(proxy)
        try:
            await _connect(bare, f"[{address}]:{goal.port}" if ":" in address else f"{address}:{goal.port}")
        except BaseException:
            bare.close()
            raise
        goal.note.address = address
        return bare


class _Proxy(msgspec.Struct, kw_only=True):
    """What is learned of the proxy while it is dialled (a `Notebook`)."""

    resolved: list[str] = []
    address: str = ""


async def _connect(bare: socket.socket, where: str) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(bare, f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode("ascii"))
    head = bytearray()
    while b"\r\n\r\n" not in head:
        piece = await loop.sock_recv(bare, 4096)
        head += piece
        if not piece or len(head) > PROXY_HEAD_BYTES_MAX:
            raise ConnectionError("the proxy did not answer")
    found = _ESTABLISHED.match(head)
    if found is None:
        raise ConnectionError("the proxy refused to connect")
    if head.index(b"\r\n\r\n") + 4 < len(head):
        raise ConnectionError("the proxy spoke for the server")
