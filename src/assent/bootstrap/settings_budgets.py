"""The settings of budgets: how much may be used, by whom, in which time.

[[budgets]]  scope, unit, amount, per: one limit; as many as are needed
"""

from __future__ import annotations

from collections.abc import Collection

from assent.bootstrap.settings_text import Document, near, quoted
from assent.bootstrap.toml_places import KeyPath
from assent.ledger.budget_limits import EACH, LIMITS_MAX, Limit, check_scope
from assent.ledger.budgets import AMOUNT_MAX, Unit, Window
from assent.primitives.errors import Malformed

BUDGET_KEYS = ("scope", "unit", "amount", "per")
DECLARED_KINDS = ("person", "agent", "service")


def read_budgets(document: Document, *, declared: Collection[str]) -> tuple[Limit, ...]:
    """The limits a document names; what is wrong is added to its faults. `declared` are the principals it knows: a
    limit on somebody who is not there would limit nobody."""
    found: dict[tuple[str, Unit, Window], Limit] = {}
    rows = document.rows(("budgets",))
    if len(rows) > LIMITS_MAX:
        document.fault(("budgets",), f"there are more than {LIMITS_MAX} budgets")
    for key in rows[:LIMITS_MAX]:
        one = _limit(document, key, declared)
        if one is None:
            continue
        place = (one.scope, one.unit, one.window)
        if place in found:
            document.fault(key, f"`{quoted(one.scope)}` has a budget of {one.unit} per {one.window} already")
        found[place] = one
    return tuple(found.values())


def _limit(document: Document, key: KeyPath, declared: Collection[str]) -> Limit | None:
    """One limit, or None when it says too little to be one."""
    document.only(key, BUDGET_KEYS)
    missing = [name for name in ("scope", "unit", "amount") if not document.has((*key, name))]
    if missing:
        document.fault(key, f"this budget has no {', no '.join(f'`{name}`' for name in missing)}")
        return None
    scope = _scope(document, (*key, "scope"), declared)
    unit = document.text((*key, "unit"), default="")
    if unit not in [*Unit]:
        document.fault((*key, "unit"), f"`{quoted(unit)}` is no unit{near(unit, [*Unit])}")
    per = document.text((*key, "per"), default=Window.ALL)
    if per not in [*Window]:
        document.fault((*key, "per"), f"`{quoted(per)}` is no time that a budget is for{near(per, [*Window])}")
    amount = document.number((*key, "amount"), default=0, least=0, most=AMOUNT_MAX)
    if not scope or unit not in [*Unit] or per not in [*Window]:
        return None
    return Limit(scope=scope, unit=Unit(unit), amount=amount, window=Window(per))


def _scope(document: Document, key: KeyPath, declared: Collection[str]) -> str:
    scope = document.text(key, default="")
    try:
        check_scope(scope, each=True)
    except Malformed as malformed:
        document.fault(key, str(malformed))
        return ""
    kind, _, name = scope.partition(":")
    if kind in DECLARED_KINDS and name != EACH and scope not in declared:
        document.fault(key, f"`{quoted(scope)}` is not declared{near(scope, sorted(declared))}")
    return scope
