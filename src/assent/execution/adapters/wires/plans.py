"""What a lane is told of the ways out when it is built. The ways themselves are made with the first order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assent.execution.hosts import check_proxy
from assent.execution.tls import TlsSettings

if TYPE_CHECKING:
    import ssl

    from assent.execution.adapters.dialing import Resolver
    from assent.execution.adapters.wires.roads import Roads

CONNECT_MS = 10_000


class RoadPlan:
    """How hosts are reached.

    `resolver` replaces the system's name service; `tls` is how TLS is judged and `tls_named` the settings that an order
    may name; `proxy` (`host:port`) is used for everything, or empty; `connect_ms` bounds look-up, connection and TLS
    handshake together.

    Raises:
        Malformed: `proxy` is no `host:port` (`host_refused`, `port_refused`).
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        tls: TlsSettings | ssl.SSLContext | None = None,
        tls_named: Mapping[str, TlsSettings] | None = None,
        proxy: str = "",
        connect_ms: int = CONNECT_MS,
    ) -> None:
        self._resolver, self._tls, self._tls_named = resolver, tls, tls_named
        self._proxy, self._connect_ms = check_proxy(proxy), connect_ms
        self._roads: Roads | None = None

    def roads(self) -> Roads:
        """The ways out, made when they are first needed."""
        if self._roads is None:
            from assent.execution.adapters.wires.roads import Roads  # noqa: PLC0415 (loads anyio and httpcore2)

            self._roads = Roads(
                resolver=self._resolver,
                tls=self._tls,
                named=self._tls_named,
                proxy=self._proxy,
                connect_ms=self._connect_ms,
            )
        return self._roads
