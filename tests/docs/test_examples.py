"""Every command in the tutorial and the how-to pages does what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.transcripts import DOCS, Shell, play, steps

PAGES = [DOCS.parent / "README.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
RUN = [page for page in PAGES if steps(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem.lower())
def test_page_shows_what_happens_when_its_commands_are_run(page: Path, tmp_path: Path) -> None:
    play(page, tmp_path)


def test_tutorial_goes_all_the_way_when_it_is_read() -> None:
    commands = " ".join(step.command for step in steps(DOCS / "tutorial.md"))
    for word in ("assent init", "assent do", "assent inbox", "assent approve", "assent explain", "assent verify"):
        assert word in commands


def test_transcript_is_refused_when_the_output_differs(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    try:
        output, _ = shell.run("printf 'one\\ntwo\\nthree 0a1b2c3d\\n'")
        assert not shell.matches(("one", "…", "three 1111aaaa"), output)
        assert shell.run("echo 1111aaaa")[0].strip() == "0a1b2c3d", "the page's id now means the real one"
        assert "found:    two" in shell.matches(("one", "too", "three …"), output)
        assert "not on the page: three" in shell.matches(("one", "two"), output)
        assert "nothing more" in shell.matches(("one", "two", "three …", "four"), output)
        assert shell.run("false")[1] == 1
    finally:
        shell.close()
