"""Budgets in SQLite: holds are taken and replaced inside the transaction of the change they belong to.

A transaction begins IMMEDIATE, so what is read here cannot change before it commits: of two calls that race for the
rest of a budget one is applied first, and the other finds it gone. A batch reads each budget once and writes it once,
however many calls of the batch meet in it.
"""

# ruff: noqa: S608  # the SQL is put together from this package's own texts only; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.budgets import (
    Budget,
    Shortage,
    Standing,
    Unit,
    Window,
    dismissed,
    ended,
    read_standing,
    shortage,
    spent_when_judged,
    spent_when_settled,
    standing,
    standing_text,
    stopped,
    taken,
    window_start_ms,
)
from assent.ledger.commands import Accept, DismissStop, Dispatch, Judge, Settle
from assent.ledger.effects import EffectState
from assent.ledger.entries import draft
from assent.ledger.rates import MOVED, PREFIX, Count, is_rate
from assent.primitives.errors import Conflict, InvariantBroken, NotFound
from assent.primitives.ids import EffectId, TenantId
from assent.storage.adapters.sqlite_rows import ManyRows

Key: TypeAlias = tuple[TenantId, str, Unit, Window, int]

_COLUMNS = "scope, unit, per, since_ms, most, spent, held, stops, stopped, asked"
_ONE = f"SELECT {_COLUMNS} FROM budgets WHERE tenant = ? AND scope = ? AND unit = ? AND per = ? AND since_ms = ?"
_BUDGETS = ManyRows(
    before=f"INSERT INTO budgets (tenant, {_COLUMNS}) VALUES",
    columns=11,
    after="ON CONFLICT (tenant, scope, unit, per, since_ms) DO UPDATE SET most = excluded.most,"
    " spent = excluded.spent, held = excluded.held, stops = excluded.stops, stopped = excluded.stopped,"
    " asked = excluded.asked",
)
_HOLDS = ManyRows(before="INSERT INTO budget_holds (tenant, effect, holds) VALUES", columns=3)
_VERIFY = "run `assent verify`; nothing was written"
_TAKE_OUT = "DELETE FROM budget_holds WHERE tenant = ? AND effect = ? RETURNING holds"


class Budgets:
    """The holds of one writer. Every method works inside the writer's transaction."""

    def __init__(self, book: LogBook) -> None:
        self._book = book

    def short(
        self, connection: sqlite3.Connection, commands: Sequence[Accept | Dispatch]
    ) -> Shortage | Conflict | None:
        """Take every hold of `commands`, in their order; or none at all, and say what the first one lacks, or that what
        it was decided by has moved."""
        page = _Page(connection)
        rows: list[tuple[str, str, str]] = []
        for command in commands:
            for count, most in command.ceilings:
                budget = page.budget((command.tenant, *_place(count, self._book.now_ms)))
                if budget.spent + budget.held > most:
                    return _moved(budget)
            held = [standing(hold, self._book.now_ms) for hold in command.holds]
            for hold, stands in zip(command.holds, held, strict=True):
                key = _key(command.tenant, stands)
                budget = page.budget(key)
                lacking = shortage(budget, hold)
                if lacking is not None:
                    return _moved(budget) if is_rate(hold.scope) else lacking
                page.turn(key, taken(budget, hold))
            if held:
                rows.append((command.tenant, command.effect, standing_text(held)))
        page.write()
        _HOLDS.run(connection, rows)
        return None

    def stop(self, connection: sqlite3.Connection, tenant: TenantId, effect: EffectId, why: Shortage) -> None:
        """Note in the budget that `effect` found no room in it."""
        page = _Page(connection)
        key = (tenant, why.scope, why.unit, why.window, why.since_ms)
        page.turn(key, stopped(page.budget(key), why, effect))
        page.write()

    def settle(self, connection: sqlite3.Connection, commands: Iterable[Settle]) -> None:
        """Replace what settled attempts held by what they used; what became unknown goes on holding."""
        if connection.execute("SELECT 1 FROM budget_holds LIMIT 1").fetchone() is None:
            return
        page = _Page(connection)
        for command in commands:
            if command.state is EffectState.UNKNOWN:
                continue
            used = command.used or {}
            for one in _taken_out(connection, command.tenant, command.effect):
                told, attempt = used.get(one.unit), command.attempt
                page.end(command.tenant, one, spent_when_settled(amount=one.amount, used=told, attempt=attempt))
        page.write()

    def judge(self, connection: sqlite3.Connection, command: Judge) -> None:
        """Spend or release what an unknown effect held, by how it was judged."""
        if command.state is EffectState.UNKNOWN:
            return
        page = _Page(connection)
        for one in _taken_out(connection, command.tenant, command.effect):
            page.end(command.tenant, one, spent_when_judged(amount=one.amount, state=command.state))
        page.write()

    def dismiss(self, connection: sqlite3.Connection, command: DismissStop) -> int:
        """Forget in every budget that it stopped the effect."""
        sql = f"SELECT {_COLUMNS} FROM budgets WHERE tenant = ? AND stops > 0 AND stopped = ?"
        found = [_budget_of(row) for row in connection.execute(sql, (command.tenant, command.effect)).fetchall()]
        if not found:
            raise NotFound(
                "stop_not_found", f"no budget stands in the way of `{command.effect}` now", hint="see `assent inbox`"
            )
        page = _Page(connection)
        for budget in found:
            key = (command.tenant, budget.scope, budget.unit, budget.window, budget.since_ms)
            page.turn(key, dismissed(budget))
        page.write()
        return self._book.append(
            command.tenant, draft("budget.dismissed", {"stopped": command.effect, "by": command.by})
        )


class _Page:
    """Budgets as they will stand: each is read once, changed in memory, and written once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._budgets: dict[Key, Budget] = {}

    def budget(self, key: Key) -> Budget:
        """The budget under `key`; an empty one when nothing was ever held in it."""
        found = self._budgets.get(key)
        if found is not None:
            return found
        row = self._connection.execute(_ONE, key).fetchone()
        if row is not None:
            return _budget_of(row)
        _, scope, unit, window, since_ms = key
        return Budget(scope=scope, unit=unit, window=window, since_ms=since_ms)

    def turn(self, key: Key, budget: Budget) -> None:
        """Let the budget stand so."""
        self._budgets[key] = budget

    def end(self, tenant: TenantId, hold: Standing, spent: int) -> None:
        """Replace a hold by what was spent."""
        key = _key(tenant, hold)
        budget = self.budget(key)
        if budget.held < hold.amount:
            raise InvariantBroken(
                "budget_broken", f"one call holds more of `{hold.scope[:60]}` than all together", hint=_VERIFY
            )
        self.turn(key, ended(budget, amount=hold.amount, spent=spent))

    def write(self) -> None:
        """Write what changed."""
        _BUDGETS.run(self._connection, [_row_of(key[0], budget) for key, budget in self._budgets.items()])


def select_budgets(
    connection: sqlite3.Connection, tenant: TenantId, *, scope: str, stopped: bool, limit: int
) -> list[Budget]:
    """The newest `limit` budgets whose window is the current one, by scope, unit and window."""
    now_ms = connection.execute("SELECT assent_now_ms()").fetchone()[0]
    where = ["tenant = ?", f"({' OR '.join(['(per = ? AND since_ms = ?)'] * len(Window))})"]
    values: list[object] = [tenant]
    for window in Window:
        values += [window, window_start_ms(window, now_ms)]
    if not is_rate(scope):
        where.append(f"substr(scope, 1, {len(PREFIX)}) <> '{PREFIX}'")  # what rules count is no limit of anybody's
    if scope:
        where.append("substr(scope, 1, length(?)) = ?")
        values += [scope, scope]
    if stopped:
        where.append("stops > 0")
    sql = f"SELECT {_COLUMNS} FROM budgets WHERE {' AND '.join(where)} ORDER BY rowid DESC LIMIT {int(limit)}"
    found = [_budget_of(row) for row in connection.execute(sql, values).fetchall()]
    return sorted(found, key=lambda one: (one.scope, one.unit, one.window))


def count(connection: sqlite3.Connection, tenant: TenantId, counts: Sequence[Count]) -> list[int]:
    """How much each of `counts` holds in its window of now, calls under way included."""
    now_ms = connection.execute("SELECT assent_now_ms()").fetchone()[0]
    found = [connection.execute(_ONE, (tenant, *_place(one, now_ms))).fetchone() for one in counts]
    budgets = [_budget_of(row) if row is not None else None for row in found]
    return [one.spent + one.held if one is not None else 0 for one in budgets]


def _place(count: Count, now_ms: int) -> tuple[str, Unit, Window, int]:
    return count.scope, count.unit, count.window, window_start_ms(count.window, now_ms)


def _moved(budget: Budget) -> Conflict:
    """A decision rested on less than that. Nothing is short, the call is to be decided again."""
    return Conflict(MOVED, f"`{budget.scope[:80]}` is at {budget.spent + budget.held} by now", hint="decide again")


def _taken_out(connection: sqlite3.Connection, tenant: TenantId, effect: EffectId) -> tuple[Standing, ...]:
    """What the effect held until now."""
    row = connection.execute(_TAKE_OUT, (tenant, effect)).fetchone()
    try:
        return read_standing(row[0]) if row else ()
    except ValueError as error:
        raise InvariantBroken("budget_broken", f"what `{effect}` holds cannot be read", hint=_VERIFY) from error


def _key(tenant: TenantId, hold: Standing) -> Key:
    return tenant, hold.scope, hold.unit, hold.window, hold.since_ms


def _budget_of(row: tuple[object, ...]) -> Budget:
    scope, unit, per, *numbers = row
    values = dict(zip(Budget.__struct_fields__[3:], numbers, strict=True))
    return Budget(scope=str(scope), unit=Unit(unit), window=Window(per), **values)  # type: ignore[arg-type]


def _row_of(tenant: TenantId, one: Budget) -> tuple[object, ...]:
    return (
        tenant, one.scope, one.unit, one.window, one.since_ms, one.limit, one.spent, one.held, one.stops, one.stopped,
        one.asked,
    )  # fmt: skip
