"""`assent terminal` and `assent replay`, driven as a person does: through a real terminal."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from assent.primitives.casts import Calm, read_cast
from assent.primitives.errors import Malformed
from tests.surfaces.person import Person

RULE = """
@id("terminal")
@reason("people may work in the workspace")
@floor("namespaced")
@wall_s("60")
@output_kb("1024")
permit (principal, action, resource in Connector::"terminal")
when { context.inside_workspace };
"""


@pytest.fixture
def allowed(home: Path, cli) -> Path:
    with (home / "policy" / "terminal.cedar").open("w") as file:
        file.write(RULE)
    assert cli("policy", "activate").code == 0
    return home


@pytest.fixture
def sit(allowed: Path) -> Iterator[type[Person]]:
    people: list[Person] = []

    class Seated(Person):
        def __init__(self, *words: str, **size: int) -> None:
            super().__init__(*words, **size)
            people.append(self)

    yield Seated
    for person in people:
        person.close()


def recording(person: Person) -> str:
    """The digest that was told at the end."""
    return person.seen.decode().split("recorded as ")[1].split(";")[0]


@pytest.mark.slow
def test_terminal_is_lent_and_given_back_when_a_program_runs_in_it(sit, cli):
    person = sit("terminal", "--", "sh", "-c", "stty size; tty; read line; echo got $line; exit 7")
    person.sees("30 100")
    assert not person.restored
    person.type("hello\r")
    person.sees("got hello")
    assert person.leaves() == 7
    assert person.restored
    played = cli("replay", recording(person), "--speed", "0")
    assert played.code == 0
    assert "got hello" in played.out
    events = json.loads(cli("replay", recording(person), "--json").out)["events"]
    assert {event["kind"] for event in events} == {"o", "r"}
    assert "hello" in cli("replay", recording(person), "--dump").out


OBEDIENT = """
import os, sys
print("size", os.get_terminal_size().columns, flush=True)
for line in sys.stdin:
    try:
        if line == "wait\\n":
            while os.get_terminal_size().columns != 132:
                pass
            print("now", os.get_terminal_size().columns, flush=True)
        if line == "spin\\n":
            print("spinning", flush=True)
            while True:
                pass
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_keys_and_sizes_reach_the_program_when_it_runs(sit):
    person = sit("terminal", "--", "python3", "-c", OBEDIENT)
    person.sees("size 100")
    person.resize(40, 132)
    os.killpg(person.process.pid, signal.SIGWINCH)
    person.type("wait\r")  # keys and sizes take ways of their own
    person.sees("now 132")
    person.type("spin\r")
    person.sees("spinning")
    person.type("\x03")
    person.sees("interrupted")
    person.type("\x04")
    assert person.leaves() == 0
    assert person.restored


@pytest.mark.slow
def test_what_is_typed_is_recorded_only_when_it_is_asked_for(sit, cli):
    for wanted in ([], ["--record-input"]):
        person = sit("terminal", *wanted, "--", "sh", "-c", "stty -echo; echo ready; read secret; echo done")
        person.sees("ready")
        person.type("hunter2\r")
        person.sees("done")
        assert person.leaves() == 0
        assert ("hunter2" in cli("replay", recording(person), "--dump").out) == bool(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminal_is_given_back_and_the_recording_kept_when_the_command_is_stopped(sit, cli, number):
    person = sit("terminal", "--", "sh", "-c", "echo up; sleep 600")
    person.sees("up")
    person.process.send_signal(number)
    assert person.leaves() in (143, 130)
    assert person.restored
    accepted = [one for one in cli("timeline", "--json").document["moments"] if one["type"] == "effect.accepted"]
    told = cli("explain", accepted[-1]["effect"], "--json").document
    assert told["effect"]["state"] == "cancelled"
    kept = told["outcome"]["evidence"]["digests"]["recording"]
    assert "up" in cli("replay", kept, "--dump").out


@pytest.mark.slow
def test_program_ends_by_its_time_when_it_does_not_end_by_itself(sit):
    person = sit("terminal", "--wall-s", "2", "--", "sh", "-c", "echo up; sleep 600")
    person.sees("up")
    assert person.leaves() in (1, 143)
    assert person.restored


@pytest.mark.slow
def test_terminal_is_refused_when_no_rule_allows_it(home):
    person = Person("terminal", "--", "sh")
    try:
        assert person.leaves() == 3
        assert b"Refused" in person.seen
        assert person.restored
    finally:
        person.close()


def test_terminal_is_refused_when_standard_input_is_none(home, cli, monkeypatch):
    with Path(os.devnull).open() as nowhere:
        monkeypatch.setattr("sys.stdin", nowhere)
        ran = cli("terminal", "--", "sh")
    assert (ran.code, "standard input is no terminal" in ran.err) == (2, True)


def test_replay_says_what_is_wrong_when_it_is_given_no_recording(home, cli):
    (home / "other").write_text("not a recording")
    assert cli("replay", "other").code == 2
    assert cli("replay", "sha256:" + "0" * 64).code == 3
    assert cli("replay", "other", "--speed", "-1").code == 2


@pytest.mark.parametrize(
    "lines",
    [[], [b"{}\n"], [b"[]\n"], [b'{"version": 1, "width": 1, "height": 1}\n'], [b'{"version": 2}\n'], [b"\xff\n"],
     [b"[" * 100_000], [b'{"version": 2, "width": 0, "height": 1}\n']],
)  # fmt: skip
def test_recording_is_refused_when_its_header_is_none(lines):
    with pytest.raises(Malformed):
        read_cast(lines)


@pytest.mark.parametrize("line", [b"{}\n", b"[1]\n", b'["x", "o", "y"]\n', b"[true, 2, 3]\n"])
def test_recording_is_refused_where_it_breaks_when_an_event_is_none(line):
    _, events = read_cast([b'{"version": 2, "width": 80, "height": 24}\n', b'[0.5, "o", "x"]\n', b"\n", line])
    assert next(events).text == "x"
    with pytest.raises(Malformed):
        next(events)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["a\x1b[31mred\x1b[0m"], "a\x1b[31mred\x1b[0m"),
        (["a\x1b[6nb\x1b[cc\x1b[>0cd"], "abcd"),
        (["\x1b]52;c;aGk=\x07x\x1b]0;title\x1b\\y"], "xy"),
        (["\x1b]52;c;", "aGk=\x07x"], "x"),
        (["a\x1b", "[6", "nb"], "ab"),
        (["\x1bP$qm\x1b\\z\x05"], "z"),
    ],
)
def test_output_is_calm_when_it_would_reach_beyond_the_screen(pieces, shown):
    calm = Calm()
    assert "".join(calm.text(piece) for piece in pieces) == shown


@pytest.mark.slow
def test_beginning_is_shown_and_the_rest_named_when_output_is_large(home, cli):
    rules = home / "policy" / "starter.cedar"
    rules.write_text(rules.read_text().replace('@output_kb("1024")', '@output_kb("8192")'))
    assert cli("policy", "activate").code == 0
    call = ("do", "shell.run", "--", "sh", "-c", "yes 0123456789 | head -c 3000000")
    done = cli(call[0], call[1], "--json", *call[2:]).document
    value = done["outcome"]["value"]["stdout"]
    assert (value["bytes"], len(value["head"])) == (3_000_000, 1_048_576)
    told = cli("explain", done["effect"]["id"]).out
    assert f"which are in {value['artefact']}" in " ".join(told.split())
