"""What could be confused: names that look alike, values that are spelled alike, and clocks that disagree.

Each test is one fault of the list in docs/explanation/conformance.md; others of that list stand where their parts are.
"""

from __future__ import annotations

import asyncio
import math
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.ledger.decisions import Verdict
from assent.ledger.effects import EffectState
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.policy.approvals import Approval
from assent.policy.principals import KnownPrincipal, check_principal, is_principal, is_role
from assent.primitives.canonical import canonical, parse
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import AssentError, Malformed, Refused
from assent.testing.benches import ANN
from assent.testing.clocks import SetClock
from assent.testing.desks import ACME, Desk
from assent.testing.ledgers import LedgerFolder
from tests.attacks.rig import Rig, rig

PLAIN = "abcdefghijklmnopqrstuvwxyz.:"
DISGUISES: dict[str, dict[int, Any]] = {
    "cyrillic": str.maketrans("aceopxyi", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456"),
    "full-width": str.maketrans({ord(c): chr(ord(c) + 0xFEE0) for c in "abcdefghijklmnopqrstuvwxyz.:"}),
    "upper": str.maketrans({c: c.upper() for c in "abcdefghijklmnopqrstuvwxyz"}),
    "dotless": str.maketrans({"i": "\u0131"}),
    "roman": str.maketrans({"i": "\u2170", "l": "\u217c"}),
}
ADDED = ["\u200b", "\u200d", "\ufeff", "\u202e", "\u0301", "\u00a0", " ", "\t", "\n", "\x00", "."]


def disguises(name: str) -> Iterator[str]:
    """Names that look like `name`, or that a careless comparison takes for it."""
    yield from (name.translate(table) for table in DISGUISES.values())
    for mark in ADDED:
        yield from (name + mark, mark + name, name[:3] + mark + name[3:])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("node")) as made:
        yield made


# Names


@pytest.mark.parametrize("name", sorted(set(disguises("files.read")) - {"files.read"}), ids=ascii)
def test_operation_that_looks_like_another_is_unknown(node, name):
    before = node.carried
    try:
        answer = node.perform(operation=name)
    except AssentError:
        pass
    else:
        assert (answer.effect.state, answer.effect.code) == (EffectState.REFUSED, "unknown_operation")
    assert node.carried == before


@pytest.mark.parametrize("name", sorted(set(disguises("agent:writer")) - {"agent:writer"}), ids=ascii)
def test_principal_that_looks_like_another_is_nobody(node, name):
    before = node.carried
    try:
        answer = node.perform(principal=name)
    except AssentError:
        pass
    else:
        assert answer.effect.state is EffectState.REFUSED
        assert answer.effect.code in ("unknown_principal", "principal_invalid")
    assert node.carried == before


@pytest.mark.parametrize("name", sorted(set(disguises("person:ann")) - {"person:ann"}), ids=ascii)
def test_person_that_looks_like_another_neither_asks_nor_answers(node, name):
    before = node.carried
    with suppress(AssentError):
        assert node.perform(principal=name, on_behalf_of=()).effect.state is EffectState.REFUSED
    asked = node.perform(operation="files.delete", principal=ANN, on_behalf_of=())
    with pytest.raises(Refused) as refused:
        node.run(node.node.reviews.approve(ACME, asked.review.id, by=name))
    assert refused.value.code == "review_not_yours"
    assert node.carried == before


@given(st.text(max_size=30))
def test_name_and_role_are_plain_or_refused(text):
    for ok in (is_principal(f"person:{text}"), is_role(text)):
        assert not ok or (text.isascii() and text.isprintable() and " " not in text)
    if not is_principal(f"agent:{text}"):
        with pytest.raises(Malformed):
            check_principal(KnownPrincipal(name=f"agent:{text}"))


# Hosts and paths

HOST = """
@id("one-host") @egress("127.0.0.1:8080")
permit (principal, action, resource in Connector::"http") when { context has host && context.host == "127.0.0.1:8080" };
"""
URLS = [
    "http://127.1:8080/", "http://0x7f.0.0.1:8080/", "http://2130706433:8080/", "http://0177.0.0.1:8080/",
    "http://127.0.0.1.:8080/", "http://[::ffff:127.0.0.1]:8080/", "http://127.0.0.1@evil.test:8080/",
    "http://127.0.0.1:8080@evil.test/", "http://127.0.0.1:8080.evil.test/", "http://evil.test#127.0.0.1:8080/",
    "http://evil.test\\@127.0.0.1:8080/", "http://127.0.0.1:08080/", "http://127.0.0.1:8081/", "http://127.0.0.1/",
    "https://127.0.0.1:8081/", "http://\uff11\uff12\uff17.0.0.1:8080/", "http://127\u30020\u30020\u30021:8080/",
    "http://127.0.0.1%2f@evil.test:8080/", "http://127.0.0.1\t:8080/", "http://127.0.0.1:8080\r\nHost: evil.test/",
    "http:/127.0.0.1:8080/", "//127.0.0.1:8080/", "HTTP://evil.test:8080/", "http://xn--127-0-0-1.test:8080/",
]  # fmt: skip


def test_url_that_only_looks_like_a_permitted_host_reaches_nobody_else(tmp_path):
    with rig(tmp_path) as other:
        other.run(other.node.policies.activate(ACME, HOST, by=ANN))
        sent = other.perform(operation="http.get", arguments={"url": "http://127.0.0.1:8080/"})
        assert sent.effect.state is EffectState.SUCCEEDED
        for url in URLS:
            before = other.carried
            answer = other.perform(operation="http.get", arguments={"url": url})
            if other.carried > before:  # another spelling of the very same place
                assert answer.decision.obligations.hosts == ("127.0.0.1:8080",), url
            else:
                assert answer.effect.state is EffectState.REFUSED, url


PATHS = [
    "../a",
    "a/../../b",
    "/etc/passwd",
    "..",
    "a/..",
    "./../a",
    "a\x00b",
    "..\\a",
    "a/./../../b",
    "~/a",
    "\u2025/a",
    "%2e%2e/a",
    "a//../../b",
    "\uff0e\uff0e/a",
    "a/\u2024\u2024/b",
    "//etc/passwd",
    "\ud800",
]


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_path_that_leads_out_is_refused_and_one_that_only_looks_so_is_a_name(node, path):
    before = node.carried
    try:
        answer = node.perform(arguments={"path": path})
    except Malformed:
        assert node.carried == before
        return
    whole = posixpath.normpath(path)
    if whole.startswith(("/", "../")) or whole == ".." or "\x00" in path:
        assert answer.effect.state is EffectState.REFUSED, path
        assert node.carried == before


# Digests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False, width=32).filter(lambda x: abs(x) < 2**53),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Whether two values are one value of JSON: 1 and 1.0 are one number, and true is none."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return float(a) == float(b)
    return type(a) is type(b) and bool(a == b)


def bound(arguments: dict[str, Any]) -> Digest:
    return intent_digest(
        intent_bytes(
            Intent(tenant=ACME, operation="x.y", contract=digest(b""), arguments=arguments, principal="agent:writer")
        )
    )


@given(JSON, JSON)
@settings(max_examples=400, deadline=None)
def test_two_calls_have_one_digest_only_when_they_are_one_call(a, b):
    assert (bound({"a": a}) == bound({"a": b})) is same(a, b)
    assert same(parse(canonical(a)), a)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": "1"}), ({"a": 1}, {"a": True}), ({"a": 0}, {"a": False}), ({"a": 0}, {"a": None}),
        ({"a": ""}, {"a": None}), ({"a": []}, {"a": {}}), ({"a": [1, 2]}, {"a": [2, 1]}), ({"a": "x"}, {"A": "x"}),
        ({"a": "\u00e9"}, {"a": "e\u0301"}), ({"a": "x"}, {"a": "x "}), ({"a": "1.0"}, {"a": 1.0}), ({}, {"a": None}),
        ({"a": {"b": 1}}, {"a.b": 1}), ({"a": 'b","c":"d'}, {"a": "b", "c": "d"}),
    ],
    ids=str,
)  # fmt: skip
def test_yes_for_one_of_two_values_that_look_alike_is_none_for_the_other(one, other):
    assert bound(one) != bound(other)
    yes = Approval(intent=bound(one), quorum=1, approvers=(ANN,))
    assert yes.intent != bound(other)


def test_order_of_arguments_and_the_spelling_of_a_number_change_no_digest():
    assert bound({"a": 1, "b": [2.0]}) == bound({"b": [2], "a": 1.0})
    assert bound({"a": -0.0}) == bound({"a": 0})


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), 10**400, math.inf, -math.inf, math.nan, "\ud800", {1: "x"}, b"x", {1, 2}, object()],
    ids=lambda value: type(value).__name__,
)
def test_value_that_readers_would_disagree_about_is_refused_before_anything(node, value):
    before = node.run(node.node.timelines.latest(ACME))
    with pytest.raises(Malformed):
        node.perform(operation="http.post", arguments={"url": "http://127.0.0.1/", "json": value})
    assert node.run(node.node.timelines.latest(ACME)) == before


@pytest.mark.parametrize(
    "text",
    ['{"path":"a","path":"b"}', '{"a":{"b":1,"b":2}}', '{"a":[{"b":1,"b":2}]}', '{"path":"a","p\\u0061th":"b"}',
     '{"a":1e400}', '{"a":' + "9" * 400 + "}", '{"a":' + "[" * 5_000 + "]" * 5_000 + "}", '{"a":NaN}',
     '{"a":1}{"a":2}'],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_text_of_a_model_with_two_readings_has_none(text):
    with pytest.raises(Malformed):
        parse(text.encode())


# Clocks


@pytest.mark.parametrize("skew_ms", [-6 * 3_600_000, 6 * 3_600_000])
def test_clock_of_a_node_that_disagrees_with_the_databases_opens_no_review(tmp_path, skew_ms):
    """A review stands for as long as its rule says, by the clock that ends it; a node that is off is told so."""
    clock = SetClock()
    folder = LedgerFolder(tmp_path, clock=clock)

    async def body() -> None:
        with folder.opened() as store:
            right = await Desk(store, clock).start()
            assert (await right.accept(verdict=Verdict.REVIEW)).state is EffectState.IN_REVIEW
            off = SetClock(clock.now_ms() + skew_ms)
            desk = Desk(store, off)
            desk.scribe.fence = right.scribe.fence
            with pytest.raises(AssentError) as refused:
                await desk.accept(verdict=Verdict.REVIEW)
            assert refused.value.code == "clock_skewed"
            allowed = await desk.accept()  # what opens no review is not held up
            assert allowed.state is EffectState.DISPATCHED

    asyncio.run(body())
    assert folder.verify().ok
