"""JSON-RPC calls as operations: what policy sees of them, and the exact order they become."""

from __future__ import annotations

from typing import Any

import pytest

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations, breach
from assent.execution.orders import HttpOrder, Limits, ProcessOrder, RpcCall, RpcOrder
from assent.ledger.connectors.jsonrpc import JSONRPC
from assent.ledger.contracts import EffectClass, Idempotency
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.errors import Malformed

PLACE = Place(workspace="/srv/ws")
LIMITS = Limits(wall_ms=10_000)
OBLIGATIONS = Obligations(hosts=("example.org:443",), limits=LIMITS)
SITE, PROGRAM = JSONRPC
URL = {"url": "HTTPS://Example.org/rpc"}


def test_contracts_are_irreversible_and_never_repeated_when_read():
    for operation in JSONRPC:
        contract = operation.contract
        assert (contract.effect, contract.idempotency) == (EffectClass.IRREVERSIBLE, Idempotency.NONE)
        assert (contract.observer, contract.floor) == ("", ConfinementClass.LOCAL_WEAK)
        assert {"method", "params"} <= {a.name for a in contract.arguments if a.authority}
        assert operation.observation({}) is None
        assert operation.judge({}, "ok", {}) is Judgement.UNCLEAR


def test_call_becomes_one_post_in_canonical_spelling_when_planned():
    given = {**URL, "method": "stop", "params": {"b": 1, "a": [2.0]}}
    order = SITE.plan(given, PLACE, OBLIGATIONS, "key-1")
    peer = HttpOrder(
        method="POST",
        url="https://example.org/rpc",
        hosts=("example.org:443",),
        redirects_max=0,
        idempotency_key="key-1",
    )
    assert order == RpcOrder(peer=peer, calls=(RpcCall(method="stop", params='{"a":[2],"b":1}'),), limits=LIMITS)
    assert SITE.facts(given, PLACE) == Facts(host="example.org:443", method="POST", payload_bytes=15)
    assert breach(order, OBLIGATIONS) == ""
    assert breach(order, Obligations(limits=LIMITS)) == "hosts"


def test_run_becomes_one_confined_program_when_planned():
    given: dict[str, Any] = {"argv": ["./peer", "-x"], "cwd": "sub", "method": "stop", "content_length": True}
    order = PROGRAM.plan(given, PLACE, OBLIGATIONS, "key-1")
    assert order == RpcOrder(
        peer=ProcessOrder(argv=("/srv/ws/sub/peer", "-x"), workspace="/srv/ws", cwd="sub"),
        calls=(RpcCall(method="stop"),),
        framing="content-length",
        limits=LIMITS,
    )
    assert PROGRAM.facts(given, PLACE) == Facts(path="sub", program="/srv/ws/sub/peer")
    assert PROGRAM.facts({"argv": ["/usr/bin/git"], "method": "m"}, PLACE).program == "git"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"method": ""}, "method_malformed"), ({"method": "rpc.discover"}, "method_malformed"),
        ({"method": "a\nb"}, "method_malformed"), ({"method": "x" * 257}, "arguments_invalid"),
        ({"params": "text"}, "params_malformed"), ({"params": 7}, "params_malformed"),
        ({"params": {"x": float("nan")}}, "arguments_invalid"), ({"reads": True}, "arguments_invalid"),
        ({"url": "ftp://example.org/"}, "url_refused"), ({"url": "https://user:pw@example.org/"}, "url_refused"),
    ],
)  # fmt: skip
def test_call_is_malformed_when_it_is_not_one_call_to_one_peer(changes, code):
    given = {**URL, "method": "m", **changes}
    for read in (SITE.facts, lambda g, p: SITE.plan(g, p, OBLIGATIONS, "")):
        with pytest.raises(Malformed) as caught:
            read(given, PLACE)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"argv": []}, "argv_malformed"), ({"argv": ["x\0"]}, "argv_malformed"),
        ({"argv": ["a/.."]}, "program_malformed"),        ({"cwd": "/etc"}, "outside_workspace"),
    ],
)  # fmt: skip
def test_run_is_malformed_when_its_program_is_none(changes, code):
    with pytest.raises(Malformed) as caught:
        PROGRAM.plan({"argv": ["x"], "method": "m", **changes}, PLACE, OBLIGATIONS, "")
    assert caught.value.code == code
