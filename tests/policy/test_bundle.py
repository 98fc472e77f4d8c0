from __future__ import annotations

import pytest

from assent.policy.bundle import Bundle, join
from assent.primitives.errors import Malformed

A = "// a\npermit(principal, action, resource);\n"
B = "// b\nforbid(principal, action, resource);"


def test_join_sorts_by_name_and_finds_the_place_of_a_line():
    bundle = join({"b.cedar": B, "a.cedar": A})
    assert bundle.text == A + B + "\n"
    assert [bundle.place(line) for line in (1, 2, 3, 4)] == [
        ("a.cedar", 1),
        ("a.cedar", 2),
        ("b.cedar", 1),
        ("b.cedar", 2),
    ]


def test_place_is_in_the_text_itself_when_there_are_no_sources():
    assert Bundle(text=A).place(2) == ("", 2)


def test_revision_changes_with_any_text_and_not_with_names():
    assert join({"b": B, "a": A}).revision == join({"a": A, "b": B}).revision == join({"c": A, "d": B}).revision
    assert Bundle(text=A).revision != Bundle(text=A + " ").revision
    assert Bundle(text="").revision.startswith("sha256:")


@pytest.mark.parametrize("text", ["permit(principal, action, resource)", '@id("a', A + "when"])
def test_join_refuses_a_text_that_the_next_one_would_continue(text: str):
    with pytest.raises(Malformed) as caught:
        join({"a.cedar": text, "b.cedar": B})
    assert caught.value.code == "policy_unfinished"
