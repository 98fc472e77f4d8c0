"""`assent demo`: what it tells is true, seen from outside; it notices when a promise is broken; it cleans up."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import assent
from assent.bootstrap import own_machine
from assent.bootstrap.system import SystemClock
from assent.execution.adapters.process import ProcessLane
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.main import Counter
from assent.surfaces.cli.ports import Said
from assent.surfaces.cli.terminal import Terminal
from assent.surfaces.demo import calls, crash, main, record
from assent.surfaces.demo.grounds import DATABASE, VERIFIER, furnish
from assent.surfaces.demo.site import Site

pytestmark = pytest.mark.slow

NAMES = [
    "read",
    "test",
    "report",
    "publish",
    "delete",
    "upload",
    "crash",
    "letters",
    "timeline",
    "verify",
    "verify_alone",
    "verify_changed",
]
START = "from assent.surfaces.cli.main import main; main()"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(assent.__file__).parents[1]), "TERM": "xterm"}
WITHIN_S = 60


def command(*words: object) -> list[str]:
    return [sys.executable, "-c", START, "demo", *map(str, words)]


def digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def entries(folder: Path) -> list[dict[str, Any]]:
    """The log's entries, read with nothing of Assent."""
    with sqlite3.connect(folder / ".assent/assent.db") as database:
        return [json.loads(row[0]) for row in database.execute("SELECT entry FROM log ORDER BY seq")]


def verified_alone(folder: Path, database: str) -> tuple[int, dict[str, Any]]:
    key = (folder / ".assent/keys/log.pub").read_text().strip()
    done = subprocess.run(
        [sys.executable, "-I", "verify_standalone.py", database, "--key", key, "--json"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


# --------------------------------------------------------------------------------------- the whole story, from outside


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("demo") / "here"
    done = subprocess.run(
        command("--yes", "--json", "--folder", folder),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), folder


@pytest.fixture(scope="module")
def document(played: tuple[dict[str, Any], Path]) -> dict[str, Any]:
    return played[0]


@pytest.fixture(scope="module")
def folder(played: tuple[dict[str, Any], Path]) -> Path:
    return played[1]


@pytest.fixture(scope="module")
def facts(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each step's facts, its outcome and its effect, by its name."""
    return {
        step["name"]: {**step["facts"], "outcome": step["outcome"], "effect": step["effect"]}
        for step in document["steps"]
    }


def test_demo_holds_every_promise_when_nobody_is_asked(document, folder):
    assert document["ok"]
    assert document["failure"] is None
    assert [step["name"] for step in document["steps"]] == NAMES
    assert [step["number"] for step in document["steps"]] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]
    assert document["folder"] == str(folder)
    assert document["principal"] == "agent:release-helper"
    assert document["on_behalf_of"] == [document["approver"]]


def test_demo_takes_less_than_a_minute_however_busy_the_machine_is(document):
    assert 0 < document["duration_ms"] < 60_000


def test_demo_reads_the_change_log_that_is_in_the_folder(facts, folder):
    text = (folder / "workspace/CHANGELOG.md").read_text()
    assert facts["read"]["outcome"] == "allowed"
    assert facts["read"]["bytes"] == len(text.encode())
    assert f"## {facts['read']['version']} " in text


def test_demo_runs_the_tests_confined_or_says_that_it_cannot(facts, document, folder):
    tested = facts["test"]
    if tested["outcome"] == "not_confined":
        assert len(document["notices"]) == 1
        return
    assert document["notices"] == []
    assert tested["confinement"] == "namespaced"
    assert tested["observed"]["network"] == "none"
    assert tested["tests"] == (folder / "workspace/test_postage.py").read_text().count("    def test_")
    settled = [e["body"] for e in entries(folder) if e["type"] == "effect.settled" and e["body"]["lane"] == "process"]
    assert [body["confinement"] for body in settled] == ["namespaced"]


def test_demo_writes_the_report_and_publishes_its_bytes_once_after_approval(facts, folder, document):
    report = folder / "workspace/report.md"
    assert facts["report"]["sha256"] == facts["publish"]["stored"] == digest(report)
    assert facts["read"]["version"] in report.read_text()
    published = facts["publish"]
    assert (published["outcome"], published["requests"], published["status"]) == ("approved", 1, 201)
    assert published["rules"] == ["publish-reviewed"]
    assert published["approver"] == document["approver"]
    assert published["dialled"] == document["server"]
    history = [e for e in entries(folder) if e["body"].get("effect") == published["effect"]]
    assert [e["type"] for e in history] == ["effect.accepted", "review.answered", "effect.dispatched", "effect.settled"]
    assert history[1]["body"]["by"] == document["approver"]


def test_demo_refuses_the_delete_and_leaves_the_photos_alone(facts, folder):
    deleted = facts["delete"]
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "photos").iterdir()}
    assert len(there) == 3
    assert there == deleted["files"]
    assert deleted["rules"] == ["workspace-only"]
    assert "`workspace-only`" in deleted["reason"]
    assert [e["type"] for e in entries(folder) if e["body"].get("effect") == deleted["effect"]] == ["effect.accepted"]


def test_demo_refuses_the_upload_before_anybody_is_dialled(facts, folder, document):
    uploaded = facts["upload"]
    assert (uploaded["outcome"], uploaded["connections"], uploaded["connections_when_knocked"]) == ("refused", 0, 1)
    assert "`release-server-only`" in uploaded["reason"]
    assert uploaded["host"] != document["server"]
    assert [e["type"] for e in entries(folder) if e["body"].get("effect") == uploaded["effect"]] == ["effect.accepted"]


def test_demo_settles_the_killed_effect_by_looking_and_it_happened_once(facts, folder):
    crashed = facts["crash"]
    history = [e for e in entries(folder) if e["body"].get("effect") == crashed["effect"]]
    assert [e["type"] for e in history] == [
        "effect.accepted", "review.answered", "effect.dispatched", "effect.lost", "effect.judged"
    ]  # fmt: skip
    assert [e["body"]["state"] for e in history[3:]] == ["unknown", "succeeded"]
    assert (history[3]["seq"], history[4]["seq"]) == (crashed["unknown_at_seq"], crashed["settled_at_seq"])
    assert history[2]["body"]["node"] != history[0]["body"].get("node")
    assert (crashed["requests"], crashed["looks"], crashed["settled_as"]) == (1, 1, "happened")
    look = next(e["body"] for e in entries(folder) if e["body"].get("effect") == crashed["observed_by"])
    assert (look["operation"], look["parent"]) == ("http.get", crashed["effect"])


def test_demo_leaves_a_record_that_verifies_without_assent(facts, folder):
    status, report = verified_alone(folder, ".assent/assent.db")
    assert (status, report["verdict"]) == (0, "verified")
    assert (
        report["tenants"][0]["size"]
        == facts["timeline"]["entries"]
        == facts["verify"]["entries"]
        == len(entries(folder))
    )
    assert report["tenants"][0]["root"] == facts["verify_alone"]["tenants"][0]["root"]


def test_demo_leaves_a_copy_with_one_byte_changed_that_fails_where_it_says(facts, folder):
    changed = facts["verify_changed"]
    before, after = (folder / ".assent/assent.db").read_bytes(), Path(changed["copy"]).read_bytes()
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    status, report = verified_alone(folder, changed["copy"])
    assert (status, report["verdict"]) == (1, "tampered")
    assert (report["failure"]["table"], report["failure"]["seq"]) == ("log", changed["seq"])
    assert entries(folder)[changed["seq"]]["type"] == "review.answered"


# -------------------------------------------------------------------------------------------------- how it is called


def test_demo_asks_nothing_and_shows_no_colour_when_there_is_no_terminal(tmp_path):
    (tmp_path / "assent-demo-1").mkdir()
    done = subprocess.run(
        command(), cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT,
        timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert "[y/N]" not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if re.match(r"\d  [A-Z]", line)] == list("123456789")
    question = done.stdout.partition("\n4  ")[2].partition("\n5  ")[0]
    for shown in (
        "rule `publish-reviewed`",
        "http.put",
        "/report.md",
        "# Release 1.4.0",
        "Publish this on the release",
    ):
        assert shown in question
    assert re.search(r"unknown .* Entry \d+ of the log, effect.lost", done.stdout)
    assert re.search(r"settled .* it happened", done.stdout)
    last = done.stdout.splitlines()[-4:]
    assert last[0].split() == ["cd", str(tmp_path / "assent-demo-2")]
    assert [line.split()[1] for line in last[1:]] == ["timeline", "explain", "verify"]
    assert (tmp_path / "assent-demo-2/.assent/assent.db").exists()


def test_demo_leaves_a_folder_alone_that_is_not_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = subprocess.run(
        command("--yes", "--folder", tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env=ENVIRONMENT, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == Exit.USAGE
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class Screen:
    """A person at a terminal: sees what is printed, types answers."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.terminal = terminal
        self.seen = ""

    def until(self, text: str, *, times: int = 1) -> None:
        deadline = time.monotonic() + WITHIN_S
        while self.seen.count(text) < times:
            assert time.monotonic() < deadline, self.seen
            assert self.read(), f"it ended before `{text}`: {self.seen}"

    def read(self) -> bool:
        """Whether there is still somebody who prints."""
        try:
            self.seen += os.read(self.terminal, 65_536).decode(errors="replace")
        except OSError:  # the last process on the terminal has closed it
            return False
        return True

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def end(self) -> int:
        while self.read():
            pass
        return self.process.wait(timeout=WITHIN_S)

    @property
    def server(self) -> int:
        """The release server's process."""
        found = re.search(r"\(process (\d+)\)", self.seen)
        assert found is not None, self.seen
        return int(found[1])


@contextmanager
def at_a_terminal(folder: Path, **environment: str) -> Iterator[Screen]:
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        command("--folder", folder), stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
        env={**{k: v for k, v in ENVIRONMENT.items() if k != "NO_COLOR"}, **environment},
    )  # fmt: skip
    os.close(inner)
    try:
        yield Screen(process, terminal)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_demo_does_what_the_person_says_when_they_refuse_the_first_and_approve_the_second(tmp_path):
    with at_a_terminal(tmp_path / "here") as screen:
        screen.until("[y/N]")
        screen.type("no\n")
        screen.until("[y/N]", times=2)
        screen.type("y\n")
        assert screen.end() == 0, screen.seen
    assert "\x1b[31m" in screen.seen
    answered = [e["body"]["answer"] for e in entries(tmp_path / "here") if e["type"] == "review.answered"]
    assert answered == ["deny", "approve"]
    dispatched = [e["body"]["effect"] for e in entries(tmp_path / "here") if e["type"] == "effect.dispatched"]
    accepted = [e["body"] for e in entries(tmp_path / "here") if e["type"] == "effect.accepted"]
    asked = [body["effect"] for body in accepted if body["operation"] == "http.put" and body["verdict"] == "review"]
    assert dispatched == asked[1:]
    assert "nothing was sent" in screen.seen


def test_demo_cleans_up_and_shows_no_colour_when_it_is_interrupted_at_a_question(tmp_path):
    with at_a_terminal(tmp_path / "here", NO_COLOR="1") as screen:
        screen.until("[y/N]")
        os.kill(screen.process.pid, signal.SIGINT)
        assert screen.end() == Exit.INTERRUPTED
        assert not _runs(screen.server)
    assert "\x1b" not in screen.seen
    assert verified_alone(tmp_path / "here", ".assent/assent.db")[0] == 0


def test_demo_leaves_no_server_behind_when_it_is_killed(tmp_path):
    with at_a_terminal(tmp_path / "here") as screen:
        screen.until("[y/N]")
        screen.process.kill()
        screen.process.wait()
        deadline = time.monotonic() + WITHIN_S
        while _runs(screen.server):
            assert time.monotonic() < deadline


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


# ------------------------------------------------------------------------------ a broken promise ends the demonstration


def play(folder: Path) -> Said:
    """The demonstration in this process, so that the world can be bent."""
    clock = SystemClock()
    desk: Any = Counter(Terminal(environment={}, now_ms=clock.now_ms), clock)
    return asyncio.run(main.demo(yes=True, folder=folder, json=True, desk=desk))


def without_rule(rule: str) -> Callable[[pytest.MonkeyPatch], None]:
    """A policy that lacks one rule."""

    def bend(patch: pytest.MonkeyPatch) -> None:
        def furnished(folder: Path, *, host: str) -> None:
            furnish(folder, host=host)
            policy = folder / "policy/demo.cedar"
            text, cut = re.subn(rf'@id\("{rule}"\).*?;\n', "", policy.read_text(), flags=re.DOTALL)
            assert cut == 1
            policy.write_text(text)

        patch.setattr(main, "furnish", furnished)

    return bend


def a_server_that_was_asked_twice(patch: pytest.MonkeyPatch) -> None:
    count = Site.count

    async def counted(self: Site, method: str, path: str) -> int:
        return 2 * await count(self, method, path)

    patch.setattr(Site, "count", counted)


def a_failing_test(patch: pytest.MonkeyPatch) -> None:
    def furnished(folder: Path, *, host: str) -> None:
        furnish(folder, host=host)
        path = folder / "workspace/postage.py"
        path.write_text(path.read_text().replace("30_000, 1_649", "20_000, 1_649"))

    patch.setattr(main, "furnish", furnished)


def a_process_that_ends_before_it_is_killed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(crash, "_COMMAND", "raise SystemExit('gone')")


def a_copy_in_which_nothing_changed(patch: pytest.MonkeyPatch) -> None:
    def copied(scene: Any, copy: Path, *, seq: int) -> tuple[str, str]:
        copy.write_bytes((scene.folder / DATABASE).read_bytes())
        return "person:a", "person:b"

    patch.setattr(record, "change_approver", copied)


def a_verifier_that_always_agrees(patch: pytest.MonkeyPatch) -> None:
    def furnished(folder: Path, *, host: str) -> None:
        furnish(folder, host=host)
        report = '{"verdict": "verified", "tenants": [{"size": 42, "root": "00"}], "failure": null, "warnings": []}'
        (folder / VERIFIER).write_text(f"print({report!r})\n")

    patch.setattr(main, "furnish", furnished)


@pytest.mark.parametrize(
    ("bend", "step", "expected"),
    [
        (without_rule("read-workspace"), 1, "read-workspace"),
        (a_failing_test, 2, "done"),
        (without_rule("publish-reviewed"), 4, "stops the call for a person"),
        (a_server_that_was_asked_twice, 4, "exactly one request"),
        (without_rule("workspace-only"), 5, "workspace-only"),
        (without_rule("release-server-only"), 6, "release-server-only"),
        (a_process_that_ends_before_it_is_killed, 7, "in the middle"),
        (without_rule("read-release-server"), 7, "settled by looking"),
        (without_rule("clerk-works"), 8, "the answers on disk"),
        (a_verifier_that_always_agrees, 10, "one byte changed"),
        (a_copy_in_which_nothing_changed, 10, "one byte changed"),
    ],
    ids=[
        "reading_is_not_allowed", "a_test_fails", "publishing_needs_nobody", "it_was_sent_twice",
        "no_rule_names_the_workspace", "no_rule_names_the_host", "nothing_is_killed", "nobody_may_look",
        "the_agent_may_not_work", "the_verifier_lies", "the_copy_is_whole",
    ],
)  # fmt: skip
def test_demo_ends_at_the_step_whose_promise_is_broken(
    bend: Callable[[pytest.MonkeyPatch], None],
    step: int,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    bend(monkeypatch)
    said = play(tmp_path / "here")
    assert said.exit is Exit.FAILED
    assert not said.document["ok"]
    failure = said.document["failure"]
    assert (failure["step"], failure["code"]) == (step, "promise_broken")
    assert expected in failure["expected"]
    assert step not in [done["number"] for done in said.document["steps"]] or step == 10


def test_demo_goes_on_and_says_so_when_the_machine_cannot_confine(tmp_path, monkeypatch):
    monkeypatch.setattr(own_machine, "ProcessLane", functools.partial(ProcessLane, mechanism="local-weak"))
    said = play(tmp_path / "here")
    assert said.exit is Exit.DONE, said.document
    tested = said.document["steps"][1]
    assert tested["outcome"] == "not_confined"
    assert tested["facts"]["code"] in calls.UNCONFINED
    assert "spent_ms" not in tested["facts"], "nothing ran"
    assert len(said.document["notices"]) == 1
    assert "not run" in (tmp_path / "here/workspace/report.md").read_text()
    assert not list((tmp_path / "here/workspace").rglob("__pycache__"))
