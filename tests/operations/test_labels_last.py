"""Labels outlive a run: what was made of a third party's words is that wherever and however a conversation goes on.

`hostile_talk` says how that is seen without believing any label.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.execution.adapters.process import ProcessLane
from assent.execution.targets import Offer
from tests.operations.hostile_talk import PERSONS, POISON, RECORDED, SECRET, STEPS, Audit, Talk, audited, told_of

pytestmark = pytest.mark.slow
_offers: list[Offer] = []


@pytest.fixture(autouse=True, scope="module")
def _confinement_is_found_out_once() -> Iterator[None]:
    """Every node here would try what the machine can confine: once is enough, for so many nodes."""
    with pytest.MonkeyPatch.context() as patched:
        find_out = ProcessLane.offers

        async def known(lane: ProcessLane, fresh: bool = False) -> list[Offer]:
            if not _offers:
                _offers.extend(await find_out(lane, fresh))
            return _offers

        patched.setattr(ProcessLane, "offers", known)
        yield


async def told(talk: Talk, *parts: tuple[str, ...] | str) -> Audit:
    """Go through a conversation: runs (of steps), and what is done between them; the audit of it all. After a run that
    is left, the node begins anew in the middle of it."""
    left = list(parts)
    while True:
        async with talk.opened() as node:
            if talk.left:
                await talk.carry_on(node)
            while left and left[0] != "restart" and not talk.left:
                await talk.do(node, left.pop(0))
            if not left and not talk.left:
                return await audited(node)
            if left[:1] == ["restart"]:
                left.pop(0)


def gone_through(*parts: tuple[str, ...] | str, notes: bool = False) -> Audit:
    """As `told`, in a folder of its own; and check what must hold whatever was done."""
    with tempfile.TemporaryDirectory() as folder:
        audit = asyncio.run(told(Talk(Path(folder), notes=notes), *parts))
    assert not audit.found, told_of(audit.found)
    assert not [one for one in audit.paid if POISON in one or SECRET in one], "money went where a third party wished"
    return audit


WAYS: dict[str, list[tuple[str, ...] | str]] = {
    "the same run": [("letter", "payees", "write handle", "pay", "pay handle", "say")],
    "what was wrong with its calls": [("letter", "no such tool", "no such argument", "pay", "say"), ("pay", "say")],
    "a node that begins anew in the middle": [("leave", "letter", "pay", "pay", "say"), ("leave", "pay", "pay", "say")],
    "the next run": [("letter", "say"), ("pay", "say")],
    "a fork": [("letter", "say", "say"), "fork", ("pay", "pay handle", "say")],
    "a fork of the session": [("letter", "say"), "branch", ("pay", "say")],
    "a summary of the session": [("letter", "say"), ("say",), ("say",), "sum up", ("pay", "say")],
    "a summary, a fork and a new start": [
        ("letter", "say"), ("say",), ("say",), "sum up", "restart", "branch", ("say",), "fork", ("pay", "say"),
    ],
    "a run that is told too much": [("letter", *["read long"] * 6, "pay", "say"), ("pay", "say")],
    "who works for it": [("letter", "delegate", "pay", "write", "say", "pay", "say")],
    "who took over": [("letter", "hand off", "pay", "say"), ("pay", "say")],
    "the run after who took over": [("letter", "hand off", "say"), ("pay", "say")],
    "a list of what is left": [("letter", "todo", "say"), ("pay", "say")],
    "what it said itself": [("letter", "message", "pay what it said", "pay", "say")],
    "what it put on its list": [("letter", "todo", "pay what it listed", "pay", "say")],
    "a file that it wrote": [("letter", "write", "say"), "reset", ("read", "pay", "say")],
}  # fmt: skip


@pytest.mark.parametrize("source", ["letter", "read"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_third_party_wrote_chooses_no_account_by_way_of(way: str, source: str) -> None:
    """A letter is for one person besides, and a file that was read is for everybody: each is stopped by a rule."""
    parts = [
        one if isinstance(one, str) else tuple(source if step == "letter" else step for step in one)
        for one in WAYS[way]
    ]
    audit = gone_through(*parts)
    assert audit.marked > 3
    assert POISON in audit.asked, "the payment that this is about was never asked for"
    assert not audit.paid


@pytest.mark.parametrize("notes", [True, False])
def test_what_a_model_says_is_no_better_than_the_notes_of_the_workspace_that_it_was_told(notes: bool) -> None:
    audit = gone_through(("say",), "restart", ("pay", "say"), "branch", ("say", "pay", "say"), notes=notes)
    assert (POISON in audit.asked) is notes


def test_what_somebody_vouches_for_is_paid_after_whatever_was_read_and_wherever_the_conversation_went_on() -> None:
    read = ("payees", "letter", "pay named", "pay recorded", "delegate", "pay recorded", "say", "say")
    audit = gone_through(read, "fork", ("pay named", "say"), "restart", ("pay named", "say"))
    assert sorted(audit.paid) == [PERSONS, PERSONS, PERSONS, RECORDED]


runs = st.lists(st.sampled_from(STEPS), min_size=1, max_size=6).map(lambda steps: (*steps, "say"))
runs |= runs.map(lambda steps: ("leave", *steps))
between = st.sampled_from(["fork", "branch", "sum up", "restart", "reset"])


@settings(max_examples=25)
@given(st.lists(runs | between, min_size=1, max_size=7), st.booleans())
def test_labels_never_get_better_whatever_a_hostile_model_does_and_wherever_its_talk_goes_on(
    parts: list[tuple[str, ...] | str], notes: bool
) -> None:
    gone_through(*parts, notes=notes)
