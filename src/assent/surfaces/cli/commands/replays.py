"""`assent policy backtest`, `coverage`, `compare`: what the policy files make of calls, recorded or made up."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.operations.backtests import BackTest, Period
from assent.primitives.errors import Malformed
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.ports import Desk, PolicyText, Said
from assent.surfaces.cli.telling.replays import tell_backtest, tell_comparison, tell_coverage

PROGRESS_CALLS = 20_000
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}

Since = Annotated[str, Parameter(help="Calls from then on: `7d`, `12h`, `30m`, or a day or time such as 2026-11-01.")]
Until = Annotated[str, Parameter(help="Calls before then, written as with --since.")]
Only = Annotated[str, Parameter(help="Only calls of this operation or connector.")]
Own = Annotated[Desk, Parameter(parse=False)]


async def backtest(
    *,
    since: Since = "",
    until: Until = "",
    operation: Only = "",
    revision: str = "",
    common: Common | None = None,
    desk: Own,
) -> Said:
    """Decide the recorded calls of a period again, by the policy files: what activating them would change, whom and
    what that reaches, and what has drifted since. Nothing is carried out.

    Example: assent policy backtest --since 30d

    Parameters
    ----------
    revision
        Not by the files, but by this revision that was in force before.
    """
    desk.use(common)
    period = _period(desk, since, until, operation)
    found, _ = await _replayed(desk, period, revision=revision, covering=False)
    return Said(
        document=msgspec.to_builtins(found) | {"per_second": found.per_second},
        tell=lambda paper: tell_backtest(paper, found),
    )


async def coverage(
    *, since: Since = "", until: Until = "", operation: Only = "", common: Common | None = None, desk: Own
) -> Said:
    """Say which rules of the policy files the recorded calls of a period met, which rules none did, and which calls no
    rule says anything about.

    Example: assent policy coverage --since 30d
    """
    desk.use(common)
    period = _period(desk, since, until, operation)
    found, text = await _replayed(desk, period, revision="", covering=True)

    def place(line: int) -> str:
        file, inside = text.place(line)
        return f"{file}:{inside}"

    document = msgspec.to_builtins(found.coverage) | {"calls": found.calls, "idle": list(found.coverage.idle)}
    return Said(document=document, tell=lambda paper: tell_coverage(paper, found, place))


async def compare(
    revision: str = "",
    /,
    *,
    common: Common | None = None,
    desk: Own,
) -> Said:
    """Search for calls that the policy files let happen more easily than the policy in force does, on a grid of askers,
    operations, labels, sizes and approvals. What is found is sure; that nothing is found proves nothing.

    Ends with 1 when a call was found.

    Example: assent policy compare

    Parameters
    ----------
    revision
        Not with the policy in force, but with this revision that was in force before.
    """
    desk.use(common)
    text, tenant = desk.policy_text(), desk.place.tenant
    async with desk.open(drift=False) as house:
        against = await house.backtests.text_of(tenant, revision) if revision else ""
        found = await house.backtests.compare(tenant, text.text, against=against)
    return Said(
        document=msgspec.to_builtins(found) | {"loosens": found.loosens},
        tell=lambda paper: tell_comparison(paper, found),
        exit=Exit.FAILED if found.loosens else Exit.DONE,
    )


async def _replayed(desk: Desk, period: Period, *, revision: str, covering: bool) -> tuple[BackTest, PolicyText]:
    text, tenant = desk.policy_text(), desk.place.tenant
    async with desk.open(drift=False) as house:
        rules = await house.backtests.text_of(tenant, revision) if revision else text.text
        told = _progress(desk)
        found = await house.backtests.run(tenant, rules, period=period, covering=covering, tell=told)
    return found, text


def _progress(desk: Desk) -> Callable[[int], None]:
    """Says on stderr how far it is, when that takes long."""
    said = 0

    def tell(calls: int) -> None:
        nonlocal said
        if calls >= said + PROGRESS_CALLS:
            said = calls
            desk.note(f"{calls:,} calls decided")

    return tell


def _period(desk: Desk, since: str, until: str, operation: str) -> Period:
    now_ms = desk.now_ms()
    return Period(
        since_ms=_moment(since, now_ms) if since else 0,
        until_ms=_moment(until, now_ms) if until else Period().until_ms,
        operation=operation,
    )


def _moment(words: str, now_ms: int) -> int:
    """A moment, as somebody writes it: how long ago, or a date or time (UTC unless it says otherwise)."""
    ago = re.fullmatch(r"([0-9]{1,6})([mhd])", words)
    if ago:
        return now_ms - int(ago[1]) * _UNITS_MS[ago[2]]
    try:
        moment = datetime.fromisoformat(words)
    except ValueError as error:
        raise Malformed(
            "moment_malformed", f"`{words[:40]}` is no moment", hint="write `7d`, `12h`, `30m`, or 2026-11-01T08:00"
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
