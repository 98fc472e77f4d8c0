"""The jsonrpc lane with a peer behind an HTTP address."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.jsonrpc import RpcLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import HttpOrder, Limits, RpcCall
from assent.execution.outcomes import Ending, Outcome
from tests.execution.rpc_world import calls, carried, rpc
from tests.execution.sites import Asked, RealClock, Site, endless_answer, no_answer, text_answer, whole

pytestmark = pytest.mark.anyio
JSON = "Content-Type: application/json; charset=utf-8"


class Counting:
    """Entropy that counts, so that the first id is 1."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, count: int) -> bytes:
        self._next += 1
        return self._next.to_bytes(count)


async def spoken(site: Site, *made: RpcCall, target: str = "/rpc", more: dict[str, Any] | None = None) -> Outcome:
    http = HttpLane(clock=RealClock())
    unused: Any = None
    lane = RpcLane(clock=RealClock(), entropy=Counting(), process=unused, http=http)
    where = f"127.0.0.1:{site.port}"
    peer = HttpOrder(method="POST", url=f"http://{where}{target}", hosts=(where,), idempotency_key="key-1")
    try:
        return await carried(lane, rpc(peer, *made, **{"limits": Limits(wall_ms=3_000), **(more or {})}))
    finally:
        await http.close()


async def answer_well(asked: Asked, writer: asyncio.StreamWriter) -> None:
    said = json.loads(asked.body)
    if isinstance(said, list):
        found: Any = [{"jsonrpc": "2.0", "id": one["id"], "result": one["method"]} for one in said if "id" in one]
    elif "id" in said:
        found = {"jsonrpc": "2.0", "id": said["id"], "result": said.get("params")}
    else:
        writer.write(whole(204))
        return
    writer.write(whole(200, json.dumps(found).encode(), JSON))


async def test_calls_are_posted_one_by_one_and_answered():
    async with Site(answer_well) as site:
        note = RpcCall(method="note", notification=True)
        outcome = await spoken(site, *calls(("a", "[1]")), note, *calls(("b", "[2]")))
    assert (outcome.ending, outcome.code) == (Ending.SUCCEEDED, "ok")
    assert [one.get("result") for one in outcome.value["answers"]] == [[1], None, [2]]
    assert [json.loads(one.body)["method"] for one in site.asked] == ["a", "note", "b"]
    assert {one.headers["content-type"] for one in site.asked} == {"application/json"}
    assert site.asked[0].headers["accept"] == "application/json"
    assert site.asked[0].headers["idempotency-key"] == "key-1"
    assert outcome.evidence.attestation.confinement is ConfinementClass.BUILTIN
    assert outcome.evidence.facts["site"]["address"] == "127.0.0.1"
    assert outcome.evidence.facts["label"] == {"integrity": "third_party"}


async def test_batch_is_one_post():
    async with Site(answer_well) as site:
        outcome = await spoken(site, *calls("a", "b"), more={"batch": True})
    assert [one["result"] for one in outcome.value["answers"]] == ["a", "b"]
    assert len(site.asked) == 1


ONE = b'{"jsonrpc":"2.0","id":1,"result":1}'
REFUSED = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bad"}}'


@pytest.mark.parametrize(
    ("answer", "ending", "code"),
    [
        (text_answer(ONE, 200, "Content-Type: text/html"), Ending.UNKNOWN, "content_type_refused"),
        (text_answer(ONE, 200), Ending.UNKNOWN, "content_type_refused"),
        (text_answer(b"data: " + ONE + b"\n\n", 200, "Content-Type: text/event-stream"), Ending.UNKNOWN,
         "content_type_refused"),
        (text_answer(b"", 200, JSON), Ending.UNKNOWN, "no_answer"),
        (text_answer(b"nonsense", 200, JSON), Ending.UNKNOWN, "message_malformed"),
        (text_answer(ONE.replace(b"1,", b"7,"), 200, JSON), Ending.UNKNOWN, "answer_unasked"),
        (text_answer(b"x" * 2_000_000, 200, JSON), Ending.UNKNOWN, "output_limit"),
        (text_answer(REFUSED, 200, JSON), Ending.FAILED, "rpc_error"),
        (text_answer(REFUSED, 400, JSON), Ending.FAILED, "rpc_error"),
        (text_answer(REFUSED, 500, JSON), Ending.FAILED, "rpc_error"),
        (text_answer(b'{"detail":"no"}', 404, JSON), Ending.FAILED, "http_status"),
        (text_answer(b"busy", 502), Ending.UNKNOWN, "http_status"),
        (text_answer(b"", 307, "Location: http://169.254.169.254/"), Ending.FAILED, "redirect_refused"),
        (text_answer(b"", 302, "Location: http://127.0.0.1:1/"), Ending.UNKNOWN, "redirect_refused"),
    ],
)  # fmt: skip
async def test_answer_that_is_none_is_named_and_judged(answer, ending, code):
    async with Site(answer) as site:
        outcome = await spoken(site, *calls("x"))
        assert (outcome.ending, outcome.code) == (ending, code), outcome.message
        assert len(site.asked) == 1
        read = await spoken(site, *calls("x", reads=True))
    assert (read.ending, read.code) == (Ending.FAILED, code)


@pytest.mark.slow
async def test_body_without_end_is_stopped_at_the_message_limit():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = endless_answer(head, b"10000\r\n" + b"x" * 65_536 + b"\r\n")
    async with Site(endless) as site:
        limits = Limits(wall_ms=20_000, output_bytes_max=2**30)
        outcome = await spoken(site, *calls("x"), more={"limits": limits, "message_bytes_max": 1_000_000})
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.UNKNOWN, "message_limit", "message")


@pytest.mark.slow
async def test_silent_server_is_left_at_the_wall_limit_and_the_call_is_in_doubt():
    async with Site() as site:
        site._answer = no_answer(lambda: site.over)
        outcome = await spoken(site, *calls("x"), more={"limits": Limits(wall_ms=300)})
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.UNKNOWN, "wall_limit", "wall")


async def test_nobody_there_is_failed():
    async with Site() as site:
        pass
    outcome = await spoken(site, *calls("x"))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "unreachable")


async def test_host_that_is_not_listed_is_failed():
    async with Site(answer_well) as site:
        http = HttpLane(clock=RealClock())
        unused: Any = None
        lane = RpcLane(clock=RealClock(), entropy=Counting(), process=unused, http=http)
        peer = HttpOrder(method="POST", url=f"http://127.0.0.1:{site.port}/", hosts=("example.org:443",))
        outcome = await carried(lane, rpc(peer, *calls("x")))
        await http.close()
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "host_refused")
    assert site.asked == []


async def test_cancelled_call_is_in_doubt_once_it_was_sent():
    async with Site() as site:
        site._answer = no_answer(lambda: site.over)
        work = asyncio.ensure_future(spoken(site, *calls("x")))
        await site.arrived.wait()
        work.cancel()
        outcome = await work
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "cancelled")
