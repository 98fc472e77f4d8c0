"""The mcp lane against servers that lie, flood, hang and change: each is named, bounded, and gone afterwards."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assent.execution.attestations import ConfinementClass
from assent.execution.mcp_tools import definition_digest
from assent.execution.orders import Limits
from assent.execution.outcomes import Ending, StreamEvent
from tests.execution.lane_world import eventually, processes_with
from tests.execution.mcp_world import McpWorld, mcp_world

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
DO = definition_digest({"name": "do", "description": "A tool.", "inputSchema": {"type": "object"}})
SHORT = Limits(wall_ms=2_000, grace_ms=100, output_bytes_max=2**30)


@pytest.fixture
async def here():
    async with mcp_world() as made:
        yield made


async def test_definition_that_changes_under_a_session_stops_the_next_call(here: McpWorld):
    peer = here.peer("drift")
    first = await here.call(peer, "do", DO, session="s")
    assert (first.code, first.value["content"][0]["text"]) == ("ok", "call 1")
    second = await here.call(peer, "do", DO, session="s")
    assert (second.ending, second.code) == (Ending.FAILED, "definition_changed")
    assert second.value["definition"]["description"] == "Another tool."
    assert second.evidence.facts["earlier_orders"] == 1
    again = await here.call(peer, "do", second.value["found"], session="s")
    assert again.value["content"][0]["text"] == "call 2", "the call that was refused never reached the server"


async def test_definition_is_asked_again_after_a_while_though_nothing_was_said(here: McpWorld, monkeypatch):
    monkeypatch.setattr("assent.execution.adapters.mcp.clients.LISTED_MS", 0)
    other = here.peer("drift")
    assert (await here.call(other, "do", DO, session="s")).code == "ok"
    assert (await here.call(other, "do", DO, session="s")).code == "definition_changed"


@pytest.mark.parametrize(
    ("mode", "code", "limit"),
    [
        ("many-tools", "tools_limit", "tools"), ("endless-pages", "tools_limit", "tools"),
        ("one-page", "message_limit", "message"), ("same-name", "tool_malformed", ""),
        ("no-list", "message_malformed", ""), ("old-version", "version_refused", ""),
    ],
)  # fmt: skip
async def test_server_that_cannot_be_listed_is_failed_and_nothing_is_called(here: McpWorld, mode, code, limit):
    for outcome in (await here.list(here.peer(mode)), await here.call(here.peer(mode), "do", DO)):
        assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, code, limit)


async def test_list_is_whole_when_it_comes_in_pages(here: McpWorld):
    listed = await here.list(here.peer("pages"))
    assert [tool["name"] for tool in listed.value["tools"]] == [f"do{number}" for number in range(5)]
    assert len(listed.value["digests"]) == 5


async def test_old_revision_is_spoken_when_the_server_has_no_newer(here: McpWorld):
    outcome = await here.call(here.peer("first-version"), "do", DO)
    assert (outcome.code, outcome.evidence.facts["revision"]) == ("ok", "2024-11-05")
    asked = json.loads(here.world.told().splitlines()[0])["params"]
    assert asked["protocolVersion"] == "2025-11-25"
    assert asked["capabilities"] == {}


async def test_newest_revision_is_spoken_when_the_server_knows_no_handshake(here: McpWorld):
    admitted = await here.admitted(here.sdk("modern"), session="s")
    added = await here.call(here.sdk("modern"), "add", admitted["add"], arguments='{"a":2,"b":3}', session="s")
    assert (added.code, added.value["structured"]) == ("ok", {"result": 5})
    assert added.evidence.facts["revision"] == "2026-07-28"
    assert added.evidence.facts["server"] == "probe"


async def test_servers_own_requests_are_refused_and_its_ping_is_answered(here: McpWorld):
    outcome = await here.call(here.peer("asks"), "do", DO)
    assert outcome.code == "ok"
    pong, *refused = outcome.value["structured"]["answers"]
    assert (pong["id"], pong["result"]) == ("ping", {})
    assert [one["error"]["code"] for one in refused] == [-32601] * 3
    assert outcome.evidence.facts["asked"] == 4


def _image(data: str) -> dict[str, object]:
    return {"content": [{"type": "image", "mimeType": "image/png", "data": data}]}


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({"content": "words"}, "result_malformed"), ({"content": ["words"]}, "result_malformed"),
        ({"content": [{"type": "hologram"}]}, "result_malformed"), (_image("%%%"), "result_malformed"),
        ({"content": [{"type": "text"}]}, "result_malformed"), ({"content": [], "isError": 1}, "result_malformed"),
        ([], "result_malformed"), ({"content": [{"type": "resource"}]}, "result_malformed"),
        ({"content": [{"type": "text", "text": "x"}] * 1_001}, "result_malformed"),
        ({"resultType": "later", "content": []}, "result_malformed"), ({"resultType": "input_required"},
         "input_required"),
    ],
)  # fmt: skip
async def test_result_that_cannot_be_read_leaves_the_call_in_doubt(here: McpWorld, result, code):
    outcome = await here.call(here.peer("result", json.dumps(result)), "do", DO)
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, code)
    read = await here.call(here.peer("result", json.dumps(result)), "do", DO, reads=True)
    assert (read.ending, read.code) == (Ending.FAILED, code)


async def test_large_blocks_go_to_artefacts_and_the_value_stays_small(here: McpWorld):
    data = bytes(100) + b"picture"
    result = {"content": [{"type": "text", "text": "x" * 900_000}, *_image(base64.b64encode(data).decode())["content"]]}  # type: ignore[misc]
    (here.world.workspace / "result.json").write_text(json.dumps(result))
    program = here.world.workspace / "mcp_peer_program.py"
    program.write_text(program.read_text().replace("json.loads(MORE)", 'json.load(open("result.json"))'))
    outcome = await here.call(here.peer("result"), "do", DO)
    assert outcome.code == "ok", outcome.message
    named = outcome.value["content"]
    kept = json.loads(here.world.artefacts.path(named["artefact"]).read_bytes())
    assert kept[0]["text"] == "x" * 900_000
    assert here.world.artefacts.path(kept[1]["artefact"]).read_bytes() == data


@pytest.mark.parametrize(
    ("mode", "codes"),
    [("huge", {"message_limit"}), ("endless-line", {"message_limit"}), ("notes", {"told_limit"})],
)
async def test_flood_instead_of_an_answer_is_stopped_and_the_call_in_doubt(here: McpWorld, mode, codes):
    heard: list[StreamEvent] = []
    limits = Limits(wall_ms=60_000, output_bytes_max=2**30)
    outcome = await here.call(here.peer(mode), "do", DO, limits=limits, on_event=heard.append, session="s")
    assert (outcome.ending, outcome.code in codes) == (Ending.UNKNOWN, True), outcome.code
    assert outcome.evidence.limit
    assert all(len(event.data) < 1_000 for event in heard)
    assert here.lane._sessions._all == {}, "a connection in doubt is not kept"


async def test_output_of_one_call_is_bounded_by_its_own_limit_in_a_session(here: McpWorld):
    assert (await here.call(here.peer("huge"), "do", "sha256:" + "1" * 64, session="s")).code == "definition_changed"
    limits = Limits(wall_ms=60_000, output_bytes_max=100_000)
    outcome = await here.call(here.peer("huge"), "do", DO, limits=limits, session="s")
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.UNKNOWN, "output_limit", "output")


@pytest.mark.parametrize(("reads", "ending"), [(False, Ending.UNKNOWN), (True, Ending.FAILED)])
async def test_silent_server_is_told_and_then_killed_at_the_wall_limit(here: McpWorld, reads, ending):
    outcome = await here.call(here.peer("never"), "do", DO, reads=reads, limits=SHORT)
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (ending, "wall_limit", "wall")
    call, cancelled = [json.loads(line) for line in here.world.told().splitlines()][-2:]
    assert cancelled["method"] == "notifications/cancelled"
    assert cancelled["params"]["requestId"] == call["id"]


async def test_daemon_of_a_server_is_gone_when_its_order_is_over(here: McpWorld, marker):
    outcome = await here.call(here.peer("stubborn", marker), "do", DO, limits=SHORT)
    assert outcome.code == "ok"
    assert outcome.evidence.facts["program"]["signal"] == "SIGKILL"
    assert processes_with(marker) == []


async def test_daemon_of_a_session_lives_with_it_and_is_gone_when_the_lane_is_closed(here: McpWorld, marker):
    assert (await here.call(here.peer("stubborn", marker), "do", DO, limits=SHORT, session="s")).code == "ok"
    assert await asyncio.to_thread(eventually, lambda: len(processes_with(marker)) >= 2), "the daemon and its server"
    await here.lane.close()
    await here.lane.close()
    assert processes_with(marker) == []


async def test_cancelled_call_leaves_no_server_and_no_session(here: McpWorld, marker):
    order = here.call(here.peer("stubborn", marker), "do", DO, session="s")
    assert (await order).code == "ok"
    second = asyncio.ensure_future(here.call(here.peer("stubborn", marker), "do", DO, session="s"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await asyncio.to_thread(eventually, lambda: processes_with(marker) == [])
    assert here.lane._sessions._all == {}


async def test_new_server_is_started_when_the_one_of_the_session_died(here: McpWorld):
    for number in (1, 2):
        outcome = await here.call(here.peer("dies"), "do", DO, session="s")
        assert (outcome.code, outcome.value["content"][0]["text"]) == ("ok", "call 1"), number
        assert outcome.evidence.facts["earlier_orders"] == 0
        assert await asyncio.to_thread(eventually, lambda: not _usable(here))


def _usable(here: McpWorld) -> bool:
    return any(held.usable for held in here.lane._sessions._all.values())


async def test_new_server_is_started_when_the_one_of_the_session_is_found_gone(here: McpWorld, monkeypatch, marker):
    monkeypatch.setattr("assent.execution.adapters.mcp.clients.SURE_MS", 0)
    peer = here.peer("well", marker)
    assert (await here.call(peer, "do", DO, session="s")).value["content"][0]["text"] == "call 1"
    for pid in processes_with(marker):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # and the loop has not looked yet
    assert _usable(here)
    again = await here.call(peer, "do", DO, session="s")
    assert (again.code, again.value["content"][0]["text"]) == ("ok", "call 1")


async def test_call_is_in_doubt_when_the_server_ends_in_the_middle_of_its_answer(here: McpWorld):
    outcome = await here.call(here.peer("half"), "do", DO, session="s")
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "peer_gone")
    assert outcome.evidence.facts["program"]["exit"] == 3
    assert (await here.call(here.peer("half"), "do", DO, reads=True)).ending is Ending.FAILED


async def test_second_answer_ends_the_connection_before_the_next_call_is_made(here: McpWorld):
    peer = here.peer("twice")
    first = await here.call(peer, "do", DO, session="s")
    assert first.value["content"][0]["text"] == "call 1"
    second = await here.call(peer, "do", DO, session="s")
    assert (second.ending, second.code) == (Ending.FAILED, "answer_repeated")
    third = await here.call(peer, "do", DO, session="s")
    assert (third.code, third.value["content"][0]["text"]) == ("ok", "call 1"), "a new server"


async def test_session_that_would_end_during_the_order_is_not_given_to_it():
    async with mcp_world(session_ms=45_000) as here:
        limits = Limits(wall_ms=40_000)
        assert (await here.call(here.peer("well"), "do", DO, session="s", limits=limits)).code == "ok"
        longer = Limits(wall_ms=50_000)
        again = await here.call(here.peer("well"), "do", DO, session="s", limits=longer)
        assert (again.code, again.evidence.facts["earlier_orders"]) == ("ok", 0)


async def test_connection_is_given_back_when_whoever_listens_raises(here: McpWorld, marker):
    def broken(_event: StreamEvent) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await here.call(here.peer("floods", marker), "do", DO, session="s", on_event=broken)
    assert processes_with(marker) == []
    assert here.lane._sessions._all == {}


async def test_idle_session_is_closed_after_its_time(marker):
    async with mcp_world(idle_ms=50) as here:
        assert (await here.call(here.peer("well", marker), "do", DO, session="s")).code == "ok"
        assert await asyncio.to_thread(eventually, lambda: processes_with(marker) == [])
        assert here.lane._sessions._all == {}


async def test_sessions_are_bounded_the_idle_give_way_and_the_busy_do_not():
    async with mcp_world(sessions_max=2) as here:
        for name in ("a", "b", "c"):
            assert (await here.call(here.peer("well"), "do", DO, session=name)).code == "ok"
        assert len(here.lane._sessions._all) == 2
        busy = [
            asyncio.ensure_future(here.call(here.peer("never"), "do", DO, session=name, limits=Limits(wall_ms=20_000)))
            for name in ("d", "e")
        ]
        assert await asyncio.to_thread(eventually, lambda: here.world.told().count("tools/call") == 2)
        refused = await here.call(here.peer("well"), "do", DO, session="f")
        assert (refused.ending, refused.code, refused.evidence.limit) == (Ending.FAILED, "sessions_limit", "sessions")
        for one in busy:
            one.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def test_session_in_a_weaker_place_does_not_serve_an_order_with_a_higher_floor(here: McpWorld):
    assert (await here.call(here.peer("well"), "do", DO, session="s")).code == "ok"
    refused = await here.call(here.peer("well"), "do", DO, session="s", floor=ConfinementClass.BUILTIN)
    assert (refused.ending, refused.code) == (Ending.FAILED, "confinement_unmet")
    fresh = await here.call(here.peer("well"), "do", DO, floor=ConfinementClass.BUILTIN)
    assert (fresh.ending, fresh.code) == (Ending.FAILED, "confinement_unmet")


@pytest.mark.parametrize("mode", ["endless-line", "huge"])
def test_memory_stays_constant_when_a_server_sends_without_end(mode):
    program = Path(__file__).with_name("mcp_memory.py")
    run = subprocess.run([sys.executable, str(program), mode], capture_output=True, text=True, check=True, timeout=120)
    code, grown_kb = run.stdout.split()
    assert code == "message_limit"
    assert int(grown_kb) < 40_000, "one message of 4 MiB, its pieces and its copies"
