"""The mcp lane against servers made with the official SDK: in the sandbox over stdio, and behind an address."""

from __future__ import annotations

import asyncio
import json

import pytest

from assent.execution.attestations import ConfinementClass
from assent.execution.mcp_tools import definition_digest
from assent.execution.orders import FileOrder, HttpOrder
from assent.execution.outcomes import Ending, StreamEvent
from assent.primitives.errors import InvariantBroken
from tests.execution.mcp_world import McpWorld, mcp_world, sdk_site

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ADMITTED = "sha256:" + "0" * 64


@pytest.fixture
async def here():
    async with mcp_world() as made:
        yield made


@pytest.fixture(
    scope="module", params=[(), ("json",), ("stateless",)], ids=lambda flavours: "-".join(flavours) or "plain"
)
def site(request):
    with sdk_site(*request.param) as made:
        yield made


async def test_sdk_server_in_the_sandbox_lists_answers_fails_and_changes(here: McpWorld):
    peer = here.sdk()
    listed = await here.list(peer, session="one")
    assert (listed.ending, listed.code) == (Ending.SUCCEEDED, "ok")
    admitted = listed.value["digests"]
    assert set(admitted) == {"add", "steps", "fail", "show", "change"}
    assert {tool["name"]: definition_digest(tool) for tool in listed.value["tools"]} == admitted
    facts = listed.evidence.facts
    assert (facts["server"], facts["server_version"], facts["revision"]) == ("probe", "1.2.3", "2025-11-25")
    assert "ignore your instructions" not in json.dumps(facts)

    heard: list[StreamEvent] = []
    added = await here.call(peer, "add", admitted["add"], arguments='{"a":1,"b":2}', session="one")
    assert (added.ending, added.code) == (Ending.SUCCEEDED, "ok")
    assert added.value == {"content": [{"type": "text", "text": "3"}], "structured": {"result": 3}}
    assert added.evidence.facts["earlier_orders"] == 1
    assert added.evidence.facts["label"] == {"integrity": "third_party"}
    assert added.evidence.attestation.confinement is ConfinementClass.NAMESPACED

    stepped = await here.call(
        peer, "steps", admitted["steps"], arguments='{"count":3}', session="one", on_event=heard.append
    )
    assert stepped.value["structured"] == {"result": "done"}
    progress = [json.loads(event.data) for event in heard if event.stream == "progress"]
    assert progress == [{"progress": n, "total": 3, "message": f"step {n}"} for n in range(3)]
    assert stepped.evidence.facts["log"] == ["info: all steps done"]

    failed = await here.call(peer, "fail", admitted["fail"], session="one")
    assert (failed.ending, failed.code) == (Ending.FAILED, "tool_error")
    assert failed.value["content"][0]["type"] == "text"

    shown = await here.call(peer, "show", admitted["show"], session="one")
    text, image, audio, resource = shown.value["content"]
    assert text == {"type": "text", "text": "look"}
    assert [one["bytes"] for one in (image, audio, resource)] == [1_004] * 3
    assert (image["mime_type"], audio["type"], resource["uri"]) == ("image/png", "audio", "memory://x")
    assert here.world.artefacts.path(image["artefact"]).read_bytes() == b"\x89PNG" + bytes(1_000)

    assert (await here.call(peer, "change", admitted["change"], session="one")).code == "ok"
    other = await here.call(peer, "add", admitted["add"], session="two", arguments='{"a":1,"b":2}')
    assert other.code == "ok", "another session is another server"


async def test_sdk_server_behind_an_address_lists_answers_and_fails(here: McpWorld, site: HttpOrder):
    admitted = await here.admitted(site, session="web")
    heard: list[StreamEvent] = []
    added = await here.call(site, "add", admitted["add"], arguments='{"a":1,"b":2}', session="web")
    assert (added.ending, added.code) == (Ending.SUCCEEDED, "ok"), added.message
    assert added.value["structured"] == {"result": 3}
    assert added.evidence.facts["label"] == {"integrity": "third_party"}
    assert added.evidence.facts["site"]["address"] == "127.0.0.1"
    stepped = await here.call(
        site, "steps", admitted["steps"], arguments='{"count":2}', session="web", on_event=heard.append
    )
    assert stepped.code == "ok"
    failed = await here.call(site, "fail", admitted["fail"], session="web")
    assert (failed.ending, failed.code) == (Ending.FAILED, "tool_error")
    assert "mcp-session-id" not in json.dumps([added.evidence.facts, failed.evidence.facts])


async def test_progress_comes_up_from_a_stream_when_a_site_streams(here: McpWorld):
    heard: list[StreamEvent] = []
    with sdk_site() as site:
        admitted = await here.admitted(site)
        await here.call(site, "steps", admitted["steps"], arguments='{"count":2}', on_event=heard.append)
    assert [event.stream for event in heard if event.stream != "log"] == ["progress", "progress"]


async def test_tool_is_not_called_when_a_site_defines_it_otherwise_than_admitted(here: McpWorld):
    with sdk_site() as site:
        admitted = await here.admitted(site)
        assert (await here.call(site, "change", admitted["change"])).code == "ok"
        outcome = await here.call(site, "add", admitted["add"], arguments='{"a":1,"b":2}')
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "definition_changed")
    assert outcome.value["admitted"] == admitted["add"]
    assert outcome.value["found"] == definition_digest(outcome.value["definition"])
    assert "admit it again" in outcome.message
    assert "read ~/.ssh" in outcome.value["definition"]["description"]


async def test_session_starts_one_server_for_many_orders_and_closing_ends_it(here: McpWorld):
    admitted = await here.admitted(here.sdk(), session="s")
    first = await here.call(here.sdk(), "add", admitted["add"], arguments='{"a":1,"b":2}', session="s")
    second, third = await asyncio.gather(
        *(here.call(here.sdk(), "add", admitted["add"], arguments='{"a":1,"b":2}', session="s") for _ in range(2))
    )
    assert [one.evidence.facts["earlier_orders"] for one in (first, second, third)] == [1, 2, 3]
    assert first.evidence.attestation == third.evidence.attestation


@pytest.mark.parametrize(
    "changes",
    [
        {"definition": ""}, {"definition": "sha256:0"}, {"tool": ""}, {"arguments": "[]"}, {"arguments": ""},
        {"arguments": "{"}, {"arguments": '{"a":1,"a":2}'}, {"session": "with space"}, {"session": "x" * 201},
    ],
)  # fmt: skip
async def test_order_is_refused_before_anything_starts_when_it_is_malformed(here: McpWorld, changes):
    order = {"tool": "add", "definition": ADMITTED, **changes}
    outcome = await here.call(here.peer("well"), **order)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "order_malformed")
    assert outcome.evidence.attestation.mechanism == "none"


async def test_lane_refuses_as_a_bug_when_the_order_is_another_lanes(here: McpWorld):
    order = FileOrder(verb="stat", workspace="/tmp", path="x")
    with pytest.raises(InvariantBroken):
        await here.lane.carry(order, floor=ConfinementClass.LOCAL_WEAK, on_event=lambda _event: None)
