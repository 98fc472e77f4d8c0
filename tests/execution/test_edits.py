"""Edits: what is replaced, what is told when nothing is, and that a file is never left half-done."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.execution.adapters.files import FileLane
from assent.execution.adapters.files import edits as verb
from assent.execution.adapters.files.placing import check_still
from assent.execution.attestations import ConfinementClass
from assent.execution.edits import LINE_CHARACTERS_MAX, PLACES_TOLD_MAX, lines_at, nearest, places
from assent.execution.orders import Edit, FileOrder, Limits, Lines
from assent.execution.outcomes import Outcome
from assent.primitives.digests import digest
from tests.execution.sites import RealClock


def carry(order: FileOrder) -> Outcome:
    lane = FileLane(clock=RealClock())
    return asyncio.run(lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))


def edited(place: Path, old: str, new: str, *, every: bool = False, sha256: str = "", **limits: int) -> Outcome:
    edit = Edit(old=old.encode(), every=every, sha256=sha256)
    bounds = Limits(**limits)
    return carry(FileOrder(verb="edit", workspace=str(place), path="f", content=new.encode(), edit=edit, limits=bounds))


def read(place: Path, first: int, count: int, **limits: int) -> Outcome:
    lines = Lines(first=first, count=count)
    return carry(FileOrder(verb="read", workspace=str(place), path="f", lines=lines, limits=Limits(**limits)))


def test_edit_replaces_the_one_place_and_says_what_was_and_is_there(tmp_path):
    (tmp_path / "f").write_text("one\ntwö\nthree\n")
    (tmp_path / "f").chmod(0o640)
    outcome = edited(tmp_path, "twö", "2")
    assert outcome.code == "ok"
    assert (tmp_path / "f").read_text() == "one\n2\nthree\n"
    before, after = digest("one\ntwö\nthree\n".encode()), digest(b"one\n2\nthree\n")
    assert outcome.value == {"replaced": 1, "lines": [2], "bytes": 12, "before": before, "sha256": after}
    assert outcome.evidence.facts["before"] == before
    assert outcome.evidence.digests == {"content": after}
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_edit_tells_the_lines_and_changes_nothing_when_the_text_stands_twice(tmp_path):
    (tmp_path / "f").write_text("x\ny\nx\n")
    outcome = edited(tmp_path, "x", "z")
    assert (outcome.ending, outcome.code, outcome.value) == ("failed", "edit_ambiguous", {"places": 2, "lines": [1, 3]})
    assert (tmp_path / "f").read_text() == "x\ny\nx\n"
    assert edited(tmp_path, "x", "z", every=True).value["replaced"] == 2
    assert (tmp_path / "f").read_text() == "z\ny\nz\n"


def test_edit_is_ambiguous_when_the_places_overlap(tmp_path):
    (tmp_path / "f").write_text("aaa")
    assert edited(tmp_path, "aa", "b").code == "edit_ambiguous"


@pytest.mark.parametrize(
    ("content", "old", "value"),
    [
        ("def a():\n\treturn 1\n", "def a():\n    return 1\n",
         {"line": 2, "there": "\treturn 1", "wanted": "    return 1"}),
        ("a\nb\nc\n", "a\nb\nd\n", {"line": 3, "there": "c", "wanted": "d"}),
        ("def total(numbers):\n", "def totals(number):\n",
         {"line": 1, "there": "def total(numbers):", "wanted": "def totals(number):"}),
        ("a\r\nb\r\n", "a\nb", {"line": 1}),
        ("a", "a\nb", {"line": 1, "there": "a", "wanted": "b"}),
        ("something else entirely\n", "QQQQ", {}),
        ("", "x", {}),
        ("x\n", "\n\n", {}),
    ],
)  # fmt: skip
def test_edit_names_the_nearest_line_when_the_text_is_not_there(content, old, value, tmp_path):
    (tmp_path / "f").write_bytes(content.encode())
    outcome = edited(tmp_path, old, "new")
    assert (outcome.ending, outcome.code, outcome.value) == ("failed", "edit_no_match", value)
    assert (tmp_path / "f").read_bytes() == content.encode()


def test_edit_tells_no_more_than_a_line_when_lines_are_endless(tmp_path):
    (tmp_path / "f").write_text("x" * 100_000)
    outcome = edited(tmp_path, "x" * 150 + "y" * 50, "new")
    assert len(outcome.value["there"]) == LINE_CHARACTERS_MAX


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0old"])
def test_edit_refuses_when_the_file_is_not_text(content, tmp_path):
    (tmp_path / "f").write_bytes(content)
    assert edited(tmp_path, "old", "new").code == "not_text"
    assert (tmp_path / "f").read_bytes() == content


def test_edit_refuses_when_the_file_is_not_the_one_that_was_read(tmp_path):
    (tmp_path / "f").write_text("old")
    assert edited(tmp_path, "old", "new", sha256=digest(b"older")).code == "file_changed"
    assert edited(tmp_path, "old", "new", sha256=digest(b"old")).code == "ok"


def test_edit_refuses_when_somebody_wrote_between_the_look_and_the_rename(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("old")
    genuine = check_still

    def meddled(*given: Any) -> None:
        (tmp_path / "f").write_text("old and more")
        genuine(*given)

    monkeypatch.setattr(verb, "check_still", meddled)
    assert edited(tmp_path, "old", "new").code == "file_changed"
    assert (tmp_path / "f").read_text() == "old and more"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_edit_refuses_when_the_file_is_or_would_be_too_large(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("old" + "x" * 20)
    over = edited(tmp_path, "old", "much newer", file_bytes_max=25)
    assert (over.code, over.evidence.limit) == ("output_limit", "file_bytes_max")
    monkeypatch.setattr(verb, "EDITED_BYTES_MAX", 22)
    over = edited(tmp_path, "old", "new")
    assert (over.code, over.evidence.limit) == ("output_limit", "edited_bytes_max")


def test_edit_replaces_the_name_and_not_the_file_when_it_has_a_second_name(tmp_path):
    (tmp_path / "ws").mkdir()
    (tmp_path / "other").write_text("old")
    os.link(tmp_path / "other", tmp_path / "ws" / "f")
    assert edited(tmp_path / "ws", "old", "new").code == "ok"
    assert (tmp_path / "other").read_text() == "old"


@pytest.mark.parametrize(
    ("wanted", "text", "lines", "more"),
    [
        ((1, 2), "1\n2\n", 2, True),
        ((2, 1), "2\n", 1, True),
        ((3, 5), "3\n4", 2, False),
        ((4, 1), "4", 1, False),
        ((5, 9), "", 0, False),
        ((99, 1), "", 0, False),
    ],
)
def test_read_gives_the_lines_that_are_asked_for(wanted, text, lines, more, tmp_path):
    (tmp_path / "f").write_text("1\n2\n3\n4")
    outcome = read(tmp_path, *wanted)
    assert outcome.value == {"text": text, "first_line": wanted[0], "lines": lines, "more": more, "bytes": 7}


def test_read_gives_lines_of_a_file_that_is_larger_than_the_limit(tmp_path):
    (tmp_path / "f").write_text("".join(f"line {number}\n" for number in range(200_000)))
    assert read(tmp_path, 150_001, 2, output_bytes_max=100).value["text"] == "line 150000\nline 150001\n"
    over = read(tmp_path, 1, 1_000, output_bytes_max=100)
    assert (over.code, over.evidence.limit) == ("output_limit", "output_bytes_max")


def test_read_gives_lines_alike_wherever_pieces_of_the_file_end(tmp_path):
    long = "x" * 1_500_000
    (tmp_path / "f").write_text(f"a\n{long}\nb\nc\n")
    assert read(tmp_path, 3, 1).value["text"] == "b\n"
    assert read(tmp_path, 2, 1, output_bytes_max=2_000_000).value["text"] == f"{long}\n"


@given(
    content=st.text("ab\n", max_size=40).map(str.encode), old=st.text("ab\n", min_size=1, max_size=3).map(str.encode)
)
def test_places_are_where_the_text_stands(content, old):
    found = places(content, old)
    expected = [at for at in range(len(content)) if content.startswith(old, at)]
    assert found == expected[: PLACES_TOLD_MAX + 1]
    assert lines_at(content, found) == [content[:at].count(b"\n") + 1 for at in found[:PLACES_TOLD_MAX]]


@settings(max_examples=300)
@given(text=st.text("ab \n\r\t", max_size=60), old=st.text("ab \n\r\t", min_size=1, max_size=20))
def test_nearest_is_a_line_of_the_text_whatever_is_looked_for(text, old):
    if old in text:
        return
    found = nearest(text, old)
    if found is not None and (found.text or found.wanted):
        assert text.split("\n")[found.line - 1].startswith(found.text)


@pytest.mark.slow
def test_nearest_ends_soon_when_text_and_wanted_are_large_and_alike():
    line = "the very same line again and again"
    before = time.monotonic()
    nearest("\n".join([line] * 200_000), "\n".join([line] * 30_000 + ["other"]))
    nearest("\n".join(f"{line} {number}" for number in range(200_000)), f"{line} x y z" * 1_000)
    assert time.monotonic() - before < 5
