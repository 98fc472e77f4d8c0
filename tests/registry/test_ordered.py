"""Blocks in order are a sorted list, whatever is put in and taken out."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.registry import ordered
from assent.registry.ordered import Ordered


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "BLOCK_MAX", 4)
        yield


@given(st.lists(st.integers(0, 60)), st.integers(-1, 61))
def test_ordered_is_a_sorted_list_when_things_come_and_go(numbers, asked):
    things: Ordered[int] = Ordered()
    there: set[int] = set()
    for number in numbers:
        (things.remove if number in there else things.add)(number)
        there ^= {number}
        assert list(things) == sorted(there)
        assert len(things) == len(there)
        assert list(things.after(asked)) == sorted(one for one in there if one > asked)


def test_ordered_moves_one_block_alone_when_many_come_in_no_order():
    numbers = list(range(1_000))
    random.Random(7).shuffle(numbers)
    things: Ordered[int] = Ordered()
    for number in numbers:
        things.add(number)
    assert list(things) == sorted(numbers)
    assert max(map(len, things._blocks)) <= ordered.BLOCK_MAX
    assert min(map(len, things._blocks)) >= 1
