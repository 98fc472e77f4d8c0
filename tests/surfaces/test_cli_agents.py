"""`assent chat`, `agents`, `sessions` and `runs`: with words on the command line, and at a real terminal."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from assent.bootstrap.enlisting import AGENT_SCHEMA
from assent.bootstrap.system import SystemClock
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_agents import SqliteRegistry
from assent.ledger.commands import TakeLease
from assent.primitives.ids import NodeId, TenantId
from assent.primitives.leases import SYSTEM, Fence
from assent.registry.agents import Entry, Health
from assent.surfaces.cli.exits import Exit
from assent.testing.ledgers import LedgerFolder
from tests.surfaces.commandline import Cli
from tests.surfaces.person import Person

pytestmark = pytest.mark.slow

AGENT = """
[agents.writer]
models = ["play:it"]
tools = ["read", "write", "files.delete", "ask_user", "bash"]

[models.play]
wire = "scripted"
script = "play.json"
"""


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without colours, where words stand beside each other."""
    monkeypatch.setenv("NO_COLOR", "1")


def call(tool: str, **arguments: object) -> dict[str, object]:
    return {"name": tool, "arguments": arguments}


def plays(home: Path, *lines: dict[str, object], settings: str = AGENT) -> None:
    """Declare an agent whose model says these lines."""
    file = home / "assent.toml"
    file.write_text(file.read_text() + settings)
    (home / "play.json").write_text(json.dumps({"lines": lines}))


def activated(cli: Cli) -> None:
    assert cli("policy", "activate").code == Exit.DONE


def test_chat_says_calls_and_answer_when_it_is_given_words(home: Path, cli: Cli) -> None:
    plays(
        home,
        {
            "text": "I try.",
            "calls": [call("write", path="a.txt", content="x"), call("write", path="../b", content="x")],
        },
        {"text": "one of two"},
    )
    activated(cli)
    ran = cli("chat", "write", "both")
    assert ran.code == Exit.DONE
    order = [
        "I try.",
        "files.write content=x path=a.txt",
        "allowed",
        "files-write",
        "refused",
        "workspace-only",
        "one of two",
    ]
    places = [ran.out.index(one) for one in order]
    assert places == sorted(places)
    assert (home / "workspace" / "a.txt").read_text() == "x"


def test_chat_gives_one_document_when_json_is_asked_for(home: Path, cli: Cli) -> None:
    plays(home, {"text": "four"})
    activated(cli)
    ran = cli("chat", "2+2?", "--json")
    assert (ran.code, ran.document["text"], ran.document["state"]) == (Exit.DONE, "four", "finished")


def test_chat_waits_with_an_exit_code_when_nobody_sits_there_and_runs_resume_goes_on(home: Path, cli: Cli) -> None:
    plays(home, {"text": "", "calls": [call("files_delete", path="a.txt")]}, {"text": "gone"})
    (home / "workspace" / "a.txt").write_text("x")
    activated(cli)
    waits = cli("chat", "delete", "it", "--json")
    assert (waits.code, waits.document["state"]) == (Exit.WAITING, "waiting")
    run = waits.document["id"]
    assert cli("runs", "resume", run).code == Exit.WAITING
    (review,) = cli("inbox", "--json").document["reviews"]
    assert cli("approve", review["review"]["id"]).code == Exit.DONE
    ran = cli("runs", "resume", run[-8:])
    assert ran.code == Exit.DONE
    assert "gone" in ran.out
    shown = cli("runs", "show", run)
    assert all(one in shown.out for one in ("finished", "delete it", "files_delete", "gone"))
    replayed = cli("runs", "replay", run, "--json")
    assert (replayed.code, replayed.document["same"], len(replayed.document["turns"])) == (Exit.DONE, True, 2)


def test_runs_are_paused_cancelled_and_forked(home: Path, cli: Cli) -> None:
    plays(home, {"text": "", "calls": [call("ask_user", question="which?")]}, {"text": "well"})
    activated(cli)
    first = cli("chat", "do", "--json").document["id"]
    second = cli("chat", "do", "--session", "other", "--json").document["id"]
    assert cli("runs", "pause", first, "--json").document["state"] == "paused"
    assert cli("runs", "cancel", second, "--json").document["state"] == "cancelled"
    gone = cli("runs", "pause", second)
    assert (gone.code, "run_moved" in cli("runs", "pause", second, "--json").out) == (Exit.REFUSED, True)
    assert cli("runs", "fork", first, "attempt", "--turn", "1").code == Exit.DONE
    assert cli("runs", "fork", first, "attempt2", "--turn", "9").code == Exit.REFUSED
    listed = cli("sessions", "list", "--json").document["sessions"]
    assert {one["id"].rpartition(":")[2]: one["messages"] for one in listed} == {"writer": 0, "other": 0, "attempt": 3}
    assert [one["state"] for one in cli("runs", "list", "--json").document["runs"]] == ["paused", "cancelled"]


def test_sessions_are_shown_reset_and_forked(home: Path, cli: Cli) -> None:
    plays(home, {"text": "one"}, {"text": "two"})
    activated(cli)
    assert cli("chat", "hello", "--session", "main").code == Exit.DONE
    assert "one" in cli("sessions", "show", "main").out
    assert cli("sessions", "fork", "main", "other").code == Exit.DONE
    assert cli("sessions", "fork", "main", "other").code == Exit.REFUSED
    assert cli("sessions", "reset", ":main").code == Exit.DONE
    assert "one" in cli("chat", "again", "--session", "main").out
    assert "two" in cli("chat", "again", "--session", "other").out
    assert cli("sessions", "show", "nowhere").code == Exit.REFUSED


def test_agents_lists_them_and_says_how_to_make_one(home: Path, cli: Cli) -> None:
    assert "[agents.helper]" in cli("agents").out
    assert cli("chat", "hi").code == Exit.USAGE
    plays(home, {"text": "hi"})
    assert all(one in cli("agents").out for one in ("writer", "play:it", "ask_user"))
    assert "writer" in cli("chat", "hi", "--agent", "nobody").err


def test_agents_says_by_whom_each_is_served_when_another_process_serves_it(home: Path, cli: Cli) -> None:
    plays(home, {"text": "hi"})
    assert cli("agents", "--json").document["agents"][0]["served"] is None
    assert "by no process now" in cli("agents").out
    clock, fence = SystemClock(), Fence(node=NodeId("nod_elsewhere"), number=1)

    async def serve(store: SqliteLedger, *names: str) -> None:
        registry = SqliteRegistry(store, schema=AGENT_SCHEMA)
        await store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=600_000))
        found = [Entry(tenant=TenantId("local"), id=name, owner=fence, health=Health.DEGRADED) for name in names]
        await registry.put(found, fence=fence)

    with LedgerFolder(home / ".assent", clock=clock).opened() as store:
        asyncio.run(serve(store, "writer", "stranger"))
    document = cli("agents", "--json").document
    served = document["agents"][0]["served"]
    assert (document["agents"][0]["name"], served["node"], served["health"]) == ("writer", fence.node, "degraded")
    assert 0 < served["lease_until_ms"] - clock.now_ms() <= 600_000
    assert document["others"] == [{"name": "stranger", "served": served}]
    told = cli("agents").out
    assert "by nod_elsewhere, degraded, lease for " in told
    assert "stranger" in told


def test_bad_agents_are_told_all_at_once_with_their_lines(home: Path, cli: Cli) -> None:
    first = len((home / "assent.toml").read_text().splitlines())
    bad = """
[agents.one]
models = ["nowhere:x", "notamodel"]
tuols = ["read"]
turns_max = 0
reset = "sometimes"
delegates = ["nobody"]

[models.odd]
wire = "morse"
script = "x.json"
"""
    plays(home, settings=bad)
    ran = cli("agents")
    assert ran.code == Exit.USAGE
    told = {
        int(line.partition(":")[2].partition(":")[0]) - first: line
        for line in ran.err.splitlines()
        if "assent.toml:" in line
    }
    assert set(told) >= {3, 4, 5, 6, 7, 9, 10}
    assert "did you mean `tools`?" in told[4]
    assert "did you mean" in told[10] or "known:" in told[10]


def test_whole_conversation_at_a_terminal_with_consent_given_and_refused_inline(home: Path, cli: Cli) -> None:
    delete: dict[str, object] = {"text": "", "calls": [call("files_delete", path="a.txt")]}
    asks: dict[str, object] = {"text": "", "calls": [call("ask_user", question="which?")]}
    plays(home, delete, {"text": "not gone"}, delete, {"text": "gone"}, asks, {"text": "blue then"})
    (home / "workspace" / "a.txt").write_text("x")
    activated(cli)
    person = Person("chat")
    person.sees("/help says")
    person.type("delete it\n")
    person.sees("[y]es, [n]o, [l]ater")
    person.type("n\n")
    person.sees("why?")
    person.type("not today\n")
    person.sees("not gone")
    person.type("/why\n")
    person.sees("files-delete-reviewed")
    person.type("do delete it\n")
    person.sees("[l]ater")
    person.seen = b""
    person.type("maybe\n")
    person.sees("[l]ater")
    person.type("y\n")
    person.sees("gone")
    person.type("paint\n")
    person.sees("which?")
    person.type("blue\n")
    person.sees("blue then")
    person.type("/nonsense\n")
    person.sees("there is no `/nonsense`")
    person.type("/quit\n")
    assert person.leaves() == Exit.DONE
    assert not (home / "workspace" / "a.txt").exists()


def test_interrupted_run_is_settled_and_goes_on_at_the_next_start(home: Path, cli: Cli) -> None:
    plays(home, {"text": "", "calls": [call("shell_run", argv=["sleep", "30"])]}, {"text": "it was stopped"},
          settings=AGENT.replace('"bash"', '"shell.run"'))  # fmt: skip
    activated(cli)
    person = Person("chat")
    person.sees("/help says")
    person.type("sleep\n")
    person.sees("shell.run sleep")
    person.process.send_signal(signal.SIGINT)
    person.sees("interrupted")
    person.type("/quit\n")
    assert person.leaves() == Exit.DONE
    (run,) = cli("runs", "list", "--json").document["runs"]
    assert run["state"] == "running"
    again = Person("chat")
    again.sees("was interrupted, and goes on now")
    again.sees("it was stopped")
    again.type("/quit\n")
    assert again.leaves() == Exit.DONE
    assert cli("runs", "list", "--json").document["runs"][0]["state"] == "finished"


def test_killed_run_goes_on_from_its_record_at_the_next_start(home: Path, cli: Cli) -> None:
    plays(home, {"text": "", "calls": [call("write", path="a.txt", content="x")]},
          {"text": "", "calls": [call("shell_run", argv=["sleep", "30"])]}, {"text": "nobody knows"},
          settings=AGENT.replace('"bash"', '"shell.run"'))  # fmt: skip
    activated(cli)
    person = Person("chat")
    person.sees("/help says")
    person.type("sleep\n")
    person.sees("shell-confined")
    person.process.kill()
    person.process.wait()
    (run,) = cli("runs", "list", "--json").document["runs"]
    assert run["state"] == "running"
    ran = cli("runs", "resume", run["id"], "--json")
    assert (ran.code, ran.document["waits_for"].split()[0]) == (Exit.WAITING, "unknown")
    effect = ran.document["waits_for"].split()[1]
    assert cli("attest", effect, "--did-not-happen", "--reason", "the machine was off").code == Exit.DONE
    ran = cli("runs", "resume", run["id"], "--json")
    assert (ran.code, ran.document["text"]) == (Exit.DONE, "nobody knows")
    assert cli("runs", "replay", run["id"]).code == Exit.DONE


def test_run_that_another_process_drives_is_asked_to_stop_and_heeds_it(home: Path, cli: Cli) -> None:
    plays(home, {"text": "", "calls": [call("shell_run", argv=["sleep", "60"])]}, {"text": "never said"},
          settings=AGENT.replace('"bash"', '"shell.run"'))  # fmt: skip
    activated(cli)
    person = Person("chat")
    person.sees("/help says")
    person.type("sleep\n")
    person.sees("shell-confined")
    (run,) = cli("runs", "list", "--json").document["runs"]
    asked = cli("runs", "cancel", run["id"])
    assert (asked.code, "breaks off what is under way" in asked.out) == (Exit.WAITING, True)
    person.sees("was cancelled")
    person.type("/quit\n")
    assert person.leaves() == Exit.DONE
    assert cli("runs", "list", "--json").document["runs"][0]["state"] == "cancelled"
    assert b"never said" not in person.seen


TWO = """
[agents.writer]
description = "writes"
models = ["play:it"]
tools = ["read", "write", "files.delete"]
mandate = ["files.*"]
instructions = "You write."

[agents.reader]
models = ["play:it"]
tools = ["read"]

[models.play]
wire = "scripted"
script = "play.json"
"""


def test_agent_that_is_talked_to_is_named_by_place_by_option_or_by_the_settings(home: Path, cli: Cli) -> None:
    plays(home, {"text": "hello"}, settings=TWO)
    activated(cli)
    unnamed = cli("chat", "hi", "there", "--json").document["error"]
    assert (unnamed["code"], unnamed["hint"]) == (
        "agent_unnamed", "name one with --agent, or in `[defaults] chat`: reader, writer",
    )  # fmt: skip
    assert cli("chat", "hi", "--agent", "reader", "--json").document["agent"] == "reader"
    file = home / "assent.toml"
    file.write_text(file.read_text().replace("[defaults]", '[defaults]\nchat = "writer"'))
    assert cli("chat", "hi", "--json").document["agent"] == "writer"
    file.write_text(file.read_text().replace('chat = "writer"', 'chat = "wrter"'))
    told = cli("chat", "hi", "--json").document["error"]["message"]
    assert "`wrter` is no agent that can be talked to" in told
    assert "assent.toml:" in told


def test_one_agent_is_shown_with_its_mandate_instructions_and_runs(home: Path, cli: Cli) -> None:
    plays(home, {"text": "hello"}, settings=TWO)
    activated(cli)
    run = cli("chat", "hi", "--agent", "writer", "--json").document["id"]
    ran = cli("agents", "writer", "--json")
    assert (ran.document["agent"]["mandate"], ran.document["agent"]["instructions"]) == (["files.*"], "You write.")
    assert [one["id"] for one in ran.document["runs"]] == [run]
    told = cli("agents", "writer").out
    for words in ("writes", "files.*", "You write.", run):
        assert words in told
    assert cli("agents", "nobody", "--json").document["error"]["code"] == "agent_not_found"


def test_run_is_shown_turn_by_turn_with_what_was_decided(home: Path, cli: Cli) -> None:
    plays(
        home,
        {
            "text": "I try.",
            "calls": [call("write", path="a.txt", content="x"), call("write", path="../b", content="x")],
        },
        {"calls": [call("fly")]},
        {"text": "one of three"},
    )
    activated(cli)
    run = cli("chat", "write", "both", "--json").document["id"]
    turns = cli("runs", "show", run, "--json").document["turns"]
    assert [one["state"] for one in turns[0]["calls"]] == ["succeeded", "refused"]
    assert [one["rules"] for one in turns[0]["calls"]] == [["files-write"], ["workspace-only"]]
    assert [turn["asked"][0]["model"] for turn in turns] == ["play:it"] * 3
    assert "there is no tool `fly`" in turns[1]["faults"][0]
    told = cli("runs", "show", run).out
    for words in ("turn 1", "I try.", "workspace-only", "not asked for", "one of three"):
        assert words in told


def test_person_sees_the_whole_card_and_asks_why_calls_were_decided(home: Path, cli: Cli) -> None:
    plays(
        home,
        {"calls": [call("read", path="a.txt"), call("read", path="b.txt")]},
        {"calls": [call("files_delete", path="a.txt")]},
        {"text": "so be it"},
        settings=TWO,
    )
    activated(cli)
    for name in ("a.txt", "b.txt"):
        (home / "workspace" / name).write_text("x")
    person = Person("chat", "writer")
    person.sees("Ctrl-D ends")
    person.type("tidy\n")
    person.sees("call 1)")
    person.sees("[l]ater, [?]:")
    person.type("?\n")
    person.sees("third party  may have written: path")
    person.sees("because")
    person.type("n\n")
    person.sees("why?")
    person.type("it stays\n")
    person.sees("so be it")
    person.type("/why 2\n")
    person.sees("files.read path=b.txt")
    person.type("/why 9\n")
    person.sees("only 3 calls were decided")
    person.type("/agents\n")
    person.sees("reader")
    person.type("/quit\n")
    assert person.leaves() == Exit.DONE
    assert (home / "workspace" / "a.txt").exists()
