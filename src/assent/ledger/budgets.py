"""Budgets: how much of something may be used in a window of time, counted before it is used. Pure values and rules.

A *limit* says how much of one unit a scope may use in a window. A call that may use some of it takes *holds*, one for
each limit it falls under, in the commit that dispatches it; when it is settled each hold is replaced by what was used.

    spent + held + asked ≤ limit      or the call is not dispatched, and nothing at all is held

So calls side by side cannot overspend together, and a call that nobody heard the end of keeps its holds. Only the use
of a call itself can go beyond what it held; that is counted too, and the next hold is refused.

How much of a hold counts as spent is never a guess in favour of the spender: what was used where somebody can say so,
nothing where it surely did not happen, and otherwise the whole of it (`spent_when_settled`, `spent_when_judged`).

A hold belongs to the window in which it was taken, whenever it is settled. Windows begin with the hour, at midnight and
on the first of the month in UTC, by the clock of the database. Everything is a whole number: money is counted in
millionths.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from assent.ledger.effects import EffectState
from assent.primitives.ids import EffectId

EXHAUSTED = "budget_exhausted"
"""The code of a call that was stopped because a limit leaves no room for it."""

AMOUNT_MAX = 10**15
TOTAL_MAX = 2**53 - 1  # what canonical JSON can say
HOLDS_MAX = 64

_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_PER = {"all": "", "hour": " an hour", "day": " a day", "month": " a month"}


class Unit(StrEnum):
    """What is counted. MICROS: millionths of the currency that prices are given in. WALL_MS: time from start to end."""

    CALLS = "calls"
    TOKENS = "tokens"
    MICROS = "micros"
    WALL_MS = "wall_ms"


class Window(StrEnum):
    """For how long it is counted before it begins anew. ALL: for ever."""

    ALL = "all"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one call may use at most of one limit, taken out beforehand. `limit` is the limit's amount."""

    scope: str
    unit: Unit
    window: Window
    amount: int
    limit: int


class Standing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A hold that was taken and is not replaced yet, of the window that began at `since_ms`."""

    scope: str
    unit: Unit
    window: Window
    since_ms: int
    amount: int


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one limit is gone in the window that began at `since_ms`.

    `limit` is what the last hold was taken against. `stops` counts the calls that found no room since somebody last
    dismissed them; `stopped` is the last one's effect, and `asked` what it asked for.
    """

    scope: str
    unit: Unit
    window: Window
    since_ms: int
    limit: int = 0
    spent: int = 0
    held: int = 0
    stops: int = 0
    stopped: str = ""
    asked: int = 0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(tuple[Standing, ...])


class Shortage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a hold was not taken: the first of a call's limits that leaves no room, as it stood at that moment."""

    scope: str
    unit: Unit
    window: Window
    since_ms: int
    limit: int
    spent: int
    held: int
    asked: int

    @property
    def told(self) -> str:
        """The shortage in one sentence."""
        held = f", {self.held} are held by calls under way" if self.held else ""
        return (
            f"`{self.scope}` may use {self.limit} {self.unit}{_PER[self.window]}: {self.spent} are used{held},"
            f" and this call needs up to {self.asked}"
        )


# Windows


def window_start_ms(window: Window, at_ms: int) -> int:
    """When the window began that `at_ms` (since 1970) lies in."""
    day = at_ms // _DAY_MS
    match window:
        case Window.ALL:
            return 0
        case Window.HOUR:
            return at_ms // _HOUR_MS * _HOUR_MS
        case Window.DAY:
            return day * _DAY_MS
        case Window.MONTH:
            return (day - _day_of_month(day) + 1) * _DAY_MS


def _day_of_month(day: int) -> int:
    """The day of the month, from 1, of a day since 1970 in the proleptic Gregorian calendar (whose years are here taken
    to begin in March, so that the leap day is a year's last)."""
    of_era = (day + 719_468) % 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return of_year - (153 * month + 2) // 5 + 1


# Arithmetic


def shortage(budget: Budget, hold: Hold) -> Shortage | None:
    """What stands against taking `hold`, or None when there is room."""
    if budget.spent + budget.held + hold.amount <= hold.limit:
        return None
    return Shortage(
        scope=hold.scope, unit=hold.unit, window=hold.window, since_ms=budget.since_ms, limit=hold.limit,
        spent=budget.spent, held=budget.held, asked=hold.amount,
    )  # fmt: skip


def standing(hold: Hold, at_ms: int) -> Standing:
    """The hold once it is taken at a moment."""
    return Standing(hold.scope, hold.unit, hold.window, window_start_ms(hold.window, at_ms), hold.amount)


def standing_text(holds: Sequence[Standing]) -> str:
    """Holds as they are stored beside their effect."""
    return _encoder.encode(holds).decode()


def read_standing(text: str) -> tuple[Standing, ...]:
    """Holds from what is stored. Raises msgspec.MsgspecError."""
    return _decoder.decode(text)


def taken(budget: Budget, hold: Hold) -> Budget:
    """The budget once `hold` is taken."""
    return msgspec.structs.replace(budget, limit=hold.limit, held=budget.held + hold.amount)


def ended(budget: Budget, *, amount: int, spent: int) -> Budget:
    """The budget once a hold of `amount` is replaced by what was `spent`."""
    return msgspec.structs.replace(budget, held=budget.held - amount, spent=min(budget.spent + spent, TOTAL_MAX))


def stopped(budget: Budget, why: Shortage, effect: EffectId) -> Budget:
    """The budget once `effect` found no room in it."""
    return msgspec.structs.replace(budget, limit=why.limit, stops=budget.stops + 1, stopped=effect, asked=why.asked)


def dismissed(budget: Budget) -> Budget:
    """The budget once somebody has seen what it stopped."""
    return msgspec.structs.replace(budget, stops=0, stopped="", asked=0)


def spent_when_settled(*, amount: int, used: object, attempt: int) -> int:
    """How much of a hold counts as spent once the attempt is settled, as anything but unknown: then the hold stands.

    `used` is what was told of its unit (None: nothing was). An attempt after the first was sent again because nobody
    heard of the one before, which may have used all that was held.
    """
    if type(used) is not int or used < 0:
        return amount
    return used if attempt <= 1 else max(amount, used)


def spent_when_judged(*, amount: int, state: EffectState) -> int:
    """How much of a hold counts as spent once an unknown effect was judged to be `state`."""
    return 0 if state is EffectState.FAILED else amount
