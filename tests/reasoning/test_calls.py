"""Proposals of one answer: each has an id of its own, and arguments that are an object, or says why not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.primitives.canonical import canonical
from assent.reasoning.calls import NAME_CHARACTERS_MAX, RAW_BYTES_MAX, opaque, proposal, told_apart
from assent.reasoning.messages import BrokenCall, Text, ToolCall
from assent.reasoning.reading import Misread


def ids(*given: str) -> list[str]:
    parts = told_apart([Text(text="x"), *(ToolCall(id=one, name="go", arguments={}) for one in given)])
    return [part.id for part in parts if isinstance(part, ToolCall)]


def test_ids_are_those_of_the_provider_when_they_can_be():
    assert ids("a", "b") == ["a", "b"]
    assert ids("", "b", "") == ["call_0", "b", "call_2"]
    assert ids("a", "a", "a") == ["a", "call_1", "call_2"]
    assert ids("call_1", "") == ["call_1", "call_1_"]
    assert ids("x" * (NAME_CHARACTERS_MAX + 1)) == ["call_0"]


@given(given=st.lists(st.sampled_from(["", "a", "call_0", "call_1", "call_1_"]), max_size=8))
def test_ids_are_never_the_same(given):
    found = ids(*given)
    assert len(set(found)) == len(found) == len(given)
    assert "" not in found


@given(raw=st.text() | st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists))
def test_arguments_are_an_object_that_can_be_recorded_or_a_broken_call(raw):
    made = proposal(id_="a", name="x" * 500, raw=raw)
    assert len(made.name) == NAME_CHARACTERS_MAX
    if isinstance(made, ToolCall):
        canonical(made.arguments)
        assert not isinstance(raw, str) or not raw.strip() or json.loads(raw) == made.arguments
    else:
        assert made.fault


def test_arguments_without_end_are_a_broken_call():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for raw in (json.dumps({"a": "x" * RAW_BYTES_MAX}), deep, '{"a":' * 9_999):
        assert isinstance(proposal(id_="a", name="go", raw=raw), BrokenCall)


@pytest.mark.parametrize("data", [{"n": 2**70}, {"n": float("nan")}, {"t": "\ud800"}])
def test_what_cannot_be_kept_exactly_is_misread(data):
    with pytest.raises(Misread):
        opaque("anthropic", data)
