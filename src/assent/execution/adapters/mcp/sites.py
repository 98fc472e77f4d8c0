"""An MCP server behind an HTTP address (streamable HTTP): the headers that go with each message, and the session."""

from __future__ import annotations

import msgspec

from assent.execution import mcp_protocol as protocol
from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.jsonrpc.links import Gone
from assent.execution.adapters.jsonrpc.sites import SiteLink
from assent.execution.attestations import ConfinementClass
from assent.execution.mcp_protocol import Greeting
from assent.execution.orders import HttpOrder
from assent.execution.outcomes import Ending, StreamEvent
from assent.primitives.canonical import Json

SESSION_FIELD = "mcp-session-id"
FAREWELL_MS = 2_000


class McpSiteLink(SiteLink):
    """A `SiteLink` that keeps the server's session.

    The session id is the server's secret: it goes out as a header and stands in no record. A session that the server
    has forgotten (404) was not served: `session_lost`.
    """

    def __init__(self, *, lane: HttpLane, order: HttpOrder, floor: ConfinementClass, message_bytes_max: int) -> None:
        super().__init__(lane=lane, order=order, floor=floor, message_bytes_max=message_bytes_max, streams=True)
        self._session = ""

    def enter(self, greeting: Greeting) -> None:
        """The server has greeted.

        Raises:
            Malformed: `message_malformed`.
        """
        self._session = protocol.read_session_id(self.seen.get(SESSION_FIELD, ""))
        self.label(greeting, "", {})

    def label(self, greeting: Greeting, method: str, params: dict[str, Json]) -> None:
        """What is said next is this request."""
        session = {SESSION_FIELD: self._session} if self._session else {}
        self.fields = {**protocol.http_fields(greeting, method, params), **session}

    async def hear(self) -> bytes:
        """See `Link.hear`."""
        try:
            return await super().hear()
        except Gone as gone:
            if gone.code == "http_status" and self.status == 404 and self._session:
                raise Gone("session_lost", "the server has forgotten the session", ending=Ending.FAILED) from gone
            raise

    async def close(self, *, grace_ms: int) -> None:
        """See `Link.close`; the server is told that the session is over."""
        await super().close(grace_ms=grace_ms)
        session, self._session = self._session, ""
        if session and self.status != 404:
            farewell = msgspec.structs.replace(
                self._order,
                method="DELETE",
                headers=(*self._order.headers, *self.fields.items()),
                redirects_max=0,
                idempotency_key="",
                limits=msgspec.structs.replace(self._order.limits, wall_ms=FAREWELL_MS),
            )
            await self._lane.carry(farewell, floor=self._floor, on_event=_unheard)


def _unheard(_event: StreamEvent) -> None:
    """What a server says to a farewell interests nobody."""
