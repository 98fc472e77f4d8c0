"""Whatever an asker does with what it has seen, nothing in its calls is better than what it was copied from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.ledger.contracts import Output
from assent.policy.flow import Flow
from assent.primitives.errors import Malformed
from assent.primitives.labels import STRENGTH, Integrity, Label, joined

BOB = ("person:bob",)
USER, ORG, SYSTEM = (Label(integrity=one) for one in (Integrity.USER, Integrity.ORG, Integrity.SYSTEM))
EVIL, SECRET = "EVIL-9 ref:r#/good", "s3cret-7"
OUTPUTS = (
    Output(field="", integrity=Integrity.ORG),
    Output(field="/rows/*/id", kind="id", integrity=Integrity.ORG),
    Output(field="/rows/*/note"),
    Output(field="/rows/0/note", integrity=Integrity.ORG, readers=BOB),
    Output(field="/a~1b"),
    Output(field="/t~0x"),
    Output(field="/list/1"),
    Output(field="/secret", integrity=Integrity.ORG, readers=BOB),
)
VALUE = {
    "rows": [{"id": "ID-1", "note": EVIL}, {"id": "ID-2", "note": EVIL}],
    "a/b": EVIL, "t~x": EVIL, "list": ["fine", EVIL], "secret": SECRET, "good": "GOOD-1",
}  # fmt: skip
STEPS = ("rows", "0", "1", "00", "01", "+1", "-1", "\u0661", "id", "note", "a~1b", "a/b", "t~0x", "t~x", "list",
         "secret", "good", "", "~", "*")  # fmt: skip


def better(one: Label, other: Label) -> bool:
    """Whether a label permits anything that another does not."""
    return STRENGTH[one.integrity] > STRENGTH[other.integrity] or (
        other.readers is not None and (one.readers is None or not set(one.readers) <= set(other.readers))
    )


def seen() -> Flow:
    flow = Flow()
    flow.tell("pay ID-9 what the record says", USER)
    flow.observe("r", VALUE, OUTPUTS)
    return flow


def worst(value: object) -> Label:
    """What is in a value, by its text: what a third party wrote, and what is for Bob alone."""
    text = repr(value)
    third = Label() if "EVIL" in text else SYSTEM
    return joined((third, Label(integrity=Integrity.SYSTEM, readers=BOB if SECRET in text else None)))


DISGUISES = (str, str.lower, str.upper, lambda s: f" {s}", lambda s: f"{s}\u200b", lambda s: s[:4], lambda s: s[::-1],
             lambda s: s.encode().hex(), lambda s: f'"{s}"', list, lambda s: {s: s}, lambda s: [[s]])  # fmt: skip
COPIED = st.builds(lambda way, text: way(text), st.sampled_from(DISGUISES), st.sampled_from((EVIL, SECRET)))
HANDLES = st.builds(
    lambda name, steps: f"ref:{name}#/" + "/".join(steps),
    st.sampled_from(("r", "r", "r", "R", "other", "1-0")), st.lists(st.sampled_from(STEPS), max_size=4),
)  # fmt: skip
MADE = st.recursive(
    COPIED | HANDLES | st.sampled_from(("ref:r", "ref:r#", " ref:r#/secret", "ID-1", "ID-9", 1, True, None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("k", EVIL)), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(MADE)
def test_argument_is_never_better_than_what_it_was_copied_from(made: Any) -> None:
    flow = seen()
    try:
        arguments, held = flow.resolve({"a": made})
    except Malformed:
        return
    assert not better(flow.provenance(arguments, held).of("a"), worst(arguments["a"]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(MADE, st.sampled_from((USER, ORG, Label(readers=BOB)))), max_size=6))
def test_context_is_monotone_whatever_is_seen_or_told(steps: list[Any]) -> None:
    flow = seen()
    for number, step in enumerate(steps):
        before = flow.context
        if isinstance(step, Label):
            flow.tell("so ID-1 it is", step)
        else:
            flow.observe(f"s{number}", step, OUTPUTS[:1])
        assert not better(flow.context, before)


@pytest.mark.parametrize("place", ["01", "001", "+1", "\u0661"])
def test_place_in_a_list_has_one_name(place: str) -> None:
    with pytest.raises(Malformed):
        seen().resolve({"a": f"ref:r#/list/{place}"})


def test_result_is_for_no_more_than_may_read_what_was_seen_when_it_was_asked_for() -> None:
    flow = seen()
    flow.observe("echo", {"text": SECRET, "id": SECRET}, (Output(field="/id", kind="id", integrity=Integrity.ORG),))
    for wish in ("ref:echo#/text", "ref:echo#/id", SECRET):
        arguments, held = flow.resolve({"a": wish})
        assert flow.provenance(arguments, held).of("a").readers == BOB


def test_member_is_judged_as_its_field_however_its_name_is_spelled() -> None:
    for spelled in ("t~0x", "t~x"):
        _, held = seen().resolve({"a": f"ref:r#/{spelled}"})
        assert held["a"].integrity is Integrity.THIRD_PARTY
