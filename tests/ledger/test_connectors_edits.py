from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.obligations import Obligations, breach
from assent.execution.orders import Edit, FileOrder, Limits
from assent.ledger.connectors.edits import EDIT
from assent.ledger.contracts import EffectClass, Idempotency
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed

PLACE = Place(workspace="/srv/ws")
OBLIGATIONS = Obligations(limits=Limits(wall_ms=1_234))
HAPPENED, NOT_HAPPENED, UNCLEAR = Judgement.HAPPENED, Judgement.NOT_HAPPENED, Judgement.UNCLEAR


def test_edit_contract_says_that_it_writes_and_who_looks_afterwards():
    contract = EDIT.contract
    assert (contract.effect, contract.idempotency) == (EffectClass.WRITE, Idempotency.NONE)
    assert contract.observer == "files.read"
    assert [a.name for a in contract.arguments if a.authority] == ["path"]


def test_edit_plan_is_the_exact_order_when_the_arguments_are_sound():
    given_ = {"path": "/srv/ws/a/../b", "old": "x", "new": "é", "all": True, "sha256": "sha256:0"}
    made = EDIT.plan(given_, PLACE, OBLIGATIONS, "key")
    assert made == FileOrder(
        verb="edit",
        workspace="/srv/ws",
        path="b",
        content="é".encode(),
        edit=Edit(old=b"x", every=True, sha256="sha256:0"),
        limits=OBLIGATIONS.limits,
    )
    assert breach(made, OBLIGATIONS) == ""
    assert EDIT.facts(given_, PLACE) == Facts(path="b", payload_bytes=2)
    assert EDIT.facts({"path": "../b", "old": "x", "new": ""}, PLACE) == Facts(path="../b", inside_workspace=False)
    assert EDIT.observation(given_) == {"path": "/srv/ws/a/../b"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"old": "", "new": "x"}, "arguments_invalid"),
        ({"old": "x", "new": "x"}, "arguments_invalid"),
        ({"old": "x"}, "arguments_invalid"),
        ({"old": "x", "new": "y", "count": 1}, "arguments_invalid"),
        ({"old": "x", "new": "\ud800"}, "arguments_invalid"),
        ({"old": "x", "new": "y", "path": "."}, "workspace_itself"),
        ({"old": "x", "new": "y", "path": "../a"}, "outside_workspace"),
        ({"old": "x", "new": "y", "path": ""}, "path_malformed"),
    ],
)
def test_edit_plan_refuses_when_the_arguments_are_unsound(arguments, code):
    with pytest.raises(Malformed) as refused:
        EDIT.plan({"path": "a"} | arguments, PLACE, OBLIGATIONS, "")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("arguments", "text", "judgement"),
    [
        ({"old": "a", "new": "b"}, "x b x", HAPPENED),
        ({"old": "a", "new": "b"}, "x a x", NOT_HAPPENED),
        ({"old": "a", "new": "b"}, "x a b", UNCLEAR),
        ({"old": "a", "new": "b"}, "x", UNCLEAR),
        ({"old": "a", "new": ""}, "x", HAPPENED),
        ({"old": "a", "new": ""}, "x a", UNCLEAR),
        ({"old": "a", "new": "ab"}, "ab", UNCLEAR),
        ({"old": "ab", "new": "a"}, "x ab", UNCLEAR),
        ({"old": "ab", "new": "a"}, "x a", HAPPENED),
        ({"old": "a", "new": "ab", "sha256": digest(b"x a")}, "x ab", HAPPENED),
        ({"old": "a", "new": "ab", "sha256": digest(b"x a a")}, "x a ab", HAPPENED),
        ({"old": "a", "new": "ab", "sha256": digest(b"a a"), "all": True}, "ab ab", HAPPENED),
        ({"old": "a", "new": "b", "sha256": digest(b"a b")}, "a b", NOT_HAPPENED),
        ({"old": "a", "new": "b", "sha256": digest(b"other")}, "a b", UNCLEAR),
    ],
)
def test_edit_judge_reads_the_file_when_the_outcome_is_unknown(arguments, text, judgement):
    assert EDIT.judge({"path": "f"} | arguments, "ok", {"text": text}) is judgement


def test_edit_judge_says_nothing_when_nothing_was_seen():
    call = {"path": "f", "old": "a", "new": "b"}
    assert EDIT.judge(call, "not_found", {}) is NOT_HAPPENED
    for code, seen in (("output_limit", {"bytes": 9}), ("ok", {"base64": "AA=="}), ("ok", {"text": 1}), ("", {})):
        assert EDIT.judge(call, code, seen) is UNCLEAR


@given(
    before=st.text("ab-", max_size=12),
    old=st.text("ab", min_size=1, max_size=3),
    new=st.text("ab-", max_size=3),
    every=st.booleans(),
    known=st.booleans(),
)
def test_edit_judge_is_never_wrong_about_a_file_that_nobody_else_touched(*, before, old, new, every, known):
    """The judgement does not deny what an edit did to a file on its own, nor does it claim what was not done."""
    count = sum(before.startswith(old, at) for at in range(len(before)))
    if old == new or not count or (count > 1 and not every):
        return
    call = {"path": "f", "old": old, "new": new, "all": every, "sha256": digest(before.encode()) if known else ""}
    after = before.replace(old, new)
    if after == before:
        return
    assert EDIT.judge(call, "ok", {"text": after}) is not NOT_HAPPENED
    assert EDIT.judge(call, "ok", {"text": before}) in ({NOT_HAPPENED} if known else {NOT_HAPPENED, UNCLEAR})
