"""Limits of budgets, and how they meet a call: which scopes it counts in, and what it has to hold for each. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from assent.ledger.budgets import AMOUNT_MAX, HOLDS_MAX, Hold, Unit, Window
from assent.ledger.intents import Intent
from assent.primitives.errors import Malformed

TENANT = "tenant"
KINDS = ("person", "agent", "service", "run", "trigger")
EACH = "*"
"""The name in a limit's scope that stands for every name: `run:*` limits each run."""

LIMITS_MAX = 256
SCOPE_BYTES_MAX = 1_210  # a kind and the longest name that a call may give its run


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of `unit` `scope` may use in a window. `scope` is `tenant` or `kind:name`; the name `*` is every one."""

    scope: str
    unit: Unit
    amount: int
    window: Window = Window.ALL


def scopes_of(intent: Intent) -> tuple[str, ...]:
    """The scopes a call counts in: the tenant, everybody in its chain, its run, and the schedule that set it off."""
    found = [TENANT]
    for name in (intent.principal, *intent.on_behalf_of):
        kind, _, rest = name.partition(":")
        found.append(f"trigger:{rest}" if kind == "schedule" else name)
    if intent.run:
        found.append(f"run:{intent.run}")
    return tuple(dict.fromkeys(found))


def by_scope(limits: Iterable[Limit]) -> Mapping[str, tuple[Limit, ...]]:
    """Limits by the scope they are written for, as `holds_for` wants them."""
    found: dict[str, list[Limit]] = defaultdict(list)
    for limit in limits:
        found[limit.scope].append(limit)
    return {scope: tuple(some) for scope, some in found.items()}


def limits_on(limits: Mapping[str, tuple[Limit, ...]], scope: str) -> tuple[Limit, ...]:
    """The limits on one scope. One that names it stands in for the one on every name, of the same unit and window."""
    kind = scope.partition(":")[0]
    found = {(one.unit, one.window): one for one in limits.get(f"{kind}:{EACH}", ())}
    found |= {(one.unit, one.window): one for one in limits.get(scope, ())}
    return tuple(found.values())


def holds_for(
    *, limits: Mapping[str, tuple[Limit, ...]], scopes: Iterable[str], estimate: Mapping[str, int | None]
) -> tuple[Hold, ...]:
    """What a call that may use up to `estimate` (amounts by unit) has to hold: one for each limit on one of `scopes`.

    What may be used at all holds at least one, so that nothing passes a limit that is used up.

    Raises:
        Malformed: `budget_malformed`: an estimate is no amount, or the limits are too many for one call;
            `budget_unestimated`: a limit holds on what nobody can say the amount of.
    """
    met = [(scope, one) for scope in scopes for one in limits_on(limits, scope) if one.unit in estimate]
    found = tuple(
        Hold(scope=scope, unit=one.unit, window=one.window, amount=_amount(estimate, scope, one.unit), limit=one.amount)
        for scope, one in met
    )
    check_holds(found)
    return found


def joined(holds: Iterable[Hold], more: Iterable[Hold]) -> tuple[Hold, ...]:
    """Both; where they meet in one limit, the larger amount is held against the smaller limit.

    Raises:
        Malformed: `budget_malformed`: they are too many.
    """
    found: dict[tuple[str, Unit, Window], Hold] = {}
    for one in (*holds, *more):
        key = (one.scope, one.unit, one.window)
        if key in found:
            other = found[key]
            one = msgspec.structs.replace(  # noqa: PLW2901 (the two become one)
                one, amount=max(one.amount, other.amount), limit=min(one.limit, other.limit)
            )
        found[key] = one
    check_holds(tuple(found.values()))
    return tuple(found.values())


def check_scope(scope: str, *, each: bool = False) -> None:
    """Check a scope: `tenant`, or a kind and a name; with `each` the name may be `*`.

    Raises:
        Malformed: `budget_malformed`.
    """
    kind, colon, name = scope.partition(":")
    try:
        size = len(scope.encode())
    except UnicodeEncodeError:
        size = SCOPE_BYTES_MAX + 1
    named = kind in KINDS and colon and name and (each or name != EACH)
    if not (scope == TENANT or named) or size > SCOPE_BYTES_MAX:
        kinds = ", ".join(f"`{one}:NAME`" for one in KINDS)
        raise Malformed(
            "budget_malformed", f"`{scope[:60]!a}` is no scope", hint=f"write `{TENANT}`, or one of {kinds}"
        )


def check_holds(holds: tuple[Hold, ...]) -> None:
    """Check what a call wants to hold.

    Raises:
        Malformed: `budget_malformed`: a scope or an amount is none, a limit is held twice, or they are too many.
    """
    if len({(one.scope, one.unit, one.window) for one in holds}) < len(holds) or len(holds) > HOLDS_MAX:
        raise Malformed("budget_malformed", f"a call holds each limit once, and at most {HOLDS_MAX}")
    for one in holds:
        named: tuple[object, ...] = (one.scope, one.unit, one.window)
        if not all(isinstance(name, kind) for name, kind in zip(named, (str, Unit, Window), strict=True)):
            raise Malformed("budget_malformed", "a hold names a scope, a unit and a window")
        check_scope(one.scope)
        if not (_is_amount(one.amount, least=1) and _is_amount(one.limit, least=0)):
            raise Malformed(
                "budget_malformed", f"what is held in `{one.scope[:60]}` must be a whole number up to {AMOUNT_MAX}"
            )


def _amount(estimate: Mapping[str, int | None], scope: str, unit: Unit) -> int:
    amount = estimate[unit]
    if amount is None:
        raise Malformed(
            "budget_unestimated",
            f"`{scope[:60]}` has a limit on {unit}, and nobody can say how much of it this call may use",
            hint="declare what it costs: `input_micros` and `output_micros` of the model",
        )
    return max(1, amount)


def _is_amount(value: object, *, least: int) -> bool:
    return type(value) is int and least <= value <= AMOUNT_MAX
