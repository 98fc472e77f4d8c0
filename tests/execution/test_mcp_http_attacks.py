"""The mcp lane against servers behind an address that forget, redirect, drip, flood and lie."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.mcp import McpLane
from assent.execution.attestations import ConfinementClass
from assent.execution.mcp_tools import definition_digest
from assent.execution.orders import HttpOrder, Limits, McpOrder
from assent.execution.outcomes import Ending, Outcome
from tests.execution.rpc_world import carried
from tests.execution.sites import Asked, RealClock, Site, no_answer, text_answer, whole

pytestmark = pytest.mark.anyio
TOOL = {"name": "do", "description": "A tool.", "inputSchema": {"type": "object"}}
DO = definition_digest(TOOL)
JSON = "Content-Type: application/json"
EVENTS = "Content-Type: text/event-stream"
LIMITS = Limits(wall_ms=10_000)
Reply = Callable[[Any, asyncio.StreamWriter], bool]


def event(value: Any) -> bytes:
    return b"event: message\ndata: " + json.dumps({"jsonrpc": "2.0", **value}).encode() + b"\n\n"


class Server:
    """Streamable HTTP as a server speaks it. `differently` answers a message itself, or returns False."""

    def __init__(self, differently: Reply | None = None, *, session: str = "session-1") -> None:
        self._differently = differently
        self.session = session
        self.heard: list[Any] = []
        self.ended: list[str] = []

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.method == "DELETE":
            self.ended.append(asked.headers["mcp-session-id"])
            writer.write(whole(200))
            return
        said = json.loads(asked.body)
        self.heard.append(said)
        if self._differently is not None and self._differently(said, writer):
            return
        if "method" not in said or "id" not in said:
            writer.write(whole(202))
            return
        answer = json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": self.result(said)}).encode()
        writer.write(whole(200, answer, JSON, f"Mcp-Session-Id: {self.session}"))

    def result(self, said: Any) -> Any:
        results: dict[str, Any] = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "site"}},
            "tools/list": {"tools": [TOOL]},
            "tools/call": {"content": [{"type": "text", "text": "did"}]},
        }
        return results.get(said["method"], {})

    def methods(self) -> list[str]:
        return [one.get("method", "answer") for one in self.heard]


def on(method: str, act: Callable[[Any, asyncio.StreamWriter], object]) -> Reply:
    """Act when this method is asked."""

    def reply(said: Any, writer: asyncio.StreamWriter) -> bool:
        if said.get("method") != method:
            return False
        act(said, writer)
        return True

    return reply


class Gate:
    """A lane, and one site that it calls."""

    def __init__(self, site: Site) -> None:
        self.http = HttpLane(clock=RealClock())
        unused: Any = None
        self.lane = McpLane(clock=RealClock(), entropy=os.urandom, process=unused, http=self.http)
        where = f"127.0.0.1:{site.port}"
        self.peer = HttpOrder(method="POST", url=f"http://{where}/mcp", hosts=(where,), idempotency_key="key-1")

    async def call(self, **more: Any) -> Outcome:
        order = McpOrder(peer=self.peer, tool="do", definition=DO, **{"limits": LIMITS, **more})
        return await carried(self.lane, order)

    async def close(self) -> None:
        await self.lane.close()
        await self.http.close()


async def called(answer: Any, **more: Any) -> Outcome:
    """One call to a site that answers like this."""
    async with Site(answer) as site:
        gate = Gate(site)
        try:
            return await gate.call(**more)
        finally:
            await gate.close()


async def test_session_is_kept_named_in_no_record_and_ended_with_a_delete():
    server = Server()
    async with Site(server) as site:
        gate = Gate(site)
        outcomes = [await gate.call(session="s") for _ in range(2)]
        await gate.close()
    assert [one.code for one in outcomes] == ["ok", "ok"]
    assert server.methods() == ["initialize", "notifications/initialized", "tools/list", "tools/call", "tools/call"]
    first, *later = (one.headers for one in site.asked)
    assert "mcp-session-id" not in first
    assert {headers["mcp-session-id"] for headers in later} == {"session-1"}
    assert {headers["mcp-protocol-version"] for headers in later} == {"2025-11-25"}
    assert server.ended == ["session-1"]
    assert "session-1" not in json.dumps([one.evidence.facts for one in outcomes])
    keyed = [json.loads(one.body)["method"] for one in site.asked if one.body and "idempotency-key" in one.headers]
    assert keyed == ["tools/call", "tools/call"], "only what the order is about carries its key"
    assert outcomes[0].evidence.attestation.confinement is ConfinementClass.BUILTIN


async def test_forgotten_session_is_begun_anew_once_and_the_call_made_once():
    forgotten: list[int] = []

    def forget(said: Any, writer: asyncio.StreamWriter) -> bool:
        if said.get("method") != "tools/call" or len(server.heard) < 5 or forgotten:
            return False
        forgotten.append(said["id"])
        writer.write(whole(404))
        return True

    server = Server(forget)
    async with Site(server) as site:
        gate = Gate(site)
        first, second = [await gate.call(session="s") for _ in range(2)]
        await gate.close()
    assert (first.code, second.code) == ("ok", "ok")
    assert forgotten
    assert server.methods().count("initialize") == 2


async def test_session_that_is_forgotten_each_time_is_failed():
    server = Server(on("tools/call", lambda _said, writer: writer.write(whole(404))))
    outcome = await called(server, session="s")
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "session_lost")


async def test_answer_in_a_stream_without_end_is_taken_and_the_stream_left():
    def stream(said: Any, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\n{EVENTS}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        body = event({"method": "notifications/message", "params": {"level": "info", "data": "hello"}}) + event(
            {"id": said["id"], "result": {"content": []}}
        )
        writer.write(head + f"{len(body):x}\r\n".encode() + body + b"\r\n")

    outcome = await called(Server(on("tools/call", stream)))
    assert (outcome.ending, outcome.code) == (Ending.SUCCEEDED, "ok")
    assert outcome.evidence.facts["log"] == ["info: hello"]


@pytest.mark.slow
async def test_stream_without_end_and_without_answer_is_left_at_the_wall_limit():
    def stream(_said: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{EVENTS}\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n: wait\n\r\n".encode())

    outcome = await called(Server(on("tools/call", stream)), limits=Limits(wall_ms=800))
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.UNKNOWN, "wall_limit", "wall")


async def test_servers_requests_in_a_stream_are_answered_by_posts_of_their_own():
    def stream(said: Any, writer: asyncio.StreamWriter) -> None:
        asks = event({"id": 7, "method": "ping"}) + event({"id": "x", "method": "roots/list"})
        writer.write(whole(200, asks + event({"id": said["id"], "result": {"content": []}}), EVENTS))

    server = Server(on("tools/call", stream))
    outcome = await called(server)
    assert outcome.code == "ok"
    answers = [one for one in server.heard if "method" not in one]
    assert answers[0] == {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert answers[1]["error"]["code"] == -32601


@pytest.mark.parametrize(
    ("answer", "ending", "code"),
    [
        (text_answer(b"", 307, "Location: http://169.254.169.254/latest"), Ending.FAILED, "redirect_refused"),
        (text_answer(b"", 302, "Location: http://127.0.0.1:1/"), Ending.FAILED, "redirect_refused"),
        (text_answer(b"<html>", 200, "Content-Type: text/html"), Ending.FAILED, "content_type_refused"),
        (text_answer(b"", 202), Ending.FAILED, "content_type_refused"),
        (text_answer(b"", 401), Ending.FAILED, "http_status"),
        (text_answer(b"", 502), Ending.FAILED, "http_status"),
        (text_answer(event({"id": 77, "result": {}}), 200, EVENTS), Ending.FAILED, "answer_unasked"),
        (text_answer(b"data: nonsense\n\n", 200, EVENTS), Ending.FAILED, "message_malformed"),
        (text_answer(b"", 200, EVENTS), Ending.FAILED, "no_answer"),
        (text_answer(b"data: " + b"x" * 1_500_000, 200, EVENTS), Ending.FAILED, "output_limit"),
        (Server(session="a b"), Ending.FAILED, "message_malformed"),
    ],
)  # fmt: skip
async def test_server_that_cannot_be_greeted_is_failed_and_nothing_is_called(answer, ending, code):
    outcome = await called(answer)
    assert (outcome.ending, outcome.code) == (ending, code), outcome.message


def _moved(status: int, target: str) -> Reply:
    return on("tools/call", lambda _said, writer: writer.write(whole(status, b"", f"Location: {target}")))


@pytest.mark.parametrize(
    ("reply", "ending", "code"),
    [
        (_moved(307, "http://169.254.169.254/"), Ending.FAILED, "redirect_refused"),
        (_moved(303, "http://10.0.0.1/"), Ending.UNKNOWN, "redirect_refused"),
        (on("tools/call", lambda _said, writer: writer.write(whole(200, b"ok", "Content-Type: text/plain"))),
         Ending.UNKNOWN, "content_type_refused"),
        (on("tools/call", lambda _said, writer: writer.write(whole(500))), Ending.FAILED, "http_status"),
        (on("tools/call", lambda _said, writer: writer.write(whole(504))), Ending.UNKNOWN, "http_status"),
        (on("tools/call", lambda said, writer: writer.write(
            whole(200, event({"id": str(said["id"]), "result": {"content": []}}), EVENTS))),
         Ending.UNKNOWN, "answer_mistyped"),
        (on("tools/call", lambda said, writer: writer.write(
            whole(200, event({"id": said["id"], "error": {"code": -32602, "message": "unknown tool"}}), EVENTS))),
         Ending.FAILED, "rpc_error"),
        (on("tools/call", lambda _said, writer: writer.transport.abort()), Ending.UNKNOWN, "no_answer"),
    ],
)  # fmt: skip
async def test_call_that_is_not_answered_is_judged_by_what_may_have_happened(reply, ending, code):
    outcome = await called(Server(reply))
    assert (outcome.ending, outcome.code) == (ending, code), outcome.message
    assert (await called(Server(reply), reads=True)).ending is Ending.FAILED


async def test_cancelled_call_is_in_doubt_once_it_was_sent():
    reached = asyncio.Event()

    def hang(_said: Any, _writer: asyncio.StreamWriter) -> None:
        reached.set()

    async with Site(Server(on("tools/call", hang))) as site:
        gate = Gate(site)
        work = asyncio.ensure_future(gate.call())
        await reached.wait()
        work.cancel()
        outcome = await work
        await gate.close()
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "cancelled")


async def test_cancelled_greeting_passes_through():
    async with Site() as site:
        site._answer = no_answer(lambda: site.over)
        gate = Gate(site)
        work = asyncio.ensure_future(gate.call())
        await site.arrived.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await gate.close()
