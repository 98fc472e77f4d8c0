from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.execution.attestations import ConfinementClass
from assent.execution.hosts import allow_list, split_authority
from assent.execution.obligations import Obligations, breach
from assent.execution.orders import HttpOrder, Limits
from assent.execution.urls import parse_url
from assent.ledger.connectors import http
from assent.ledger.contracts import EffectClass, Idempotency
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.errors import Malformed

PLACE = Place(workspace="/srv/ws")
LIMITS = Limits(wall_ms=1_234, output_bytes_max=99)
OBLIGATIONS = Obligations(hosts=("example.org:443", "127.0.0.1:8080"), limits=LIMITS)
URL = "https://example.org/a?b=c"
TEXT = ("content-type", "text/plain; charset=utf-8")
HAPPENED, NOT_HAPPENED, UNCLEAR = Judgement.HAPPENED, Judgement.NOT_HAPPENED, Judgement.UNCLEAR
X = EffectClass.IRREVERSIBLE
SENT = {"url", "headers", "body", "body_base64", "content_type"}


def name_of(operation: http.HttpOperation) -> str:
    return operation.contract.name


def sound(operation: http.HttpOperation) -> dict[str, Any]:
    return {"url": URL} | ({"body": "new"} if operation in {http.PUT, http.POST} else {})


@pytest.mark.parametrize(
    ("operation", "effect", "idempotency", "names", "observer"),
    [
        (http.GET, EffectClass.READ, Idempotency.NATURAL, {"url", "headers", "retries"}, ""),
        (http.HEAD, EffectClass.READ, Idempotency.NATURAL, {"url", "headers", "retries"}, ""),
        (http.PUT, X, Idempotency.NATURAL, {*SENT, "retries"}, "http.get"),
        (http.POST, X, Idempotency.NONE, SENT, ""),
        (http.DELETE, X, Idempotency.NATURAL, {"url", "headers", "retries"}, "http.get"),
    ],
    ids=lambda value: name_of(value) if isinstance(value, http.HttpOperation) else None,
)
def test_http_contract_declares_its_effect_when_read(operation, effect, idempotency, names, observer):
    contract = operation.contract
    assert (contract.effect, contract.idempotency, contract.observer) == (effect, idempotency, observer)
    assert {a.name for a in contract.arguments} == names
    assert {a.name for a in contract.arguments if a.authority} == {"url", "headers"}
    assert (contract.floor, contract.hosts, contract.connector) == (ConfinementClass.LOCAL_WEAK, "url", "http")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.org", "example.org:443"),
        ("HTTPS://EXAMPLE.org./", "example.org:443"),
        ("http://example.org/", "example.org:80"),
        ("http://example.org:443/", "example.org:443"),
        ("https://example.org:8443/a#b", "example.org:8443"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("http://[::0001]:8080/", "[::1]:8080"),
        ("http://[2001:DB8::1]/", "[2001:db8::1]:80"),
    ],
)
def test_http_facts_name_one_host_when_it_is_spelled_differently(url, host):
    assert http.GET.facts({"url": url}, PLACE) == Facts(host=host, method="GET")
    assert allow_list([host]).admits(*split_authority(host, default_port=None))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/a",
        "//example.org/",
        "file:///etc/passwd",
        "ftp://example.org/",
        "https://",
        "https:///a",
        "https://user@example.org/",
        "https://example.org@evil.test/",
        "https://example.org\\@evil.test/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://example.org:٤٤٣/",
        "https://exa mple.org/",
        "https://example.org\0.evil.test/",
        "https://example.org/\r\nHost: evil.test",
        "https://example.org/\u202e",
        "https://\uff45xample.org/",
        "http://2130706433/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://0x7f.1/",
        "http://[::1%25eth0]/",
        "http://::1/",
        " https://example.org/",
        "https://example.org/" + "a" * 8_192,
    ],
)
def test_http_refuses_when_two_readers_could_disagree_about_the_url(url):
    for call in (
        lambda: http.DELETE.facts({"url": url}, PLACE),
        lambda: http.DELETE.plan({"url": url}, PLACE, OBLIGATIONS, ""),
    ):
        with pytest.raises(Malformed):
            call()


@pytest.mark.parametrize(
    ("operation", "arguments", "order"),
    [
        (http.GET, {}, {"method": "GET", "redirects_max": 3, "retries_max": 2}),
        (
            http.HEAD,
            {"headers": {"Accept": "*/*"}},
            {"method": "HEAD", "headers": (("accept", "*/*"),), "redirects_max": 3, "retries_max": 2},
        ),
        (http.PUT, {"body": "é"}, {"method": "PUT", "body": b"\xc3\xa9", "headers": (TEXT,), "idempotency_key": "k/1"}),
        (http.PUT, {"body": ""}, {"method": "PUT", "headers": (TEXT,), "idempotency_key": "k/1"}),
        (
            http.POST,
            {"body": "{}", "content_type": "application/json", "headers": {"X-B": "2", "Accept": "a"}},
            {
                "method": "POST",
                "body": b"{}",
                "headers": (("content-type", "application/json"), ("accept", "a"), ("x-b", "2")),
                "idempotency_key": "k/1",
            },
        ),
        (
            http.PUT,
            {"body_base64": "AP8=", "retries": 3},
            {"method": "PUT", "body": b"\0\xff", "headers": (TEXT,), "idempotency_key": "k/1", "retries_max": 3},
        ),
        (http.POST, {}, {"method": "POST", "headers": (TEXT,), "idempotency_key": "k/1"}),
        (
            http.DELETE,
            {"headers": {"If-Match": '"1"'}},
            {"method": "DELETE", "headers": (("if-match", '"1"'),), "idempotency_key": "k/1"},
        ),
    ],
)
def test_http_plan_is_the_exact_order_when_the_arguments_are_sound(operation, arguments, order):
    made = operation.plan({"url": URL} | arguments, PLACE, OBLIGATIONS, "k/1")
    assert made == HttpOrder(**({"url": URL, "hosts": OBLIGATIONS.hosts, "limits": LIMITS, "redirects_max": 0} | order))
    assert breach(made, OBLIGATIONS) == ""
    facts = operation.facts({"url": URL} | arguments, PLACE)
    assert facts == Facts(host="example.org:443", method=made.method, payload_bytes=len(made.body))


def test_http_plan_carries_the_canonical_url_when_it_was_written_otherwise():
    order = http.GET.plan({"url": "HTTPS://Example.ORG.:443?q#secret"}, PLACE, OBLIGATIONS, "")
    assert order.url == "https://example.org/?q"


@pytest.mark.parametrize("headers", [{"B": "2", "a": "1"}, {"a": "1", "b": "2"}, {"b": "2", "A": "1"}])
def test_http_plan_is_the_same_when_headers_are_written_in_another_order(headers):
    order = http.GET.plan({"url": URL, "headers": headers}, PLACE, OBLIGATIONS, "")
    assert order.headers == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Authorization": "Bearer x"},
        {"Cookie": "a=b"},
        {"X-Api-Key": "x"},
        {"Proxy-Authorization": "x"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Original-URL": "/admin"},
        {"X-Forwarded-Host": "evil.test"},
        {"Idempotency-Key": "mine"},
        {"Accept": "a", "accept": "b"},
        {"a b": "c"},
        {"": "c"},
        {"é": "c"},
        {"A": "b\r\nHost: evil.test"},
        {"A": " b"},
        {"A": "€"},
        {f"A{n}": "x" for n in range(200)},
    ],
)
def test_http_refuses_before_policy_when_a_header_would_change_or_leak_something(headers):
    arguments = {"url": URL, "headers": headers}
    for call in (lambda: http.GET.facts(arguments, PLACE), lambda: http.GET.plan(arguments, PLACE, OBLIGATIONS, "k")):
        with pytest.raises(Malformed) as refused:
            call()
        assert refused.value.code == "header_refused"
        assert not any(value in str(refused.value) for value in headers.values() if len(value) > 4)


def test_http_refuses_when_the_body_type_is_given_twice():
    arguments = {"url": URL, "body": "x", "headers": {"Content-Type": "text/html"}}
    with pytest.raises(Malformed) as refused:
        http.PUT.facts(arguments, PLACE)
    assert (refused.value.code, refused.value.hint) == ("header_refused", "use `content_type`")


def test_http_refuses_when_the_body_type_is_no_header_value():
    with pytest.raises(Malformed) as refused:
        http.POST.facts({"url": URL, "content_type": "a/b\r\nHost: evil.test"}, PLACE)
    assert refused.value.code == "header_refused"


@pytest.mark.parametrize("key", ["a b", "é", "a\r\nb", "x" * 256])
def test_http_plan_refuses_when_the_idempotency_key_cannot_be_sent(key):
    assert http.GET.plan({"url": URL}, PLACE, OBLIGATIONS, key).idempotency_key == ""
    with pytest.raises(Malformed) as refused:
        http.POST.plan({"url": URL}, PLACE, OBLIGATIONS, key)
    assert refused.value.code == "header_refused"


@pytest.mark.parametrize(
    ("operation", "arguments", "named"),
    [
        (http.GET, {}, "url"),
        (http.PUT, {"url": URL}, "body"),
        (http.GET, {"url": URL, "body": "x"}, "body"),
        (http.DELETE, {"url": URL, "body": "x"}, "body"),
        (http.POST, {"url": URL, "body": "x" * (http.BODY_BYTES_MAX + 1)}, "body"),
        (http.POST, {"url": URL, "headers": {"a": 1}}, "headers"),
        (http.POST, {"url": URL, "body": "x", "body_base64": "eA=="}, "body_base64"),
        (http.PUT, {"url": URL, "body_base64": "eA"}, "body_base64"),
        (http.PUT, {"url": URL, "body_base64": "e A=="}, "body_base64"),
        (http.GET, {"url": URL, "retries": -1}, "retries"),
        (http.GET, {"url": URL, "retries": 11}, "retries"),
        (http.POST, {"url": URL, "retries": 1}, "retries"),
    ],
)
def test_http_names_the_argument_when_it_is_unsound(operation, arguments, named):
    with pytest.raises(Malformed) as refused:
        operation.facts(arguments, PLACE)
    assert refused.value.code == "arguments_invalid"
    assert f"`{named}`" in refused.value.message


@settings(max_examples=150)
@given(
    operation=st.sampled_from(http.HTTP),
    url=st.one_of(
        st.text(max_size=12),
        st.lists(
            st.sampled_from(
                ["https", "http", "://", "@", ":", "/", "\\", "#", "?", "[", "]", "::1", "1", "a.b", "%00", "\0", "。"]
            ),
            max_size=9,
        ).map("".join),
    ),
    headers=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
)
def test_http_plan_dials_the_judged_host_when_facts_could_be_computed(operation, url, headers):
    arguments = sound(operation) | {"url": url, "headers": headers}
    try:
        facts = operation.facts(arguments, PLACE)
    except Malformed:
        return
    order = operation.plan(arguments, PLACE, OBLIGATIONS, "k")
    dialled = parse_url(order.url)
    assert allow_list([facts.host]).admits(dialled.host, dialled.port)
    assert (order.method, len(order.body)) == (facts.method, facts.payload_bytes)


@pytest.mark.parametrize("operation", http.HTTP, ids=name_of)
def test_http_observation_fetches_the_same_url_when_there_is_an_observer(operation):
    headers = {"Accept": "a", "Content-Language": "de", "If-Match": "*", "Range": "bytes=0-1"}
    asked = operation.observation(sound(operation) | {"headers": headers})
    if not operation.contract.observer:
        assert asked is None
        return
    assert asked == {"url": URL, "headers": {"Accept": "a"}}
    assert http.GET.facts(asked, PLACE).host == operation.facts(sound(operation), PLACE).host


def answer(status: int, body: Any = "") -> dict[str, Any]:
    return {"status": status, "headers": {}, "body": body}


def packed(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("operation", "code", "seen", "judgement"),
    [
        (http.PUT, "ok", answer(200, "new"), HAPPENED),
        (http.PUT, "ok", answer(200, packed(b"new")), HAPPENED),
        (http.PUT, "ok", answer(200, packed(b"old")), UNCLEAR),
        (http.PUT, "ok", answer(200, {"base64": "not base64!"}), UNCLEAR),
        (http.PUT, "ok", answer(200, {"base64": "é"}), UNCLEAR),
        (http.PUT, "ok", answer(200, "old"), UNCLEAR),
        (http.PUT, "ok", answer(200, "new\n"), UNCLEAR),
        (http.PUT, "ok", answer(200, "\ud800"), UNCLEAR),
        (http.PUT, "ok", answer(200, None), UNCLEAR),
        (http.PUT, "ok", answer(206, "new"), UNCLEAR),
        (http.PUT, "ok", answer(204), UNCLEAR),
        (http.PUT, "http_status", answer(404), NOT_HAPPENED),
        (http.PUT, "http_status", answer(410), NOT_HAPPENED),
        (http.PUT, "http_status", answer(401), UNCLEAR),
        (http.PUT, "http_status", answer(500, "new"), UNCLEAR),
        (http.DELETE, "http_status", answer(404), HAPPENED),
        (http.DELETE, "http_status", answer(410), HAPPENED),
        (http.DELETE, "ok", answer(200, "old"), NOT_HAPPENED),
        (http.DELETE, "ok", answer(204), UNCLEAR),
        (http.DELETE, "http_status", answer(403), UNCLEAR),
        (http.DELETE, "http_status", answer(503), UNCLEAR),
        (http.POST, "ok", answer(200, "new"), UNCLEAR),
        (http.POST, "http_status", answer(404), UNCLEAR),
        (http.GET, "ok", answer(200), UNCLEAR),
        (http.HEAD, "http_status", answer(404), UNCLEAR),
    ],
)
def test_http_judge_reads_the_answer_when_the_outcome_is_unknown(operation, code, seen, judgement):
    assert operation.judge(sound(operation), code, seen) is judgement


@pytest.mark.parametrize("operation", http.HTTP, ids=name_of)
@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("host_refused", answer(200, "new")),
        ("wall_limit", answer(404)),
        ("output_limit", answer(200, "new")),
        ("ok", {}),
        ("ok", {"status": "200", "body": "new"}),
        ("http_status", {"status": [404]}),
    ],
)
def test_http_judge_is_unclear_when_the_observation_failed_or_makes_no_sense(operation, code, seen):
    assert operation.judge(sound(operation), code, seen) is UNCLEAR
