"""How a URL's host is reached: by which TLS settings, directly or through a proxy, and always checked.

A proxy is used only when whoever builds the lane names one; the environment is never asked. The order's allow-list and
the judgement of every resolved address hold through it as well: the proxy is asked (CONNECT) for the *address* that was
judged, so it has no name to resolve in its own way. What is at that address it alone can see, and the record says which
proxy that was. A proxy within a company is named by its address, since no list of an order names it.
"""

from __future__ import annotations

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

    Raises:
        Malformed: `proxy` is no `host:port` (`host_refused`, `port_refused`).
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
        self._proxy = split_authority(proxy, default_port=None) if proxy else None
        self._proxy_name = proxy

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
            raise Malformed("tls_unknown", f"there are no TLS settings `{way.tls[:80]}`", hint="name them in the settings")
        if way.tls_peer_sha256 and not secure:
            raise Malformed("url_refused", "a certificate is pinned and the URL is not https")
        goal = Goal(host=url.host, port=url.port, allowed=way.allowed, note=hop, pins=way.pins)
        if self._proxy is None:
            stream = await dialer.dial(goal, secure=secure)
        else:
            stream = await self._tunnel(dialer, goal, hop, secure=secure)
        if way.tls_peer_sha256 and stream.tls_peer_sha256 != way.tls_peer_sha256:
            await stream.aclose()
            raise Unavailable("unreachable", f"`{goal.where}` does not show the pinned certificate")
        return stream

    async def _tunnel(self, dialer: Dialer, goal: Goal, hop: Hop, *, secure: bool) -> CheckedStream:
        raise NotImplementedError
