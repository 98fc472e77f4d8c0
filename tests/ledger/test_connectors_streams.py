"""The operations that listen, talk and upload: what policy is told, and the exact order."""

from __future__ import annotations

from typing import Any

import pytest

from assent.execution.obligations import Obligations, breach
from assent.execution.orders import HttpOrder, Limits, Message, SseOrder, Upload, WebSocketOrder
from assent.ledger.connectors import streams
from assent.ledger.contracts import EffectClass, Idempotency
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.errors import Malformed

PLACE = Place(workspace="/srv/ws")
LIMITS = Limits(wall_ms=5_000)
HOLDS = Obligations(hosts=("example.org:443",), limits=LIMITS)
URL, WS = "HTTPS://Example.org/a?b", "WSS://Example.org:443/chat"
SOUND: dict[Any, dict[str, Any]] = {
    streams.EVENTS: {"url": URL},
    streams.LISTEN: {"url": WS},
    streams.TALK: {"url": WS, "messages": ["zw\u00f6lf", ""]},
    streams.UPLOAD: {"url": URL, "path": "./notes/../a.bin"},
}


@pytest.mark.parametrize(
    ("operation", "effect", "idempotency"),
    [
        (streams.EVENTS, EffectClass.READ, Idempotency.NATURAL),
        (streams.LISTEN, EffectClass.READ, Idempotency.NATURAL),
        (streams.TALK, EffectClass.IRREVERSIBLE, Idempotency.NONE),
        (streams.UPLOAD, EffectClass.IRREVERSIBLE, Idempotency.NATURAL),
    ],
    ids=lambda value: value.contract.name if hasattr(value, "contract") else None,
)
def test_contract_declares_its_effect_and_one_host(operation, effect, idempotency):
    contract = operation.contract
    assert (contract.effect, contract.idempotency, contract.hosts, contract.connector) == (
        effect, idempotency, "url", "http",
    )  # fmt: skip
    facts = operation.facts(SOUND[operation], PLACE)
    assert facts.host == "example.org:443"
    assert operation.observation(SOUND[operation]) is None
    assert operation.judge(SOUND[operation], "ok", {}) is Judgement.UNCLEAR
    assert breach(operation.plan(SOUND[operation], PLACE, HOLDS, "k"), HOLDS) == ""


def test_facts_say_what_is_sent_and_where_it_comes_from():
    assert streams.TALK.facts(SOUND[streams.TALK], PLACE).payload_bytes == 6
    assert streams.UPLOAD.facts(SOUND[streams.UPLOAD], PLACE) == Facts(
        path="a.bin", host="example.org:443", method="PUT"
    )
    assert not streams.UPLOAD.facts({"url": URL, "path": "../secret"}, PLACE).inside_workspace


def test_orders_are_exact():
    assert streams.EVENTS.plan(
        SOUND[streams.EVENTS] | {"events": 3, "seconds": 2, "last_event_id": "7", "reconnects": 1}, PLACE, HOLDS, "k"
    ) == SseOrder(
        url="https://example.org/a?b", hosts=HOLDS.hosts, last_event_id="7", reconnects_max=1, events_max=3,
        listen_ms=2_000, limits=LIMITS,
    )  # fmt: skip
    assert streams.LISTEN.plan(SOUND[streams.LISTEN], PLACE, HOLDS, "k") == WebSocketOrder(
        url="wss://example.org/chat", hosts=HOLDS.hosts, reconnects_max=3, messages_max=100, listen_ms=4_500,
        limits=LIMITS,
    )  # fmt: skip
    assert streams.TALK.plan(SOUND[streams.TALK] | {"stays_open": True}, PLACE, HOLDS, "k") == WebSocketOrder(
        url="wss://example.org/chat", hosts=HOLDS.hosts,
        messages=(Message(data="zw\u00f6lf".encode()), Message(data=b"")), stays_open=True, messages_max=1,
        listen_ms=4_500, limits=LIMITS,
    )  # fmt: skip
    assert streams.UPLOAD.plan(SOUND[streams.UPLOAD] | {"retries": 2}, PLACE, HOLDS, "k") == HttpOrder(
        method="PUT", url="https://example.org/a?b", hosts=HOLDS.hosts,
        headers=(("content-type", "text/plain; charset=utf-8"),),
        upload=Upload(workspace="/srv/ws", path="a.bin"), redirects_max=0, retries_max=2, idempotency_key="k",
        limits=LIMITS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        (streams.EVENTS, {"url": "wss://example.org/"}), (streams.LISTEN, {"url": "https://example.org/"}),
        (streams.TALK, {"url": "ws://user@example.org/"}), (streams.EVENTS, {"events": 0}),
        (streams.LISTEN, {"answers": 10_001}), (streams.TALK, {"seconds": 0}), (streams.LISTEN, {"reconnects": -1}),
        (streams.EVENTS, {"headers": {"Authorization": "x"}}), (streams.TALK, {"headers": {"Cookie": "x"}}),
        (streams.TALK, {"messages": "x"}), (streams.TALK, {"messages": ["x" * 70_000]}), (streams.UPLOAD, {"path": ""}),
        (streams.UPLOAD, {"retries": 11}), (streams.LISTEN, {"messages": ["x"]}),
    ],
)  # fmt: skip
def test_call_is_refused_before_policy_when_an_argument_is_unsound(operation, more):
    for call in (
        lambda: operation.facts(SOUND[operation] | more, PLACE),
        lambda: operation.plan(SOUND[operation] | more, PLACE, HOLDS, "k"),
    ):
        with pytest.raises(Malformed):
            call()


def test_upload_is_refused_when_it_leads_outside():
    with pytest.raises(Malformed) as refused:
        streams.UPLOAD.plan({"url": URL, "path": "../secret"}, PLACE, HOLDS, "k")
    assert refused.value.code == "outside_workspace"
