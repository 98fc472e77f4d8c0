from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations, breach
from assent.execution.orders import FileOrder, Limits, Lines
from assent.ledger.connectors import files
from assent.ledger.connectors.edits import EDIT
from assent.ledger.connectors.searches import SEARCH
from assent.ledger.contracts import EffectClass, Idempotency
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed

PLACE = Place(workspace="/srv/ws")
LIMITS = Limits(wall_ms=1_234, output_bytes_max=99)
OBLIGATIONS = Obligations(hosts=("example.org:443",), limits=LIMITS)
R, W, X = EffectClass.READ, EffectClass.WRITE, EffectClass.IRREVERSIBLE
HAPPENED, NOT_HAPPENED, UNCLEAR = Judgement.HAPPENED, Judgement.NOT_HAPPENED, Judgement.UNCLEAR

ABSENT: dict[str, Any] = {"exists": False}
FOLDER: dict[str, Any] = {"exists": True, "kind": "folder", "size": 0}
OTHER: dict[str, Any] = {"exists": True, "kind": "other", "size": 0}


def file_of(content: bytes) -> dict[str, Any]:
    return {"exists": True, "kind": "file", "size": len(content), "sha256": digest(content)}


@pytest.mark.parametrize(
    ("operation", "effect", "idempotency", "names", "observer"),
    [
        (files.READ, R, Idempotency.NATURAL, ["path", "offset", "limit"], ""),
        (files.LIST, R, Idempotency.NATURAL, ["path", "recursive"], ""),
        (files.STAT, R, Idempotency.NATURAL, ["path"], ""),
        (files.WRITE, W, Idempotency.NATURAL, ["path", "content"], "files.stat"),
        (files.APPEND, W, Idempotency.NONE, ["path", "content"], "files.stat"),
        (files.MAKE_FOLDER, W, Idempotency.NATURAL, ["path"], "files.stat"),
        (files.DELETE, X, Idempotency.NATURAL, ["path", "recursive"], "files.stat"),
    ],
    ids=lambda value: getattr(getattr(value, "contract", None), "name", None),
)
def test_file_contract_declares_its_effect_when_read(operation, effect, idempotency, names, observer):
    contract = operation.contract
    assert (contract.effect, contract.idempotency, contract.observer) == (effect, idempotency, observer)
    assert [a.name for a in contract.arguments] == names
    assert (contract.floor, contract.hosts, contract.connector) == (ConfinementClass.LOCAL_WEAK, "", "files")
    assert {a.name for a in contract.arguments if a.authority} == {"path", "recursive"} & set(names)


def test_files_covers_every_verb_of_the_lane_once():
    verbs = msgspec.json.schema(FileOrder)["$defs"]["FileOrder"]["properties"]["verb"]["enum"]
    names = [op.contract.name for op in (*files.FILES, EDIT, SEARCH)]
    assert sorted(names) == sorted(f"files.{verb}" for verb in verbs)


def test_file_facts_count_the_bytes_written_when_there_is_content():
    assert files.WRITE.facts({"path": "/srv/ws/a/../é.txt", "content": "é€"}, PLACE) == Facts(
        path="é.txt", payload_bytes=5
    )
    assert files.READ.facts({"path": "a"}, PLACE) == Facts(path="a")


def test_file_facts_keep_the_written_path_when_it_leads_outside():
    for written in ("../../etc/passwd", "/etc/passwd", "a/../../b"):
        assert files.DELETE.facts({"path": written}, PLACE) == Facts(path=written, inside_workspace=False)


def test_file_list_looks_at_the_workspace_when_no_path_is_given():
    assert files.LIST.facts({}, PLACE) == Facts(path=".")
    order = files.LIST.plan({}, PLACE, OBLIGATIONS, "")
    assert order == FileOrder(verb="list", workspace="/srv/ws", path=".", limits=LIMITS)


@pytest.mark.parametrize(
    ("operation", "arguments", "order"),
    [
        (files.READ, {"path": "./a"}, {"verb": "read", "path": "a"}),
        (files.READ, {"path": "a", "offset": 5}, {"verb": "read", "path": "a", "lines": Lines(first=5, count=100_000)}),
        (files.READ, {"path": "a", "limit": 2}, {"verb": "read", "path": "a", "lines": Lines(first=1, count=2)}),
        (files.STAT, {"path": "."}, {"verb": "stat", "path": "."}),
        (files.LIST, {"path": "a/", "recursive": True}, {"verb": "list", "path": "a", "recursive": True}),
        (files.WRITE, {"path": "/srv/ws/a", "content": "é"}, {"verb": "write", "path": "a", "content": b"\xc3\xa9"}),
        (files.WRITE, {"path": "a", "content": ""}, {"verb": "write", "path": "a"}),
        (files.APPEND, {"path": "a", "content": "x\n"}, {"verb": "append", "path": "a", "content": b"x\n"}),
        (files.MAKE_FOLDER, {"path": "a/b/../c"}, {"verb": "make_folder", "path": "a/c"}),
        (files.DELETE, {"path": "a"}, {"verb": "delete", "path": "a"}),
        (files.DELETE, {"path": "a", "recursive": True}, {"verb": "delete", "path": "a", "recursive": True}),
    ],
)
def test_file_plan_is_the_exact_order_when_the_arguments_are_sound(operation, arguments, order):
    made = operation.plan(arguments, PLACE, OBLIGATIONS, "some-key")
    assert made == FileOrder(workspace="/srv/ws", limits=LIMITS, **order)
    assert breach(made, OBLIGATIONS) == ""


@pytest.mark.parametrize("operation", files.FILES, ids=lambda op: op.contract.name)
@pytest.mark.parametrize("written", ["..", "/etc/passwd", "a/../../b"])
def test_file_plan_refuses_when_the_path_leads_outside(operation, written):
    with pytest.raises(Malformed) as refused:
        operation.plan(sound(operation) | {"path": written}, PLACE, OBLIGATIONS, "")
    assert refused.value.code == "outside_workspace"


@pytest.mark.parametrize("operation", [files.WRITE, files.APPEND, files.DELETE], ids=lambda op: op.contract.name)
@pytest.mark.parametrize("written", [".", "a/..", "/srv/ws"])
def test_file_plan_refuses_when_the_workspace_itself_would_be_replaced(operation, written):
    with pytest.raises(Malformed) as refused:
        operation.plan(sound(operation) | {"path": written}, PLACE, OBLIGATIONS, "")
    assert refused.value.code == "workspace_itself"


@pytest.mark.parametrize(
    ("operation", "arguments", "named"),
    [
        (files.WRITE, {"path": "a"}, "content"),
        (files.WRITE, {"path": "a", "content": "x" * (files.CONTENT_BYTES_MAX + 1)}, "content"),
        (files.WRITE, {"path": "a", "content": "\ud800"}, "content"),
        (files.WRITE, {"path": "a", "content": "x", "mode": "0777"}, "mode"),
        (files.DELETE, {"path": "a", "recursive": "yes"}, "recursive"),
        (files.READ, {"path": ["a"]}, "path"),
        (files.READ, {"path": "a", "offset": 0}, "offset"),
        (files.READ, {"path": "a", "limit": 0}, "limit"),
        (files.READ, {"path": "a", "limit": files.LINES_MAX + 1}, "limit"),
        (files.READ, {}, "path"),
    ],
)
def test_file_facts_and_plan_name_the_argument_when_it_is_unsound(operation, arguments, named):
    for call in (lambda: operation.facts(arguments, PLACE), lambda: operation.plan(arguments, PLACE, OBLIGATIONS, "")):
        with pytest.raises(Malformed) as refused:
            call()
        assert refused.value.code == "arguments_invalid"
        assert f"`{named}`" in refused.value.message


@settings(max_examples=150)
@given(
    operation=st.sampled_from(files.FILES),
    path=st.text(alphabet="./a\\~ \0\n\u202eé\ud800", max_size=12),
    content=st.text(max_size=5),
    recursive=st.booleans(),
)
def test_file_plan_carries_the_judged_path_when_facts_say_inside(operation, path, content, recursive):
    names = {a.name for a in operation.contract.arguments}
    arguments = {k: v for k, v in (("path", path), ("content", content), ("recursive", recursive)) if k in names}
    try:
        facts = operation.facts(arguments, PLACE)
    except Malformed:
        return
    replaces = operation in {files.WRITE, files.APPEND, files.DELETE}
    if not facts.inside_workspace or (facts.path == "." and replaces):
        with pytest.raises(Malformed) as refused:
            operation.plan(arguments, PLACE, OBLIGATIONS, "")
        assert refused.value.code == ("workspace_itself" if facts.inside_workspace else "outside_workspace")
        return
    order = operation.plan(arguments, PLACE, OBLIGATIONS, "")
    assert (order.path, len(order.content)) == (facts.path, facts.payload_bytes)


@pytest.mark.parametrize("operation", files.FILES, ids=lambda op: op.contract.name)
def test_file_observation_asks_for_the_same_path_when_there_is_an_observer(operation):
    asked = operation.observation(sound(operation))
    assert asked == ({"path": "a"} if operation.contract.observer else None)
    if asked:
        assert files.STAT.facts(asked, PLACE) == Facts(path="a")


@pytest.mark.parametrize(
    ("operation", "arguments", "seen", "judgement"),
    [
        (files.WRITE, {"content": "new"}, file_of(b"new"), HAPPENED),
        (files.WRITE, {"content": ""}, file_of(b""), HAPPENED),
        (files.WRITE, {"content": "new"}, ABSENT, NOT_HAPPENED),
        (files.WRITE, {"content": "new"}, file_of(b"old"), UNCLEAR),
        (files.WRITE, {"content": "new"}, file_of(b"ne"), UNCLEAR),
        (files.WRITE, {"content": "new"}, {"exists": True, "kind": "file", "size": 3}, UNCLEAR),
        (files.WRITE, {"content": "new"}, FOLDER, UNCLEAR),
        (files.WRITE, {"content": "new"}, file_of(b"new") | {"kind": "other"}, UNCLEAR),
        (files.WRITE, {"content": "new"}, OTHER, UNCLEAR),
        (files.APPEND, {"content": "new"}, ABSENT, NOT_HAPPENED),
        (files.APPEND, {"content": "new"}, file_of(b"new"), UNCLEAR),
        (files.APPEND, {"content": "new"}, file_of(b""), UNCLEAR),
        (files.APPEND, {"content": "new"}, FOLDER, UNCLEAR),
        (files.MAKE_FOLDER, {}, FOLDER, HAPPENED),
        (files.MAKE_FOLDER, {}, ABSENT, NOT_HAPPENED),
        (files.MAKE_FOLDER, {}, file_of(b""), UNCLEAR),
        (files.MAKE_FOLDER, {}, OTHER, UNCLEAR),
        (files.DELETE, {}, ABSENT, HAPPENED),
        (files.DELETE, {}, file_of(b"x"), NOT_HAPPENED),
        (files.DELETE, {}, FOLDER, NOT_HAPPENED),
        (files.DELETE, {}, OTHER, NOT_HAPPENED),
        (files.DELETE, {"recursive": True}, ABSENT, HAPPENED),
        (files.DELETE, {"recursive": True}, file_of(b"x"), NOT_HAPPENED),
        (files.DELETE, {"recursive": True}, FOLDER, UNCLEAR),
        (files.READ, {}, file_of(b"x"), UNCLEAR),
        (files.LIST, {}, FOLDER, UNCLEAR),
        (files.STAT, {}, ABSENT, UNCLEAR),
    ],
)
def test_file_judge_reads_what_is_there_when_the_outcome_is_unknown(operation, arguments, seen, judgement):
    assert operation.judge({"path": "a"} | arguments, "ok", seen) is judgement


@pytest.mark.parametrize("operation", files.FILES, ids=lambda op: op.contract.name)
@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("confinement_unmet", ABSENT),
        ("wall_limit", {}),
        ("", ABSENT),
        ("ok", {}),
        ("ok", {"exists": 0}),
        ("ok", {"exists": "no"}),
    ],
)
def test_file_judge_is_unclear_when_the_observation_failed_or_makes_no_sense(operation, code, seen):
    assert operation.judge(sound(operation), code, seen) is UNCLEAR


@settings(max_examples=150)
@given(
    operation=st.sampled_from(files.FILES),
    seen=st.dictionaries(
        st.sampled_from(["exists", "kind", "size", "sha256"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.none(), max_size=1)),
    ),
)
def test_file_judge_claims_a_write_only_when_the_digest_is_seen(operation, seen):
    judgement = operation.judge(sound(operation), "ok", seen)
    if operation is files.WRITE:
        assert judgement is not HAPPENED
    if not isinstance(seen.get("exists"), bool):
        assert judgement is UNCLEAR


def sound(operation: files.FileOperation) -> dict[str, Any]:
    return {"path": "a"} | ({"content": "x"} if any(a.name == "content" for a in operation.contract.arguments) else {})
