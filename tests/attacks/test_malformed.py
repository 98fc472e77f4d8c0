# ruff: noqa: PT017 - either answer is right: what is checked in `except` is that a refusal is a good one
"""Whatever is said to a node, by a model, a file or a damaged database: a clear error or a recorded refusal, never a
traceback, and nothing is executed."""

from __future__ import annotations

import contextlib
import math
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assent.bootstrap.keys import log_identity
from assent.bootstrap.offering import STANDARD
from assent.bootstrap.settings import Settings, read_settings
from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.grants import Grant, GrantBody, GrantGate, sealed_bytes
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, Limits, order_digest
from assent.execution.seals import SealKey
from assent.ledger.adapters.sqlite_verify import SqliteVerifier
from assent.ledger.connectors import catalogue
from assent.ledger.contracts import OperationContract, read_arguments
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.effects import EffectState
from assent.ledger.entries import Entry, read_entry
from assent.ledger.operations import Place
from assent.ledger.verification import Fold
from assent.operations.wishes import Answer, Wish
from assent.policy.activation import check
from assent.policy.bundle import Bundle
from assent.policy.engine import Engine
from assent.policy.grants import Mint
from assent.primitives.digests import digest
from assent.primitives.errors import AssentError, Malformed, Refused
from assent.primitives.ids import EffectId, GrantId, NodeId, TenantId
from assent.primitives.leases import Fence
from tests.attacks.rig import ACME, PRINCIPALS, STARTER, Rig, rig

MEGABYTE = "x" * 1_048_576
OPERATIONS = catalogue(STANDARD)
CONTRACTS = {name: operation.contract for name, operation in OPERATIONS.items()}

# Text as it comes from strangers: any code point, halves of pairs and controls included.
TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
NASTY = st.sampled_from(
    ["\0", "a\0b", "\ud800", "../../etc/shadow", "/etc/shadow", "~", "", " ", "\u202e", "$(id)", "'; --", MEGABYTE,
     '{"a":1}', "a\nb", "files.read\n", "агент:writer", "﻿files.read"]
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(), st.sampled_from([2**53, -(2**63), 10**400, 1e308, -0.0, math.nan, math.inf, -math.inf])
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, NASTY, st.binary(max_size=8), st.just(object()))
JUNK = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(TEXT, st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=12,
)
DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]
NAMES = st.one_of(st.sampled_from(sorted(OPERATIONS)), TEXT, NASTY)
ARGUMENTS = st.one_of(
    st.dictionaries(
        st.one_of(st.sampled_from(["path", "content", "argv", "url", "env", "recursive", "Path", "path "]), TEXT),
        st.one_of(JUNK, st.just(DEEP)),
        max_size=4,
    ),
    st.dictionaries(st.one_of(TEXT, st.integers()), JUNK, max_size=3),
)
PEOPLE = st.one_of(st.sampled_from(["agent:writer", "person:ann", "agent:nobody", "person:", "root"]), TEXT, NASTY)
WORDS = st.fixed_dictionaries({"run": TEXT, "key": TEXT, "parent": TEXT})
FEW = settings(max_examples=60, suppress_health_check=list(HealthCheck))
SOME = settings(max_examples=200, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("node")) as made:
        yield made
        assert made.whole()


def answered(node: Rig, **changes: Any) -> Answer | AssentError:
    """What the gate made of a wish. Any other exception than our own fails the test."""
    try:
        answer: Answer = node.perform(**changes)
    except AssentError as error:
        assert error.code
        assert "Traceback" not in str(error)
        assert len(str(error)) < 4_000
        return error
    return answer


# -------------------------------------------------------------------------------------------------------------- intents


@pytest.mark.slow
@SOME
@given(operation=NAMES, arguments=ARGUMENTS, principal=PEOPLE, chain=st.lists(PEOPLE, max_size=3), words=WORDS)
def test_any_wish_is_answered_or_refused_in_words(node, *, operation, arguments, principal, chain, words):
    before = node.carried
    answer = answered(
        node, operation=operation, arguments=arguments, principal=principal, on_behalf_of=tuple(chain), **words
    )
    allowed = isinstance(answer, Answer) and answer.fresh and answer.outcome is not None
    assert node.carried - before == allowed
    if allowed:
        assert isinstance(answer, Answer)
        assert answer.decision is not None
        assert answer.decision.verdict is Verdict.ALLOW
        assert principal in {known.name for known in PRINCIPALS}
        read_arguments(CONTRACTS[operation], arguments)  # an order was made of nothing that its contract does not take
    elif isinstance(answer, Answer) and answer.fresh:
        assert answer.effect.state in (EffectState.REFUSED, EffectState.IN_REVIEW)
    assert list(node.workspace.iterdir()) == []


SPOILED: list[dict[str, Any]] = [
    {"operation": "files.explode"}, {"operation": "files.read "}, {"operation": "FILES.READ"}, {"operation": ""},
    {"operation": "files.read\0"}, {"operation": MEGABYTE}, {"operation": "\ud800"}, {"arguments": {}},
    {"arguments": {"path": None}}, {"arguments": {"path": 1}}, {"arguments": {"path": ["a"]}},
    {"arguments": {"path": {"path": "a"}}}, {"arguments": {"path": "a\0b"}}, {"arguments": {"path": MEGABYTE}},
    {"arguments": {"path": "a", "Path": "b"}}, {"arguments": {"path": "a", "path ": "b"}},
    {"arguments": {"path": "a", "more": MEGABYTE}}, {"arguments": {"path": "\udfff"}}, {"arguments": {"\udfff": "a"}},
    {"arguments": {"path": "a", "n": 10**400}}, {"arguments": {"path": "a", "n": math.nan}},
    {"arguments": {"path": "../../etc/shadow"}}, {"arguments": {"path": "/etc/shadow"}}, {"arguments": {"path": DEEP}},
    {"arguments": {1: "a"}}, {"arguments": {"path": b"a"}}, {"principal": ""}, {"principal": "agent:nobody"},
    {"principal": "agent:writer\0"}, {"principal": "agent:writer "}, {"principal": "\ud800"}, {"on_behalf_of": ()},
    {"principal": "person:ann", "on_behalf_of": ("person:ann",)}, {"on_behalf_of": ("agent:writer", "person:ann")},
    {"on_behalf_of": ("agent:helper",)}, {"on_behalf_of": ("person:ann", "person:ben")}, {"run": "\ud800"},
    {"on_behalf_of": tuple(f"agent:a{n}" for n in range(99))}, {"key": "\ud800"}, {"key": MEGABYTE}, {"run": MEGABYTE},
    {"operation": "shell.run", "arguments": {"argv": "ls"}}, {"operation": "shell.run", "arguments": {"argv": []}},
    {"operation": "shell.run", "arguments": {"argv": ["ls", 1]}}, {"operation": "http.get", "arguments": {"url": 7}},
    {"operation": "shell.run", "arguments": {"argv": ["ls"], "env": {"LD_PRELOAD": "/x"}}},
    {"operation": "shell.run", "arguments": {"argv": ["ls\0"]}}, {"operation": "http.get", "arguments": {"url": "x"}},
    {"operation": "shell.run", "arguments": {"argv": ["ls"], "cwd": "../.."}},
    {"operation": "shell.run", "arguments": {"argv": ["ls"], "wall_s": -1}},
    {"operation": "shell.run", "arguments": {"argv": ["ls"], "wall_s": True}},
]  # fmt: skip


@pytest.mark.parametrize("spoiled", SPOILED, ids=range(len(SPOILED)))
def test_nothing_is_executed_when_one_thing_about_an_allowed_call_is_spoiled(node, spoiled):
    before = node.carried
    answer = answered(node, **spoiled)
    assert node.carried == before
    if isinstance(answer, Answer):
        assert answer.effect.state is EffectState.REFUSED
        assert answer.outcome is None
        assert node.run(node.node.timelines.explain(ACME, answer.effect.id)).effect == answer.effect


def test_allowed_call_is_executed_when_nothing_is_spoiled(node):
    before = node.carried
    answer = answered(node)
    assert isinstance(answer, Answer)
    assert answer.effect.state is EffectState.SUCCEEDED
    assert node.carried == before + 1


@FEW
@given(st.dictionaries(st.sampled_from([*Wish.__struct_fields__, "extra"]), JUNK, max_size=9))
def test_wish_of_the_wrong_shape_is_refused_when_a_surface_reads_it(raw):
    with contextlib.suppress(msgspec.ValidationError):
        made = msgspec.convert(raw, Wish)
        assert all(type(getattr(made, name)) is str for name in ("tenant", "operation", "principal", "run", "key"))


@pytest.mark.parametrize("copies", [2, 3])
def test_key_used_for_another_call_is_a_conflict_and_runs_nothing(node, copies):
    first = answered(node, key=f"order-{copies}")
    before = node.carried
    for number in range(copies):
        second = answered(node, key=f"order-{copies}", arguments={"path": f"other-{number}"})
        assert isinstance(second, AssentError)
        assert second.code == "key_conflict"
    again = answered(node, key=f"order-{copies}")
    assert isinstance(first, Answer)
    assert isinstance(again, Answer)
    assert (again.effect.id, again.fresh) == (first.effect.id, False)
    assert node.carried == before


# -------------------------------------------------------------------------------------------------- policies, contracts


@pytest.mark.slow
@FEW
@given(st.one_of(TEXT, NASTY, st.binary(max_size=60).map(lambda data: data.decode("latin-1")), st.data()))
def test_any_policy_text_is_rejected_or_judged_and_the_active_one_stays(node, text):
    if not isinstance(text, str):  # the starter policy with a piece cut out
        start = text.draw(st.integers(0, len(STARTER)))
        text = STARTER[:start] + text.draw(TEXT) + STARTER[start + text.draw(st.integers(0, 200)) :]
    before = node.run(node.node.policies.active_revision(ACME))
    report = check(text, contracts=CONTRACTS, principals=PRINCIPALS)
    assert all(fault.code and fault.message for fault in report.faults)
    try:
        engine = Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=PRINCIPALS)
        activated = node.run(node.node.policies.activate(ACME, text, by="person:ann"))
    except AssentError as error:
        assert isinstance(error, Malformed)
        assert node.run(node.node.policies.active_revision(ACME)) == before
        return
    assert not report.faults
    assert activated.revision == engine.revision
    node.run(node.node.policies.activate(ACME, STARTER, by="person:ann"))


def _contract_json() -> st.SearchStrategy[Any]:
    good = msgspec.to_builtins(CONTRACTS["files.read"])
    fields = st.sampled_from([*good, "extra"])
    return st.builds(lambda name, value: {**good, name: value}, fields, JUNK)


@SOME
@given(_contract_json())
def test_contract_of_the_wrong_shape_is_refused_in_words_when_it_is_read(raw):
    try:
        contract = msgspec.convert(raw, OperationContract)
    except msgspec.ValidationError as error:
        assert str(error)
        return
    with contextlib.suppress(Malformed):
        read_arguments(contract, {"path": "a"})


@SOME
@given(st.sampled_from(sorted(CONTRACTS)), ARGUMENTS)
def test_arguments_are_malformed_or_planned_when_they_are_anything(name, arguments):
    operation, place = OPERATIONS[name], Place(workspace="/srv/workspace")
    try:
        given_ = read_arguments(operation.contract, arguments)
        facts = operation.facts(given_, place)
        order = operation.plan(given_, place, Obligations(), "key")
    except Malformed as malformed:
        assert malformed.code
        return
    assert facts.inside_workspace or facts.path
    order_digest(order)


# ------------------------------------------------------------------------------------------------------------- settings

_TOML = [
    "[assent]", "[agents.helper]", "[defaults]", 'tenant = "a"', "tenant = 1", 'workspace = "."', 'data = "/"',
    'policy = "\\u0000"', "roles = [1]", 'roles = ["a"]', 'as = "person:root"', "[assent.assent]", "[[agents]]", "=",
    'x = """', "a.b.c = 1979-05-27", "n = " + "9" * 5_000, "deep = " + "[" * 2_000 + "]" * 2_000, '"\\uD800" = 1',
]  # fmt: skip


@pytest.mark.slow
@SOME
@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from(_TOML), max_size=10).map(lambda lines: "\n".join(lines).encode()),
        st.lists(st.one_of(st.sampled_from(_TOML), TEXT), max_size=8).map(
            lambda lines: "\n".join(lines).encode(errors="surrogatepass")
        ),
    )
)
def test_any_settings_file_is_read_or_every_mistake_is_told(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "settings"
    folder.mkdir(exist_ok=True)
    file = folder / "assent.toml"
    file.write_bytes(data)
    try:
        made = read_settings(file, login="ann")
    except Malformed as malformed:
        assert malformed.code == "settings_invalid"
        assert "assent.toml:" in str(malformed)
        assert str(malformed).isprintable() or "\n" in str(malformed)
        return
    assert isinstance(made, Settings)
    assert not made.file.is_relative_to(made.workspace)
    assert [path.name for path in folder.iterdir()] == ["assent.toml"]  # reading makes nothing


# ----------------------------------------------------------------------------------------------------------------- log


def _entry_json() -> st.SearchStrategy[bytes]:
    good = {"at": 1, "body": {"effect": "eff_1"}, "prev": "0" * 64, "seq": 0, "tenant": "acme", "type": "x", "v": 1}
    plain = st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=10), st.lists(st.integers(), max_size=2)
    )
    body = st.dictionaries(
        st.sampled_from(
            ["effect", "before", "moves", "state", "review", "review_state", "review_terms", "answer", "attempt",
             "payload", "number", "revision", "text", "policy", "code", "by"]
        ),
        st.one_of(plain, st.sampled_from(["grant", "dispatched", "approve", "eff_1"]), st.just(["grant", "dispatch"])),
        max_size=8,
    )  # fmt: skip
    kinds = st.sampled_from(
        [
            "effect.accepted",
            "effect.dispatched",
            "effect.settled",
            "effect.judged",
            "policy.activated",
            "review.answered",
        ]
    )
    likely = st.builds(lambda kind, what: {**good, "type": kind, "body": what}, kinds, body)
    odd = st.builds(lambda name, value: {**good, name: value}, st.sampled_from([*good, "extra"]), plain)
    return st.one_of(likely, odd).map(msgspec.json.encode)


@SOME
@given(st.one_of(st.binary(max_size=80), _entry_json()))
def test_any_bytes_of_an_entry_are_an_entry_or_a_decoding_error(data):
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        assert isinstance(read_entry(data), Entry)


@pytest.mark.slow
@FEW
@given(st.lists(st.one_of(st.binary(max_size=80), _entry_json()), min_size=1, max_size=4))
def test_any_entries_in_the_database_are_a_fault_and_never_a_traceback(damaged, entries):
    with damaged(entries) as report:
        assert not report.ok
        assert all(fault.message for fault in report.faults)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory):
    """Replaces the last entries of a real ledger's log by others, and verifies it."""
    folder = tmp_path_factory.mktemp("damaged")
    with rig(folder) as made:
        for number in range(4):
            made.perform(arguments={"path": f"file-{number}"})
    identity = log_identity(folder / "data" / "keys", entropy=SystemEntropy())
    pristine, copy = folder / "data" / "assent.db", folder / "copy.db"

    @contextlib.contextmanager
    def changed(entries: list[bytes]) -> Iterator[Any]:
        shutil.copy(pristine, copy)
        with contextlib.closing(sqlite3.connect(copy)) as connection, connection:
            last = connection.execute("SELECT max(seq) FROM log WHERE tenant = 'acme'").fetchone()[0]
            for back, entry in enumerate(entries):
                connection.execute("UPDATE log SET entry = ? WHERE tenant = 'acme' AND seq = ?", (entry, last - back))
        verifier = SqliteVerifier(copy, key=identity.signer.key.encode(), clock=SystemClock())
        yield verifier.verify(None)

    return changed


@SOME
@given(st.lists(_entry_json(), min_size=1, max_size=5))
def test_fold_raises_only_what_the_verifier_expects_when_entries_are_anything(entries):
    fold = Fold()
    for data in entries:
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            assert isinstance(fold.add(read_entry(data), None, None), str)


# --------------------------------------------------------------------------------------------------------------- grants

KEY = SealKey(bytes(range(32)))
ORDER = FileOrder(verb="read", workspace="/w", path="a")
BODY = GrantBody(
    id=GrantId("gra_1"), tenant=TenantId("acme"), effect=EffectId("eff_1"), attempt=1, intent=digest(b"intent"),
    order=order_digest(ORDER), policy_revision="rev", target="local", obligations=Obligations(hosts=("a:1",)),
    fence=Fence(node=NodeId("nod_1"), number=1), issued_at_ms=1_000, expires_at_ms=61_000,
)  # fmt: skip
OTHER: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("id", "tenant", "effect", "intent", "order", "policy_revision", "target"), st.text(max_size=20)),
    **dict.fromkeys(("attempt", "issued_at_ms", "expires_at_ms"), st.integers(-(2**63), 2**63 - 1)),
    "obligations": st.builds(
        Obligations,
        floor=st.sampled_from(list(type(BODY.obligations.floor))),
        hosts=st.lists(st.text(max_size=8), max_size=2).map(tuple),
        limits=st.builds(Limits, **dict.fromkeys(Limits.__struct_fields__, st.integers(0, 2**40))),
    ),
    "fence": st.builds(Fence, node=st.text(max_size=8), number=st.integers(0, 2**40)),
}


def minted(body: GrantBody, mac: bytes) -> Grant:
    """A grant made by force, as somebody in the same process could."""
    grant = object.__new__(Grant)
    grant.body = body
    grant.mac = mac
    return grant


def test_every_field_of_a_grant_is_tried():
    assert set(OTHER) == set(GrantBody.__struct_fields__)


@pytest.mark.parametrize("field", GrantBody.__struct_fields__)
@FEW
@given(data=st.data())
def test_grant_is_refused_when_a_field_was_changed(field, data):
    value = data.draw(OTHER[field])
    body = msgspec.structs.replace(BODY, **{field: value})
    grant = minted(body, KEY.seal(sealed_bytes(BODY)))
    if body == BODY:
        return
    with pytest.raises(Refused) as caught:
        GrantGate(KEY).admit(grant, order=order_digest(ORDER), now_ms=1_000)
    assert caught.value.code == "grant_forged"


@FEW
@given(mac=st.one_of(st.binary(max_size=64), st.just(b""), st.just(bytes(32))))
def test_grant_is_refused_when_its_seal_is_anything_else(mac):
    with pytest.raises(Refused) as caught:
        GrantGate(KEY).admit(minted(BODY, mac), order=order_digest(ORDER), now_ms=1_000)
    assert caught.value.code == "grant_forged"


@FEW
@given(st.one_of(LEAVES, st.just(BODY), st.just({"body": BODY}), st.builds(object)))
def test_grant_is_refused_when_it_is_something_else(thing):
    with pytest.raises(Refused):
        GrantGate(KEY).admit(thing, order=order_digest(ORDER), now_ms=1_000)


@FEW
@given(now_ms=st.integers(-(2**62), 2**62))
def test_grant_is_admitted_only_within_its_time(now_ms):
    grant = minted(BODY, KEY.seal(sealed_bytes(BODY)))
    try:
        GrantGate(KEY).admit(grant, order=order_digest(ORDER), now_ms=now_ms)
    except Refused as refused:
        assert refused.code == "grant_expired"
        assert now_ms >= BODY.expires_at_ms or now_ms < BODY.issued_at_ms
        return
    assert now_ms < BODY.expires_at_ms


def test_mint_makes_nothing_of_a_decision_that_is_none():
    for verdict in (Verdict.DENY, Verdict.REVIEW):
        decision = Decision(verdict=verdict, code="x", reason="x", policy_revision="x", obligations=Obligations())
        with pytest.raises(AssentError):
            Mint(KEY).mint(
                decision=decision, intent=BODY.intent, order=BODY.order, tenant=ACME, effect=BODY.effect, attempt=1,
                fence=BODY.fence, now_ms=0, id=BODY.id,
            )  # fmt: skip
