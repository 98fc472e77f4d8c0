"""Breakers on a clock of the tests."""

from __future__ import annotations

from assent.operations.runs.breakers import FAILURES_MAX, OPEN_MS, PROBE_MS, WINDOW_MS, Breakers
from assent.registry.agents import Health
from assent.testing.clocks import SetClock

CHAIN = ("a:x", "b:y", "a:z")


def broken(breakers: Breakers, *models: str) -> None:
    for model in models:
        for _ in range(FAILURES_MAX):
            breakers.failed(model)


def test_endpoint_is_passed_over_when_it_failed_often_and_tried_by_one_after_a_while() -> None:
    clock = SetClock()
    breakers = Breakers(clock=clock)
    assert breakers.chosen("a:x", CHAIN) == "a:x"
    broken(breakers, "a:x")
    assert breakers.chosen("a:x", CHAIN) == breakers.chosen("a:z", CHAIN) == "b:y"
    clock.pass_ms(OPEN_MS)
    assert breakers.chosen("a:x", CHAIN) == "a:x"
    assert breakers.chosen("a:x", CHAIN) == "b:y", "one probes, the others do not"
    breakers.answered("a:x")
    assert breakers.chosen("a:x", CHAIN) == "a:x"


def test_health_is_worse_while_endpoints_are_left_alone_and_takes_no_probe() -> None:
    clock = SetClock()
    breakers = Breakers(clock=clock)
    broken(breakers, "a:x")
    assert [breakers.health(chain) for chain in (CHAIN, ("a:x",), ("b:y",), ())] == [
        Health.DEGRADED, Health.UNHEALTHY, Health.HEALTHY, Health.HEALTHY
    ]  # fmt: skip
    broken(breakers, "b:y")
    assert breakers.health(CHAIN) is Health.UNHEALTHY
    clock.pass_ms(OPEN_MS)
    assert breakers.health(CHAIN) is Health.HEALTHY, "who is passed over for ever could never be well again"
    assert breakers.chosen("a:x", CHAIN) == "a:x"
    assert breakers.health(CHAIN) is Health.DEGRADED, "it is being tried"
    breakers.answered("a:x")
    assert breakers.health(CHAIN) is Health.HEALTHY


def test_failed_probe_opens_it_again_and_a_lost_one_does_not_close_it_for_ever() -> None:
    clock = SetClock()
    breakers = Breakers(clock=clock)
    broken(breakers, "a:x")
    clock.pass_ms(OPEN_MS)
    assert breakers.chosen("a:x", CHAIN) == "a:x"
    breakers.failed("a:x")
    assert breakers.chosen("a:x", CHAIN) == "b:y"
    clock.pass_ms(OPEN_MS)
    assert breakers.chosen("a:x", CHAIN) == "a:x"
    clock.pass_ms(PROBE_MS)
    assert breakers.chosen("a:x", CHAIN) == "a:x"


def test_failures_that_lie_far_apart_open_nothing() -> None:
    clock = SetClock()
    breakers = Breakers(clock=clock)
    for _ in range(3 * FAILURES_MAX):
        breakers.failed("a:x")
        clock.pass_ms(WINDOW_MS // 2)
    assert breakers.chosen("a:x", CHAIN) == "a:x"


def test_wanted_one_is_asked_when_all_are_left_alone() -> None:
    breakers = Breakers(clock=SetClock())
    broken(breakers, "a:x", "b:y")
    assert [breakers.chosen(model, CHAIN) for model in CHAIN] == list(CHAIN)
