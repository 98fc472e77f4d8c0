"""One MCP connection: greeted once, its tools known, one call at a time."""

from __future__ import annotations

from collections import deque

from assent.execution import mcp_protocol as protocol
from assent.execution.adapters.jsonrpc.callers import Caller
from assent.execution.adapters.jsonrpc.endings import Doubt
from assent.execution.adapters.jsonrpc.links import Gone, Link
from assent.execution.adapters.mcp.sites import McpSiteLink
from assent.execution.mcp_protocol import Greeting
from assent.execution.mcp_results import ToolResult, read_result
from assent.execution.mcp_tools import PAGES_MAX, TOOLS_MAX, Tool
from assent.execution.outcomes import Ending, StreamEvent
from assent.execution.ports import OnEvent, Steering
from assent.execution.rpc_messages import METHOD_NOT_FOUND, Answered, Asked, RpcError, Told, refusal, reply
from assent.primitives.canonical import Json, canonical
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Malformed
from assent.primitives.release import __version__

LISTED_MS = 60_000
SURE_MS = 1_000
LOG_LINES_KEPT = 20
BETWEEN_BYTES_MAX = 1_048_576


class Answer(Exception):
    """The server answered a request with an error."""

    def __init__(self, method: str, error: RpcError) -> None:
        super().__init__(error.message)
        self.method, self.error = method, error


class Client(Caller):
    """The client's side of one connection.

    What a tool is defined as is asked before the first call, again when the server says that its tools have changed,
    and again after `LISTED_MS`.
    """

    def __init__(self, link: Link, *, message_bytes_max: int, clock: Clock, entropy: Entropy) -> None:
        super().__init__(link, message_bytes_max=message_bytes_max, entropy=entropy)
        self._clock = clock
        self._on_event: OnEvent = _unheard
        self._tools: dict[str, Tool] = {}
        self._listed_ns = -1
        self._token = self._paused_ns = 0
        self.greeting: Greeting | None = None
        self.log: deque[str] = deque(maxlen=LOG_LINES_KEPT)

    def begin_order(self, *, on_event: OnEvent, steering: Steering | None, bytes_max: int) -> None:
        """An order begins."""
        self.begin(steering)
        self.link.begin(on_event=on_event, steering=steering, bytes_max=bytes_max)
        self._on_event = on_event
        self.log.clear()

    def pause(self) -> None:
        """The order is over; whatever comes before the next is nobody's."""
        self._on_event = _unheard
        self._paused_ns = self._clock.monotonic_ns()
        self.link.begin(on_event=_unheard, steering=None, bytes_max=BETWEEN_BYTES_MAX)

    async def see_that_it_is_there(self) -> None:
        """Ask a server that nobody has spoken with for `SURE_MS` whether it is there, before it matters."""
        idle_ns = self._clock.monotonic_ns() - self._paused_ns
        if self.greeting is not None and not self.greeting.stateless and idle_ns > SURE_MS * 1_000_000:
            await self._ask("ping", {})  # an error is an answer too

    async def greet(self) -> None:
        """Agree on a revision.

        Raises:
            Malformed: `version_refused`, `message_malformed`.
            Answer: the server will have nothing of it.
        """
        answer = await self.call("initialize", protocol.initialize_params(__version__))
        if answer.error is not None:
            if not protocol.is_stateless_only(answer.error):
                raise Answer("initialize", answer.error)
            await self._discover()
            return
        self.greeting = protocol.read_greeting(answer.result)
        if isinstance(self.link, McpSiteLink):
            self.link.enter(self.greeting)
        await self.tell("notifications/initialized")

    async def tools(self) -> dict[str, Tool]:
        """The server's tools by name, as they are defined now.

        Raises:
            Malformed: `tools_limit`, `tool_malformed`, `message_malformed`.
            Answer: there is no list.
        """
        await self.catch_up()
        now_ns = self._clock.monotonic_ns()
        if self._listed_ns < 0 or now_ns - self._listed_ns > LISTED_MS * 1_000_000:
            self._listed_ns = now_ns  # before asking: a change that is told meanwhile asks once more
            self._tools = await self._list()
        return self._tools

    async def call_tool(self, tool: str, arguments: Json, *, doubt: Doubt, reads: bool) -> ToolResult:
        """Call one tool.

        Raises:
            Answer: the server refuses the call.
            Malformed: `result_malformed`, `input_required`.
        """
        self._token += 1
        params: dict[str, Json] = {"name": tool, "arguments": arguments, "_meta": {"progressToken": self._token}}
        if not reads:
            doubt.acting()
        answer = await self._ask("tools/call", params, acts=True)
        if answer.error is not None:
            doubt.settled(acted=False)
            raise Answer("tools/call", answer.error)
        result = read_result(answer.result)
        doubt.settled(acted=not result.failed)
        return result

    async def give_up(self) -> None:
        """Tell the server that nobody waits any more."""
        if self.greeting is not None and not isinstance(self.link, McpSiteLink):
            for id_ in sorted(self.waiting):
                await self.tell("notifications/cancelled", {"requestId": id_, "reason": "the caller gave up"})

    def answer_peer(self, asked: Asked) -> bytes:
        """A ping is answered; nothing else is offered."""
        if asked.method == "ping":
            return reply(asked.id, {})
        return refusal(asked.id, METHOD_NOT_FOUND, "this client offers no sampling, no roots and no elicitation")

    def hear_peer(self, told: Told) -> None:
        """Progress and log lines go up; a changed tool list is asked for again."""
        match told.method:
            case "notifications/tools/list_changed":
                self._listed_ns = -1
            case "notifications/progress":
                progress = protocol.read_progress(told.params, self._token)
                if progress is not None:
                    self._on_event(StreamEvent(stream="progress", data=canonical(progress)))
            case "notifications/message":
                line = protocol.read_log(told.params)
                self.log.append(line)
                self._on_event(StreamEvent(stream="log", data=line.encode(errors="replace")))

    async def _discover(self) -> None:
        version = protocol.STATELESS_VERSIONS[0]
        self.greeting = Greeting(version=version, stateless=True)
        answer = await self._ask("server/discover", {})
        if answer.error is not None:
            raise Answer("server/discover", answer.error)
        self.greeting = protocol.read_discovery(answer.result)

    async def _list(self) -> dict[str, Tool]:
        found: dict[str, Tool] = {}
        cursor = ""
        for _ in range(PAGES_MAX):
            answer = await self._ask("tools/list", {"cursor": cursor} if cursor else {})
            if answer.error is not None:
                raise Answer("tools/list", answer.error)
            page = protocol.read_page(answer.result)
            for tool in page.tools:
                if tool.name in found:
                    raise Malformed("tool_malformed", f"the server defines the tool `{tool.name}` twice")
                found[tool.name] = tool
            if len(found) > TOOLS_MAX:
                break
            cursor = page.cursor
            if not cursor:
                return found
        raise protocol.too_many()

    async def _ask(self, method: str, params: dict[str, Json], *, acts: bool = False) -> Answered:
        greeting = self.greeting
        if greeting is None:
            raise Gone("peer_gone", "the server was never greeted", ending=Ending.FAILED)
        if isinstance(self.link, McpSiteLink):
            self.link.label(greeting, method, params)
        if greeting.stateless:
            params = protocol.envelope(params, greeting.version, __version__)
        return await self.call(method, params, acts=acts)


def _unheard(_event: StreamEvent) -> None:
    """Nobody listens between orders."""
