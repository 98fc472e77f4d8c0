"""Budgets at the command line: what is listed, what is stopped, where it waits, and how it goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.surfaces.commandline import Cli

LIMIT = '\n[[budgets]]\nscope = "{}"\nunit = "{}"\namount = {}\nper = "{}"\n'


@pytest.fixture
def limited(home: Path):
    """Writes limits into the settings, in place of those that were there."""
    settings = home / "assent.toml"
    plain = settings.read_text()

    def write(*limits: tuple[str, str, int, str]) -> None:
        settings.write_text(plain + "".join(LIMIT.format(*limit) for limit in limits))

    return write


def listed(cli: Cli, *words: str) -> list[tuple[str, str, int, int, int, str]]:
    found = cli("budgets", *words, "--json").document["budgets"]
    return [(b["scope"], b["unit"], b["limit"], b["spent"], b["held"], b["window"]) for b in found]


def test_budgets_say_what_to_write_when_there_are_none(cli: Cli, home: Path) -> None:
    assert "No budgets. Each `[[budgets]]` in the settings makes one." in cli("budgets").out
    assert "No budgets on `agent:`" in cli("budgets", "agent:").out
    assert listed(cli) == []


def test_budgets_are_counted_by_call_and_listed_with_what_is_left_to_use(cli: Cli, limited) -> None:
    limited(("tenant", "calls", 1_000, "month"), ("tenant", "wall_ms", 100_000, "day"), ("run:*", "calls", 2, "all"))
    assert cli("do", "files.list", "--run", "tidy-up").code == 0
    found = listed(cli)
    spent_ms = found[2][3]
    assert 0 <= spent_ms < 100_000
    assert found == [
        ("run:tidy-up", "calls", 2, 1, 0, "all"),
        ("tenant", "calls", 1_000, 1, 0, "month"),
        ("tenant", "wall_ms", 100_000, spent_ms, 0, "day"),
        ("run:*", "calls", 2, 0, 0, "all"),
    ]
    assert listed(cli, "run:") == [found[0], found[3]]
    month = datetime.now(tz=UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    (one,) = [b for b in cli("budgets", "--json").document["budgets"] if b["window"] == "month"]
    assert one["since_ms"] == month.timestamp() * 1000
    told = cli("budgets").out
    assert "1,000" in told
    assert "month, since" in told


def test_exhausted_budget_stops_a_call_and_waits_in_the_inbox_until_the_limit_is_raised(cli: Cli, limited) -> None:
    limited(("tenant", "calls", 1, "all"))
    assert cli("do", "files.list").code == 0
    ran = cli("do", "files.list", "--json")
    assert ran.code == 3
    assert (ran.document["effect"]["state"], ran.document["effect"]["code"]) == ("refused", "budget_exhausted")
    assert ran.document["decision"]["code"] == "budget_exhausted"
    told = cli("do", "files.list").out
    assert "`tenant` may use 1 calls: 1 are used, and this call needs up to 1" in told
    assert "raise the limit in `[[budgets]]`, then ask again" in told
    (stop,) = cli("inbox", "--json").document["stops"]
    assert (stop["budget"]["scope"], stop["budget"]["stops"], stop["budget"]["limit"]) == ("tenant", 2, 1)
    inbox = cli("inbox").out
    assert "Stopped by a budget: tenant, calls" in inbox
    assert "and 1 before it" in inbox
    assert f"assent dismiss {stop['about']['effect']['id'][-8:]}" in inbox
    limited(("tenant", "calls", 3, "all"))
    assert cli("inbox", "--json").document["stops"] == []
    assert "Nothing waits for you." in cli("inbox").out
    assert cli("do", "files.list").code == 0
    assert cli("verify").code == 0


def test_stop_that_was_seen_leaves_the_inbox_and_stays_on_record(cli: Cli, limited) -> None:
    limited(("tenant", "calls", 0, "day"))
    effect = cli("do", "files.list", "--json").document["effect"]["id"]
    ran = cli("dismiss", effect[-8:])
    assert ran.code == 0
    assert "Seen: files.list" in ran.out
    assert cli("inbox", "--json").document["stops"] == []
    again = cli("dismiss", effect, "--json")
    assert (again.code, again.document["error"]["code"]) == (3, "stop_not_found")
    timeline = cli("timeline").out
    assert f"what stopped {effect[-8:]} was seen by person:" in timeline
    assert "budget_exhausted" in cli("explain", effect).out


def test_approved_call_that_finds_no_room_keeps_its_approval(cli: Cli, limited, home: Path) -> None:
    (home / "workspace" / "old.txt").write_text("old")
    limited(("tenant", "calls", 0, "all"))
    asked = cli("do", "files.delete", "--path", "old.txt", "--json").document
    effect = asked["effect"]["id"]
    ran = cli("approve", effect, "--json")
    assert ran.code == 4
    assert (ran.document["effect"]["state"], ran.document["decision"]["code"]) == ("granted", "budget_exhausted")
    inbox = cli("inbox").out
    assert f"then `assent approve {effect[-8:]}`" in inbox
    assert "Approved, not carried out" in inbox
    assert "stopped" in cli("timeline", effect).out
    limited(("tenant", "calls", 1, "all"))
    assert cli("approve", effect).code == 0
    assert not (home / "workspace" / "old.txt").exists()
    assert cli("inbox", "--json").document["stops"] == []
    assert cli("verify").code == 0


def test_waiting_call_ends_when_its_budget_is_gone_by_the_time_it_is_approved(cli: Cli, limited) -> None:
    limited(("tenant", "calls", 0, "all"))
    effect = cli("do", "files.delete", "--path", "x", "--json", "--key", "k").document["effect"]["id"]
    assert cli("approve", effect, "--no-run").code == 0
    ran = cli("do", "files.delete", "--path", "x", "--key", "k", "--wait")
    assert ran.code == 4
    assert "`tenant` may use 0 calls" in ran.out
