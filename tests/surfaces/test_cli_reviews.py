"""Reviews at the command line: the whole card, many at once, waivers, emergencies, and who stands in."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from assent.surfaces.cli.exits import Exit
from tests.surfaces.commandline import Cli

pytestmark = pytest.mark.slow

ME = pwd.getpwuid(os.getuid()).pw_name
TERMS = '@review("Delete this from the workspace?")\n@quorum("1")'


@pytest.fixture
def ready(home: Path, cli: Cli) -> Cli:
    """An installation where deletions may be waived, and done first by whoever is on call."""
    rules = home / "policy" / "starter.cedar"
    rules.write_text(rules.read_text().replace(TERMS, f'{TERMS}\n@emergency("oncall")'))
    settings = home / "assent.toml"
    settings.write_text(f'{settings.read_text()}\n[people.{ME}]\nroles = ["oncall"]\n')
    assert cli("policy", "activate").code == Exit.DONE
    return cli


def deletes(cli: Cli, path: str) -> str:
    cli("do", "files.write", "--path", path, "--content", "one\ntwo\n")
    asked = cli("do", "files.delete", "--path", path, "--json")
    assert asked.code == Exit.WAITING
    return str(asked.document["review"]["id"])


def test_card_shows_what_would_change_and_how_its_like_ended(ready: Cli) -> None:
    first = deletes(ready, "a.txt")
    assert ready("deny", first, "--reason", "still needed").code == Exit.DONE
    second = deletes(ready, "a.txt")
    card = ready("review", second)
    assert card.code == Exit.DONE
    assert "1 denied" in card.out
    assert "still needed" in card.out
    assert "-two" in card.out
    written = ready("review", second, "--json").document
    assert written["change"]["path"] == "a.txt"
    assert written["precedents"]["denied"] == 1
    assert ready("timeline").code == Exit.DONE


def test_those_that_are_alike_are_answered_together(ready: Cli) -> None:
    first, *_ = [deletes(ready, f"{number}.txt") for number in range(3)]
    assert "3 of these are alike" in ready("inbox").out
    done = ready("approve", first, "--alike", "--reason", "all of them", "--json")
    assert done.code == Exit.DONE
    assert len(done.document["answers"]) == 3
    assert "Nothing waits" in ready("inbox").out


def test_waived_calls_are_not_asked_about(ready: Cli) -> None:
    deletes(ready, "tmp/a")
    preview = ready("waive", "files.delete path=tmp/*", "--for", "agent:helper", "--preview", "--json")
    assert preview.document["would_have_matched"]["asked"] == 1
    waived = ready("waive", "files.delete path=tmp/* x1", "--for", "agent:helper", "--reason", "tidying", "--json")
    waiver = waived.document["waiver"]["id"]
    ready("do", "files.write", "--path", "tmp/b", "--content", "x")
    assert ready("do", "files.delete", "--path", "tmp/b").code == Exit.DONE
    assert ready("do", "files.delete", "--path", "tmp/a").code == Exit.WAITING
    assert ready("waivers", "list", "--json").document["waivers"] == []
    assert ready("waivers", "revoke", waiver[-8:], "--reason", "over").code == Exit.REFUSED
    assert ready("waive", "*", "--for", "agent:helper", "--reason", "x").code == Exit.USAGE
    assert ready("waive", "files.delete", "--for", "agent:helper").code == Exit.USAGE
    nobody = ready("waive", "files.delete", "--for", "agent:nobody", "--reason", "x")
    assert (nobody.code, "agent:nobody" in nobody.err) == (Exit.REFUSED, True)
    for calls, hours in (("files.write", "1"), ("files.delete", "9")):
        useless = ready("waive", calls, "--for", "agent:helper", "--reason", "x", "--hours", hours)
        assert "lifts nothing" in useless.err
    assert ready("timeline").code == Exit.DONE
    assert ready("verify").code == Exit.DONE


def test_emergency_is_done_first_and_looked_at_afterwards(ready: Cli) -> None:
    deletes(ready, "z")
    assert ready("do", "files.delete", "--path", "z", "--emergency", " ").code == Exit.USAGE
    done = ready("do", "files.delete", "--path", "z", "--emergency", "disk full")
    assert done.code == Exit.DONE
    assert "somebody else looks at this" in done.out
    inbox = ready("inbox")
    assert "Was it right?" in inbox.out
    (after,) = ready("inbox", "--json").document["afterwards"]
    refused = ready("approve", after["review"]["id"])
    assert (refused.code, "made this request" in refused.err) == (Exit.REFUSED, True)


def test_stand_in_is_named_listed_and_ended(ready: Cli) -> None:
    named = ready("stand-in", "person:bob", "--days", "3", "--reason", "on leave", "--json")
    assert [one["by"] for one in named.document["stand_ins"]] == ["person:bob"]
    assert "in the place of" in ready("stand-in").out
    assert ready("stand-in", "--end", "--reason", "back", "--json").document["stand_ins"] == []
    assert ready("stand-in", "--end").code == Exit.REFUSED
    assert ready("stand-in", "agent:helper", "--reason", "x").code == Exit.REFUSED
    assert ready("timeline").code == Exit.DONE


def test_halts_are_told_in_the_timeline(ready: Cli) -> None:
    assert ready("halt", "agent:helper", "--reason", "it is late").code == Exit.DONE
    assert ready("lift", "agent:helper", "--reason", "go on").code == Exit.DONE
    assert ready("timeline").code == Exit.DONE


def test_review_that_goes_to_nobody_else_is_not_escalated(ready: Cli) -> None:
    told = ready("escalate", deletes(ready, "a"))
    assert (told.code, "goes to nobody else" in told.err) == (Exit.REFUSED, True)
    assert ready("approve").code == Exit.USAGE
