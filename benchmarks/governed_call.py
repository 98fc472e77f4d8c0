"""The whole governed no-op call by 64 callers: decide, accept, mint, dispatch, settle, log. Against workflow engines.

Measured     calls a second of a real node (`governed_node`: 20 rules, every guard on), once where each call is new to
             the rules and is judged by Cedar, once where the engine remembers the like; and the p50 of a lone caller.
Yardstick    the same work in the same run: durable accept (470 bytes), an effect that does nothing, durable outcome
             (140 bytes), on SQLite with WAL and synchronous=FULL, 64 callers, each in the form that was fastest just
             before: DBOS with the effect in a step, as its guide has it (for information also without a step: two
             commits, like ours); LangGraph with two nodes and durability="sync" (with one node the effect would begin
             before its acceptance is on disk). They live in an environment of their own, made when first needed.
Target       ≥ 10 × the rate of either.
Beside it    the same call with three holds of budgets, against the one without: both cost two commits.
Repeat       python -m benchmarks.governed_call [--quick]
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial

from benchmarks.reporting import arguments, result, row, scratch
from benchmarks.serving import Driver
from benchmarks.windows import Window, in_turn, ratio
from benchmarks.yardsticks.environment import python

CALLERS = 64
ENGINES = {"DBOS": "benchmarks.yardsticks.with_dbos", "LangGraph": "benchmarks.yardsticks.with_langgraph"}
BODY = "body"
"""How a form is marked that leaves the effect in the workflow's body."""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    rounds, seconds = (1, 0.7) if options.quick else (5, 1.0)
    print(__doc__)
    interpreter = python()
    with scratch(options.folder) as folder, ExitStack() as stack:
        ours = stack.enter_context(Driver(sys.executable, "benchmarks.governed_node", folder / "assent"))
        theirs = {
            name: stack.enter_context(Driver(interpreter, module, folder / name)) for name, module in ENGINES.items()
        }
        for driver in (ours, *theirs.values()):
            print(f"  {driver.about}")
        _measure(ours, theirs, rounds=rounds, seconds=seconds)


def _measure(ours: Driver, theirs: dict[str, Driver], *, rounds: int, seconds: float) -> None:
    arms = {f"Assent, {form}": partial(ours.window, form, callers=CALLERS, seconds=seconds) for form in ours.forms}
    for name, driver in theirs.items():
        for kind in _kinds(driver):
            form = _fastest(driver, kind, seconds=seconds / 2)
            arms[f"{name}, {form}"] = partial(driver.window, form, callers=CALLERS, seconds=seconds)
    print(f"  {CALLERS} callers, {rounds} rounds of {seconds:g} s each:")
    windows = in_turn(arms, rounds=rounds)
    for name, found in windows.items():
        row(name, found)
    alone = {form: [ours.window(form, callers=1, seconds=seconds / 2)] for form in ours.forms}
    for form, found in alone.items():
        row(f"Assent, {form}, a lone caller", found)
    _conclude(windows)


def _conclude(windows: dict[str, list[Window]]) -> None:
    mine = {name: found for name, found in windows.items() if name.startswith("Assent")}
    holding, plain = mine.pop("Assent, holding"), mine["Assent, remembered"]
    times = ratio(holding, plain, lambda window: window.rate)
    result("Assent, with three holds, against without", times, at_least=None)
    for yardstick in (name for name in windows if not name.startswith("Assent")):
        for name, found in mine.items():
            times = ratio(found, windows[yardstick], lambda window: window.rate)
            result(f"{name}, against {yardstick}", times, at_least=None if BODY in yardstick else 10)


def _kinds(driver: Driver) -> list[bool]:
    """Forms with the effect in a step (or node), and those with the effect in the body, are compared apart."""
    return sorted({BODY in form for form in driver.forms})


def _fastest(driver: Driver, in_body: bool, *, seconds: float) -> str:  # noqa: FBT001
    forms = [form for form in driver.forms if (BODY in form) is in_body]
    rates = {form: driver.window(form, callers=CALLERS, seconds=seconds).rate for form in forms}
    print("  " + ", ".join(f"{form}: {rate:,.0f}/s" for form, rate in rates.items()))
    return max(rates, key=lambda form: rates[form])


if __name__ == "__main__":
    main()
