"""The jsonrpc lane with real programs in real sandboxes: what is answered, what is recorded, what is left."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from assent.execution.attestations import ConfinementClass
from assent.execution.orders import FileOrder, HttpOrder, Limits, Pty, RpcCall
from assent.execution.outcomes import Ending, Outcome, StreamEvent
from assent.primitives.errors import InvariantBroken
from tests.execution.lane_world import eventually, processes_with
from tests.execution.rpc_world import LIMITS, World, calls, carried, rpc, world

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def here():
    async with world() as made:
        yield made


def shown(outcome: Outcome) -> tuple[Ending, str]:
    return outcome.ending, outcome.code


@pytest.mark.parametrize("framing", ["newline", "content-length"])
async def test_calls_are_answered_in_order_by_one_confined_program(here: World, framing):
    headed = ("headed",) if framing == "content-length" else ()
    heard: list[StreamEvent] = []
    order = rpc(here.peer("well", *headed), *calls(("add", "[1, 2]"), ("echo", '{"ü": [1.5]}'), "pid"), framing=framing)
    outcome = await carried(here.rpc, order, on_event=heard.append)
    assert shown(outcome) == (Ending.SUCCEEDED, "ok")
    first, second, third = outcome.value["answers"]
    assert (first, second) == ({"method": "add", "result": 3}, {"method": "echo", "result": {"ü": [1.5]}})
    facts = outcome.evidence.facts
    assert third["result"] > 1
    assert outcome.evidence.attestation.confinement is ConfinementClass.NAMESPACED
    assert facts["label"] == {"integrity": "third_party"}
    assert facts["program"]["exit"] == 0
    assert facts["program"]["death"]["proved_by"] == "pidfd"
    assert facts["stderr"] == "listening\n"
    assert [(event.stream, event.data) for event in heard] == [("stderr", b"listening\n")]


async def test_batch_is_answered_in_any_order_and_told_in_its_own(here: World):
    made = (*calls(("add", "[1, 2]")), RpcCall(method="note", notification=True), *calls(("add", "[3]")))
    outcome = await carried(here.rpc, rpc(here.peer("well"), *made, batch=True))
    assert shown(outcome) == (Ending.SUCCEEDED, "ok")
    assert outcome.value["answers"] == [
        {"method": "add", "result": 3}, {"method": "note"}, {"method": "add", "result": 3},
    ]  # fmt: skip


async def test_batch_names_what_is_missing_when_an_answer_lacks(here: World):
    outcome = await carried(here.rpc, rpc(here.peer("short-batch"), *calls("a", "b", "c"), batch=True))
    assert shown(outcome) == (Ending.UNKNOWN, "batch_incomplete")
    assert "`c`" in outcome.message


async def test_notification_reaches_the_program_and_has_no_answer(here: World):
    note = RpcCall(method="note", params='{"a":1}', notification=True)
    outcome = await carried(here.rpc, rpc(here.peer("well"), note, *calls("pid")))
    assert shown(outcome) == (Ending.SUCCEEDED, "ok")
    assert json.loads(here.told()) == {"jsonrpc": "2.0", "method": "note", "params": {"a": 1}}


async def test_error_answer_is_failed_with_its_code_and_the_rest_is_not_sent(here: World):
    outcome = await carried(here.rpc, rpc(here.peer("well"), *calls("fail", ("echo", '{"x":1}'))))
    assert shown(outcome) == (Ending.FAILED, "rpc_error")
    error = {"code": -32000, "message": "no", "data": {"why": 1}}
    assert outcome.value == {"answers": [{"method": "fail", "error": error}]}


async def test_error_answer_is_unknown_when_an_earlier_call_was_carried_out(here: World):
    acted = await carried(here.rpc, rpc(here.peer("well"), *calls("pid", "fail")))
    assert shown(acted) == (Ending.UNKNOWN, "rpc_error")
    only_read = rpc(here.peer("well"), *calls("pid", reads=True), *calls("fail"))
    assert shown(await carried(here.rpc, only_read)) == (Ending.FAILED, "rpc_error")


async def test_peers_own_request_is_answered_with_method_not_found(here: World):
    outcome = await carried(here.rpc, rpc(here.peer("asks-and-answers"), *calls("x")))
    assert shown(outcome) == (Ending.SUCCEEDED, "ok")
    assert outcome.value["answers"][0]["result"]["error"]["code"] == -32601
    assert outcome.value["answers"][0]["result"]["id"] == "mine"
    assert outcome.evidence.facts["asked"] == 1


async def test_line_that_is_no_message_is_noise_on_record(here: World):
    outcome = await carried(here.rpc, rpc(here.peer("noisy"), *calls("x")))
    assert shown(outcome) == (Ending.SUCCEEDED, "ok")
    assert outcome.evidence.facts["noise"] == "Server ready!\n"


async def test_large_answer_becomes_an_artefact_and_the_value_names_it(here: World):
    outcome = await carried(here.rpc, rpc(here.peer("large", "-", "2000000"), *calls("x")))
    assert shown(outcome) == (Ending.SUCCEEDED, "ok")
    named = outcome.value["answers"]
    assert named["bytes"] > 2_000_000
    kept = json.loads(here.artefacts.path(named["artefact"]).read_bytes())
    assert kept[0]["result"] == "x" * 2_000_000


HOSTILE = [
    ("wrong-id", "answer_unasked", ""), ("text-id", "answer_mistyped", ""), ("no-id", "answer_nameless", ""),
    ("endless-line", "message_limit", "message"), ("garbage", "noise_limit", "noise"), ("half", "peer_gone", ""),
    ("deep", "message_malformed", ""), ("nan", "message_malformed", ""), ("two-keys", "message_malformed", ""),
    ("notes", "told_limit", "told"), ("asks", "asked_limit", "asked"), ("eager", "answer_unasked", ""),
    ("next", "answer_unasked", ""),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "code", "limit"), HOSTILE)
async def test_hostile_program_settles_nothing_and_is_named(here: World, mode, code, limit):
    made = calls("x", "y") if mode == "next" else calls("x")
    outcome = await carried(here.rpc, rpc(here.peer(mode), *made))
    if mode == "garbage":  # the bytes hold braces, so either judgement is right
        assert outcome.code in {"noise_limit", "message_malformed"}
    else:
        assert (outcome.code, outcome.evidence.limit) == (code, limit)
    assert outcome.ending is Ending.UNKNOWN
    assert "result" not in str(outcome.value.get("answers", [{}])[1:])
    read = rpc(here.peer(mode), *calls(*(call.method for call in made), reads=True))
    assert (await carried(here.rpc, read)).ending is Ending.FAILED


@pytest.mark.parametrize(
    ("mode", "code"),
    [("huge-length", "message_limit"), ("negative-length", "frame_malformed"), ("two-lengths", "frame_malformed")],
)
async def test_hostile_header_settles_nothing_and_is_named(here: World, mode, code):
    outcome = await carried(here.rpc, rpc(here.peer(mode, "headed"), *calls("x"), framing="content-length"))
    assert shown(outcome) == (Ending.UNKNOWN, code)


async def test_second_answer_is_a_fault_when_the_next_call_waits(here: World):
    outcome = await carried(here.rpc, rpc(here.peer("twice"), *calls("x", "y")))
    assert shown(outcome) == (Ending.UNKNOWN, "answer_repeated")
    assert outcome.value["answers"] == [{"method": "x", "result": 1}]


async def test_unread_request_is_an_error_answer_and_not_a_doubt(here: World):
    outcome = await carried(here.rpc, rpc(here.peer("unreadable"), *calls("x")))
    assert shown(outcome) == (Ending.FAILED, "rpc_error")
    assert outcome.value["answers"][0]["error"]["code"] == -32700


@pytest.mark.parametrize(("reads", "ending"), [(False, Ending.UNKNOWN), (True, Ending.FAILED)])
async def test_silent_program_is_told_to_give_up_then_killed_at_the_wall_limit(here: World, reads, ending):
    order = rpc(here.peer("never"), *calls("x", reads=reads), cancel_method="$/cancelRequest",
                limits=Limits(wall_ms=1_500, grace_ms=200))  # fmt: skip
    outcome = await carried(here.rpc, order)
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (ending, "wall_limit", "wall")
    given_up = json.loads(here.told())
    assert given_up["method"] == "$/cancelRequest"
    assert given_up["params"]["id"] > 0
    assert outcome.evidence.facts["program"]["signal"] == "SIGTERM"


async def test_program_that_ignores_sigterm_and_its_daemon_are_gone_afterwards(here: World, marker):
    order = rpc(here.peer("stubborn", "-", marker), *calls("x"), limits=Limits(wall_ms=1_500, grace_ms=100))
    carry = asyncio.ensure_future(carried(here.rpc, order))
    assert await asyncio.to_thread(eventually, lambda: len(processes_with(marker)) >= 2)
    outcome = await carry
    assert shown(outcome) == (Ending.UNKNOWN, "wall_limit")
    assert processes_with(marker) == []


async def test_cancelled_carry_leaves_no_program(here: World, marker):
    carry = asyncio.ensure_future(carried(here.rpc, rpc(here.peer("stubborn", "-", marker), *calls("x"))))
    assert await asyncio.to_thread(eventually, lambda: len(processes_with(marker)) >= 2)
    carry.cancel()
    with pytest.raises(asyncio.CancelledError):
        await carry
    assert processes_with(marker) == []


async def test_program_that_never_comes_is_failed_with_its_own_reason(here: World):
    absent = await carried(here.rpc, rpc(here.program("no-such-program"), *calls("x")))
    assert shown(absent) == (Ending.FAILED, "program_missing")
    refused = await carried(here.rpc, rpc(here.peer("well"), *calls("x")), floor=ConfinementClass.BUILTIN)
    assert shown(refused) == (Ending.FAILED, "confinement_unmet")
    silent = await carried(here.rpc, rpc(here.program("true"), *calls("x")))
    assert silent.code == "peer_gone"


async def test_output_limit_ends_a_call_that_brings_too_much(here: World):
    order = rpc(here.peer("large", "-", "3000000"), *calls("x"), limits=Limits(output_bytes_max=1_000_000))
    outcome = await carried(here.rpc, order)
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.UNKNOWN, "output_limit", "output")


@pytest.mark.parametrize(
    "changes",
    [
        {"calls": ()}, {"calls": calls("")}, {"calls": calls("rpc.discover")}, {"calls": calls(("x", "7"))},
        {"calls": calls(("x", '{"a":1,"a":2}'))}, {"calls": calls("x" * 300)}, {"peer": "pty"}, {"peer": "stdin"},
        {"peer": "get"}, {"peer": "body"}, {"peer": "headed-site"},
    ],
)  # fmt: skip
async def test_order_is_refused_before_anything_starts_when_it_is_malformed(here: World, changes):
    site = HttpOrder(method="POST", url="http://127.0.0.1:1/", hosts=())
    peers = {
        "pty": here.program("true", pty=Pty()), "stdin": here.program("true", stdin=b"x"),
        "get": HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=()), "headed-site": site,
        "body": HttpOrder(method="POST", url="http://127.0.0.1:1/", hosts=(), body=b"x"),
    }  # fmt: skip
    peer: Any = peers.get(changes.get("peer", ""), here.peer("well"))
    framing = "content-length" if changes.get("peer") == "headed-site" else "newline"
    outcome = await carried(here.rpc, rpc(peer, *changes.get("calls", calls("x")), framing=framing))
    assert shown(outcome) == (Ending.FAILED, "order_malformed")
    assert outcome.evidence.attestation.mechanism == "none"


async def test_lane_refuses_as_a_bug_when_the_order_is_another_lanes(here: World):
    with pytest.raises(InvariantBroken):
        await carried(here.rpc, FileOrder(verb="stat", workspace="/tmp", path="x", limits=LIMITS))
