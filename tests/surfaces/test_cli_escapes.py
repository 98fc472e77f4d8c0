from __future__ import annotations

import json
import os
import pty
import subprocess
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.surfaces.cli.escapes import Screen, cells, cut, shown
from assent.surfaces.cli.paper import Paper, Span, Tone, age
from tests.surfaces.commandline import DEADLINE_S, Cli, command, environment, process

HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b32m\u202eexe.txt\u200b\u2066\r\b"


def plain(text: str) -> bool:
    """Whether nothing in a text could steer a terminal or hide."""
    return not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in "\n\t" for c in text)


@given(st.text())
def test_shown_text_steers_nothing_whatever_it_was(text: str) -> None:
    assert plain(shown(text))
    assert "\n" not in shown(text)


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Lo", "Nd", "Mn"])))
def test_shown_text_is_unchanged_when_it_is_letters_of_any_script(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [("a\x1bb", "a\\x1bb"), ("\x9b", "\\x9b"), ("\u202e", "\\u202e"), ("\U000e0041", "\\U000e0041"), ("a\nb", "a\\nb")],
)
def test_shown_text_names_what_it_hides(text: str, written: str) -> None:
    assert shown(text) == written


@given(st.binary(), st.lists(st.integers(0, 40)))
def test_screen_shows_the_same_however_output_is_cut(data: bytes, cuts: list[int]) -> None:
    whole, pieces = Screen(), Screen()
    expected = whole.show(data) + whole.end()
    edges = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    parts = "".join(pieces.show(data[a:b]) for a, b in pairwise(edges)) + pieces.end()
    assert parts == expected
    assert plain(expected)


def test_screen_keeps_lines_that_end_as_on_windows_and_shows_overwriting() -> None:
    screen = Screen()
    assert screen.show(b"one\r") + screen.show(b"\ntwo\rthree\n") + screen.end() == "one\ntwo\\rthree\n"


@given(st.text(alphabet="aé日本👍\u0301"), st.integers(1, 12))
def test_cut_text_fits_its_columns(text: str, columns: int) -> None:
    assert cells(cut(text, columns)) <= columns


def paper_of(lines: list[str], *, columns: int = 60, colour: bool = False) -> Paper:
    return Paper(lines.append, colour=colour, columns=columns, now_ms=0)


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=80)), min_size=1), st.booleans())
def test_paper_lets_nothing_through_but_its_own_colours(rows: list[tuple[str, str]], colour: bool) -> None:
    lines: list[str] = []
    paper = paper_of(lines, colour=colour)
    paper.table([[Span(a, Tone.BAD), b] for a, b in rows])
    paper.pairs([(shown(a), b) for a, b in rows])
    paper.line(*(Span(b, Tone.GOOD) for _, b in rows))
    paper.block("\n".join(b for _, b in rows))
    written = "".join(lines)
    for tone in Tone:
        written = written.replace(f"\x1b[{tone.value}m", "")
    assert plain(written.replace("\x1b[0m", ""))


def test_paper_aligns_wide_characters() -> None:
    lines: list[str] = []
    paper_of(lines).table([["日本", "x"], ["ab", "x"]])
    assert lines == ["日本  x\n", "ab    x\n"]


def test_paper_wraps_at_words_and_hangs() -> None:
    lines: list[str] = []
    paper_of(lines, columns=40).pairs([("why", "one two three four five six seven eight nine ten")])
    assert all(cells(line.rstrip("\n")) <= 40 for line in lines)
    assert len(lines) > 1
    assert lines[1].startswith("       ")


@pytest.mark.parametrize("colour", [False, True])
def test_paper_wraps_the_last_column_under_itself_when_it_must_be_whole(colour: bool) -> None:
    lines: list[str] = []
    words = " ".join(["word"] * 20)
    paper_of(lines, columns=40, colour=colour).table([[Span("head", Tone.BAD), words]], whole=True)
    assert len(lines) == 3
    assert all(line.startswith(" " * 6 + "word") for line in lines[1:])
    assert sum(line.count("word") for line in lines) == 20


@pytest.mark.parametrize(
    ("distance_ms", "told"),
    [(0, "now"), (-3_000, "3 s ago"), (-180_000, "3 min ago"), (7_200_000, "in 2 h"), (-172_800_000, "2 d ago")],
)
def test_age_is_told_in_one_unit(distance_ms: int, told: str) -> None:
    assert age(distance_ms) == told


@pytest.mark.slow
def test_hostile_names_and_content_are_written_out_when_shown_to_people(home: Path, cli: Cli) -> None:
    name = "".join(c for c in HOSTILE if c not in "/\0")
    (home / "workspace" / name).write_text(HOSTILE)
    effect = cli("do", "files.read", "--path", name, "--json").document["effect"]["id"]
    told = [
        cli("do", "files.list"),
        cli("do", "files.read", "--path", name),
        cli("timeline"),
        cli("explain", effect),
        cli("do", "files.read", "--path", HOSTILE + "not there"),
    ]
    for ran in told:
        assert plain(ran.out + ran.err)
        assert "\\x1b" in ran.out


@pytest.mark.slow
def test_hostile_output_of_a_program_is_written_out_live(home: Path) -> None:
    ran = process(
        "do", "shell.run", "--", "sh", "-c", "printf '\\033[2Jx\\n'; printf '\\033]0;t\\007y\\n' >&2", cwd=home
    )
    assert ran.code == 0
    assert plain(ran.out + ran.err)
    assert "\\x1b[2Jx\n" in ran.out
    assert "\\x1b]0;t\\x07y\n" in ran.err


def test_json_is_ascii_so_that_nothing_in_it_steers(home: Path, cli: Cli) -> None:
    (home / "workspace" / "x").write_text(HOSTILE + "日本👍")
    ran = cli("do", "files.read", "--path", "x", "--json")
    assert ran.out.isascii()
    assert plain(ran.out)
    assert json.loads(ran.out)["outcome"]["value"]["text"] == HOSTILE + "日本👍"


def test_raw_output_is_the_bytes_as_they_are(home: Path, cli: Cli) -> None:
    (home / "workspace" / "x").write_bytes(b"\x1b[1mbold\n")
    ran = cli("do", "files.read", "--path", "x", "--raw")
    assert (ran.code, ran.out) == (0, "\x1b[1mbold\n")


def in_terminal(*words: str, cwd: Path, **env: str) -> str:
    """Run `assent` on a terminal of its own, and give what arrives there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*words), cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**env)
    ) as running:
        os.close(theirs)
        arrived = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            arrived += piece
        running.wait(DEADLINE_S)
    os.close(ours)
    return arrived.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_is_used_only_on_a_terminal_that_wants_it(home: Path, env: dict[str, str], coloured: bool) -> None:
    arrived = in_terminal("do", "files.list", cwd=home, **env)
    assert "Done:" in arrived
    assert ("\x1b[32m" in arrived) is coloured
