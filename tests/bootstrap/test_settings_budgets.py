"""Budgets in the settings: read whole, and every mistake told with its line."""

from __future__ import annotations

import pytest

from assent.bootstrap.settings import blueprint, read_settings
from assent.bootstrap.toml_places import places
from assent.ledger.budget_limits import LIMITS_MAX, Limit
from assent.ledger.budgets import Unit, Window
from assent.primitives.errors import Malformed

ONE = '[[budgets]]\nscope = "{}"\nunit = "{}"\namount = {}\n'


def read(folder, text):
    path = folder / "assent.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, login="ann")


def told(folder, text):
    with pytest.raises(Malformed) as refused:
        read(folder, text)
    return str(refused.value)


def test_budgets_are_read_whole_and_reach_the_node(tmp_path):
    text = (
        "[agents.writer]\n"
        + ONE.format("tenant", "micros", "5_000_000")
        + 'per = "month"\n'
        + ONE.format("agent:writer", "tokens", 100)
        + ONE.format("run:*", "calls", 0)
        + ONE.format("person:ann", "wall_ms", 1)
    )
    settings = read(tmp_path, text)
    assert settings.budgets == (
        Limit(scope="tenant", unit=Unit.MICROS, amount=5_000_000, window=Window.MONTH),
        Limit(scope="agent:writer", unit=Unit.TOKENS, amount=100, window=Window.ALL),
        Limit(scope="run:*", unit=Unit.CALLS, amount=0, window=Window.ALL),
        Limit(scope="person:ann", unit=Unit.WALL_MS, amount=1, window=Window.ALL),
    )
    assert blueprint(settings).limits == settings.budgets
    assert read(tmp_path, "").budgets == ()
    inline = 'budgets = [{ scope = "tenant", unit = "calls", amount = 1, per = "day" }]'
    assert read(tmp_path, inline).budgets == (Limit(scope="tenant", unit=Unit.CALLS, amount=1, window=Window.DAY),)


GOOD = ONE.format("tenant", "tokens", 10)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (ONE.format("everybody", "tokens", 10), 6, "`'everybody'` is no scope"),
        (ONE.format("agent:", "tokens", 10), 6, "is no scope"),
        (ONE.format("agent:wirter", "tokens", 10), 6, "`agent:wirter` is not declared: did you mean `agent:writer`?"),
        (ONE.format("tenant", "token", 10), 7, "did you mean `tokens`?"),
        (ONE.format("tenant", "calls", -1), 8, "whole number from 0"),
        (ONE.format("tenant", "calls", '"many"'), 8, "whole number from 0"),
        (ONE.format("tenant", "calls", 10**15 + 1), 8, "whole number from 0"),
        (ONE.format("tenant", "calls", 1) + 'per = "week"', 9, "`week` is no time that a budget is for"),
        (ONE.format("tenant", "calls", 1) + 'window = "day"', 9, "`window` is not known in `[[budgets]]`"),
        ('[[budgets]]\nscope = "tenant"', 5, "this budget has no `unit`, no `amount`"),
        (GOOD, 5, "`tenant` has a budget of tokens per all already"),
        (ONE.format("run:*", "calls", 1) + "[budgets.more]\nx = 1", 9, "`more` is not known in `[[budgets]]`"),
    ],
)
def test_mistake_is_told_with_the_line_of_its_own_budget(text, line, words, tmp_path):
    said = told(tmp_path, GOOD + text + "\n[agents.writer]\n")
    assert words in said
    assert f"assent.toml:{line}:" in said


@pytest.mark.parametrize("text", ["budgets = 5", "[budgets]\nscope = 1", "budgets = [1]"])
def test_budgets_that_are_no_list_of_tables_are_told(text, tmp_path):
    assert "must be a list of tables, each under `[[budgets]]`" in told(tmp_path, text)


def test_too_many_budgets_are_told(tmp_path):
    text = "".join(ONE.format(f"run:{n}", "calls", 1) for n in range(LIMITS_MAX + 1))
    assert f"more than {LIMITS_MAX} budgets" in told(tmp_path, text)


def test_every_mistake_is_told_at_once(tmp_path):
    said = told(tmp_path, ONE.format("x", "y", -1) + ONE.format("z", "calls", 1))
    assert "has 4 mistakes" in said


def test_rows_of_a_list_of_tables_have_places_of_their_own():
    text = "[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3\n[[a.e]]\nf = 4\n[g]\nh = 5\n"
    found = places(text)
    assert found[("a", "#0", "b")] == 2
    assert found[("a", "#1", "b")] == 4
    assert found[("a", "#1", "c", "d")] == 6
    assert found[("a", "#1", "e", "#0", "f")] == 8
    assert found[("g", "h")] == 10
