"""How commands end when something comes in between: signals, readers that are gone, nodes that die, bugs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from assent.ledger.effects import EFFECT, EffectState
from assent.operations.timelines import Timelines
from assent.primitives.errors import Conflict, InvariantBroken, Malformed, NotFound, Refused, Unavailable
from assent.surfaces.cli.exits import MEANINGS, OF_STATE, Exit, of_error
from tests.surfaces.commandline import DEADLINE_S, Cli, command, environment, process

SLEEPER = ("do", "shell.run", "--", "sh", "-c", "echo started; exec sleep 600")


def test_every_exit_code_has_a_meaning_and_every_state_an_exit_code() -> None:
    assert set(MEANINGS) == set(Exit)
    assert set(OF_STATE) == set(EffectState)
    assert all(OF_STATE[state] in (Exit.DONE, Exit.FAILED, Exit.REFUSED, Exit.UNKNOWN) for state in EFFECT.terminal)


def test_exit_codes_are_the_documented_numbers() -> None:
    assert [int(code) for code in Exit] == [0, 1, 2, 3, 4, 5, 130, 143]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Malformed, Exit.USAGE),
        (Refused, Exit.REFUSED),
        (NotFound, Exit.REFUSED),
        (Conflict, Exit.REFUSED),
        (Unavailable, Exit.FAILED),
        (InvariantBroken, Exit.FAILED),
    ],
)
def test_exit_code_follows_the_kind_of_error(kind: type[Any], code: Exit) -> None:
    assert of_error(kind("code", "message")) is code


def _broken(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("a bug\x1b[31m")


def test_bug_ends_in_a_sentence(home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timelines, "newest", _broken)
    ran = cli("timeline")
    assert ran.code == 1
    assert "RuntimeError: a bug" in ran.err
    assert "ASSENT_DEBUG=1" in ran.err
    assert "\x1b" not in ran.err
    assert cli("timeline", "--json").document["error"]["code"] == "internal"


def test_bug_shows_where_it_is_when_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    from assent.surfaces.cli.main import run

    monkeypatch.setattr(Timelines, "newest", _broken)
    monkeypatch.setenv("ASSENT_DEBUG", "1")
    assert run(["timeline"]) == 1
    assert b"Traceback" in capsysbinary.readouterr().err


def test_error_of_the_system_ends_in_a_sentence(home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr(Timelines, "newest", full)
    ran = cli("timeline")
    assert (ran.code, "`/somewhere`: no space left on device" in ran.err) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_cancels_what_runs_and_records_it(home: Path, number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        command(*SLEEPER), cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"started\n"
        running.send_signal(number)
        _, err = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == code
    assert b"Traceback" not in err
    moments = process("timeline", "--json", cwd=home).document["moments"]
    assert moments[-1]["facts"]["state"] == "cancelled"


@pytest.mark.slow
def test_reader_that_is_gone_stops_nothing(home: Path) -> None:
    write = f"{sys.executable} -c \"print('x' * 300000)\"; echo done > done.txt"
    with subprocess.Popen(
        command("do", "shell.run", "--", "sh", "-c", write.replace(sys.executable, "python3")),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        err = running.stderr.read()
        running.wait(DEADLINE_S)
    assert err == b""
    assert running.returncode == 0
    assert (home / "workspace" / "done.txt").read_text() == "done\n"


@pytest.mark.slow
def test_killed_node_leaves_an_unknown_effect_that_a_person_settles(home: Path) -> None:
    with subprocess.Popen(command(*SLEEPER), cwd=home, stdout=subprocess.PIPE, env=environment()) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"started\n"
        running.kill()
    found = process("timeline", "--json", cwd=home)
    effect = found.document["moments"][-1]["effect"]
    assert found.document["moments"][-1]["facts"]["state"] == "unknown"
    assert f"the outcome of `{effect[-8:]}` is unknown; run `assent recover`" in found.err

    recovered = process("recover", cwd=home)
    assert recovered.code == 5
    assert effect in recovered.out
    assert "assent attest" in recovered.out
    assert [one["effect"]["id"] for one in process("inbox", "--json", cwd=home).document["unknown"]] == [effect]

    attested = process("attest", effect[-10:], "--did-not-happen", "--reason", "I looked", cwd=home)
    assert attested.code == 0
    assert "failed" in attested.out
    after = process("recover", cwd=home)
    assert (after.code, after.err) == (0, "")
    explained = process("explain", effect, cwd=home)
    assert "I looked" in explained.out
    assert "note:" not in explained.err


@pytest.mark.slow
def test_recover_settles_what_can_be_observed(home: Path) -> None:
    """A write of a large file, killed in the middle of it or after it: what is there tells which."""
    words = command("do", "files.write", "--arguments", "@-")
    content = "x" * 900_000
    with subprocess.Popen(
        words, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment()
    ) as running:
        assert running.stdin is not None
        running.stdin.write(b'{"path": "big.txt", "content": "%s"}' % content.encode())
        running.stdin.close()
        _until(lambda: any((home / "workspace").iterdir()) or running.poll() is not None)
        running.kill()
    ran = process("recover", "--json", cwd=home)
    assert (ran.code, ran.document["left"]) == (0, [])
    written = (home / "workspace" / "big.txt").exists()
    (first,) = [
        m
        for m in process("timeline", "--json", cwd=home).document["moments"]
        if m["facts"].get("operation") == "files.write"
    ]
    state = process("explain", first["effect"], "--json", cwd=home).document["effect"]["state"]
    assert state == ("succeeded" if written else "failed")


def test_overview_loads_nothing_heavy() -> None:
    program = (
        "import sys; from assent.surfaces.cli.main import run; code = run(['--help']); "
        "heavy = {'cedarpy', 'cryptography', 'httpx2', 'rich', 'cyclopts', 'sqlite3'} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, env=environment(), timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.slow
def test_answer_that_cannot_be_written_is_a_failure_of_the_answer_only(home: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        for form in ((), ("--json",)):
            done = subprocess.run(
                command("do", "files.append", "--path", "a", "--content", "x", *form),
                cwd=home,
                check=False,
                stdout=full,
                stderr=subprocess.PIPE,
                env=environment(),
                timeout=DEADLINE_S,
            )
            assert done.returncode == 1
            assert b"could not be written: no space left" in done.stderr
            assert b"Traceback" not in done.stderr
    assert (home / "workspace" / "a").read_text() == "xx"


@pytest.mark.slow
def test_command_works_without_any_output(home: Path) -> None:
    words = " ".join([*command("do", "files.write", "--path", "a", "--content", "x"), ">&-", "2>&-"])
    done = subprocess.run(["sh", "-c", words], cwd=home, check=False, env=environment(), timeout=DEADLINE_S)
    assert done.returncode == 0
    assert (home / "workspace" / "a").read_text() == "x"


@pytest.mark.slow
def test_timeline_follows_what_happens_until_it_is_interrupted(home: Path) -> None:
    with subprocess.Popen(
        command("timeline", "--limit", "1", "--follow"),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as following:
        assert following.stdout is not None
        assert b"activated" in following.stdout.readline()
        assert process("do", "files.list", cwd=home).code == 0
        assert b"files.list" in following.stdout.readline()
        assert b"succeeded" in following.stdout.readline()
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=DEADLINE_S)
    assert following.returncode == 130
