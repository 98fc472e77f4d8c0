"""`assent work`, `runs start` and `runs tell`: real processes that are stopped, killed and made to spin."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assent.surfaces.cli.exits import Exit
from assent.surfaces.workers import watch as watching
from assent.surfaces.workers.news import Faulted, News
from assent.surfaces.workers.strikes import Strikes
from assent.surfaces.workers.watch import Watch
from tests.surfaces.commandline import Cli, command, environment
from tests.surfaces.test_cli_agents import activated, call, plays

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
# A worker whose model never gives the event loop back when it is asked to spin.
SPINNER = """
from assent.operations.scripts import ScriptedModel
says = ScriptedModel._says
def spins(self, arguments, place):
    from assent.operations.models import asked_for
    if "spin" in repr(asked_for(self.contract, arguments, place).messages):
        while True: pass
    return says(self, arguments, place)
ScriptedModel._says = spins
from assent.surfaces.cli.main import main
main()
"""


def stand(strikes: Strikes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return strikes.suspects, strikes.stuck


def test_first_time_all_that_was_driven_is_suspected_and_then_the_suspect_that_was_driven_did_it() -> None:
    strikes = Strikes()
    strikes.beat(["a", "b", "c"])
    strikes.fell()
    assert stand(strikes) == (("a", "b", "c"), ())
    strikes.beat(["a", "new"])
    strikes.beat(["b", "new"])
    assert strikes.suspects == ("b", "c"), "it came to an end, and the worker lived"
    strikes.fell()
    assert stand(strikes) == (("c",), ("b",)), "what is new is not to blame while a suspect is there"
    strikes.fell()
    assert stand(strikes) == (("c",), ("b",)), "nothing was driven"


@contextmanager
def working(home: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`assent work` in a process of its own."""
    with subprocess.Popen(
        command("work", "--json", *words), cwd=home, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def until_ended(process: subprocess.Popen[str], run: str) -> dict[str, object]:
    """Read news until a run is over; its last."""
    assert process.stdout is not None
    for line in process.stdout:
        news = json.loads(line)
        event = news.get("event", {})
        if event.get("run") == run and event.get("type") == "ended":
            return dict(event)
    raise AssertionError("it said no more")


def started(cli: Cli, *words: str) -> str:
    ran = cli("runs", "start", "writer", *words, "--json")
    assert ran.code == Exit.DONE
    return str(ran.document["run"])


def stopped(process: subprocess.Popen[str]) -> tuple[int, str]:
    """End it as a service manager does; its exit code and what it said then."""
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stderr is not None
    rest, told = process.stdout.read(), process.stderr.read()
    assert "Traceback" not in told
    return process.wait(PATIENCE_S), rest


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def words_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 (another process is what it waits for)
        await asyncio.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether a process is over, by waiting for it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("words", [(), ("--alone",)], ids=["watched", "alone"])
def test_work_carries_runs_through_reviews_and_questions_that_are_answered_elsewhere(
    home: Path, cli: Cli, words: tuple[str, ...]
) -> None:
    plays(
        home,
        {"calls": [call("files_delete", path="old.txt")]},
        {"calls": [call("ask_user", question="and now?")]},
        {"text": "done"},
    )
    activated(cli)
    (home / "workspace" / "old.txt").write_text("old")
    run = started(cli, "tidy up")
    with working(home, *words) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line).get("event", {})
            if event.get("type") == "waiting" and event["reason"] == "review":
                assert cli("approve", event["of"], "--reason", "fine").code == Exit.DONE
            if event.get("type") == "waiting" and event["reason"] == "person":
                assert cli("runs", "tell", run, "nothing", "--json").document["answers"] == event["of"]
            if event.get("type") == "ended":
                assert (event["state"], event["text"]) == ("finished", "done")
                break
        code, rest = stopped(process)
        assert code == Exit.DONE
        assert '"stopped"' in rest
    assert not (home / "workspace" / "old.txt").exists()
    assert cli("verify").code == Exit.DONE


def test_worker_that_stands_still_is_followed_by_another_and_nothing_is_lost(
    home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SILENCE_S", 2.0)
    plays(home, {"text": "done"})
    activated(cli)
    notes: list[str] = []
    states: dict[str, str] = {}

    async def body() -> None:
        ended = asyncio.Event()

        def tell(news: News) -> None:
            event = getattr(news, "event", None)
            if event is not None and hasattr(event, "state"):
                states[event.run] = event.state
                ended.set()

        watch = Watch(command("work", "--watched"), tell=tell, note=notes.append)
        serving = asyncio.create_task(watch.serve())
        async with asyncio.timeout(PATIENCE_S):
            await until(lambda: watch._has_beaten)
            (worker,) = [one for one in children_of(os.getpid()) if "--watched" in words_of(one)]
            os.kill(worker, signal.SIGSTOP)
            await until(lambda: bool(notes))
            run = (await asyncio.to_thread(subprocess.run, [*command("runs", "start", "writer", "hello", "--json")],
                   cwd=home, env=environment(), capture_output=True, check=True)).stdout  # fmt: skip
            await ended.wait()
            assert states == {json.loads(run)["run"]: "finished"}
        serving.cancel()
        await asyncio.wait([serving])

    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    asyncio.run(body())
    assert "silent for 2 s" in notes[0]
    assert "signal 9" in notes[1]


def test_run_that_makes_every_worker_spin_is_paused_and_the_others_end(
    home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SILENCE_S", 2.0)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    plays(home, {"text": "done"})
    activated(cli)
    spinning = started(cli, "spin")
    well = [started(cli, "hello") for _ in range(4)]
    notes: list[str] = []
    faults: list[Faulted] = []

    async def body() -> None:
        paused = asyncio.Event()

        def tell(news: News) -> None:
            if isinstance(news, Faulted):
                faults.append(news)
                paused.set()

        watch = Watch([sys.executable, "-c", SPINNER, "work", "--watched"], tell=tell, note=notes.append)
        serving = asyncio.create_task(watch.serve())
        async with asyncio.timeout(PATIENCE_S):
            await paused.wait()
            await until(lambda: {one["state"] for one in _runs(home) if one["id"] in well} == {"finished"})
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(body())
    assert [one.run for one in faults] == [spinning]
    assert len([one for one in notes if "silent" in one]) == 2
    assert {one["id"]: one["state"] for one in _runs(home)}[spinning] == "paused"
    assert cli("verify").code == Exit.DONE


def _runs(home: Path) -> list[dict[str, str]]:
    done = subprocess.run(
        command("runs", "list", "--json"), cwd=home, env=environment(), capture_output=True, check=True
    )
    found: list[dict[str, str]] = json.loads(done.stdout)["runs"]
    return found


def test_worker_ends_when_whoever_watches_it_is_killed(home: Path, cli: Cli) -> None:
    plays(home, {"text": "done"})
    activated(cli)
    run = started(cli, "hello")
    with working(home) as process:
        assert until_ended(process, run)["state"] == "finished"
        (worker,) = children_of(process.pid)
        process.kill()
        assert gone(worker)


def test_work_that_cannot_begin_says_so_and_does_not_try_for_ever(home: Path, cli: Cli) -> None:
    (home / ".assent").mkdir(exist_ok=True)
    (home / ".assent" / "assent.db").write_bytes(b"no database" * 1_000)
    ran = cli("work", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (Exit.FAILED, "database_damaged")


def test_nothing_to_do_and_nothing_said_are_told(home: Path, cli: Cli) -> None:
    plays(home, {"text": "done"})
    activated(cli)
    assert cli("runs", "start", "writer", "--json").document["error"]["code"] == "usage"
    assert cli("runs", "start", "nobody", "hello", "--json").document["error"]["code"] == "agent_not_found"
    run = started(cli, "hello")
    assert cli("runs", "tell", run, "--json").document["error"]["code"] == "usage"
    assert cli("runs", "tell", "nosuchrun", "hello", "--json").document["error"]["code"] == "run_not_found"
