"""Breakers: an endpoint that fails again and again is left alone for a while, and then tried by one.

    closed ── FAILURES_MAX failures within WINDOW_MS ──► open ── after OPEN_MS ──► one probe ── it answers ──► closed
                                                           ▲                          └── it fails ──┘

What a breaker knows belongs to this process and is written nowhere: which endpoint was asked is on record, so a run is
told the same whether there was a breaker or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from assent.primitives.clock import Clock
from assent.registry.agents import Health

FAILURES_MAX = 5
WINDOW_MS = 60_000
OPEN_MS = 30_000
PROBE_MS = 120_000


class Breakers:
    """The breakers of all endpoints that this process asks."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[str, deque[int]] = {}
        self._opened: dict[str, int] = {}
        self._probed: dict[str, int] = {}

    def chosen(self, wanted: str, chain: Sequence[str]) -> str:
        """The model to ask: the wanted one, or the next of the chain whose endpoint is not left alone. Where all of
        them are, the wanted one: there is nothing to lose."""
        place = chain.index(wanted)
        for model in (*chain[place:], *chain[:place]):
            if self._may_ask(_endpoint(model)):
                return model
        return wanted

    def health(self, chain: Sequence[str]) -> Health:
        """How somebody is who asks the models of this chain: degraded while one of their endpoints is left alone,
        unhealthy while all are. It asks nobody, and takes no probe."""
        alone = [self._is_left_alone(_endpoint(model)) for model in chain]
        if not any(alone):
            return Health.HEALTHY
        return Health.UNHEALTHY if all(alone) else Health.DEGRADED

    def failed(self, model: str) -> None:
        """A model could not be asked."""
        name, now_ms = _endpoint(model), self._now_ms()
        failures = self._failed.setdefault(name, deque(maxlen=FAILURES_MAX))
        failures.append(now_ms)
        probing = self._probed.pop(name, None) is not None
        if probing or (len(failures) == FAILURES_MAX and now_ms - failures[0] <= WINDOW_MS):
            self._opened[name] = now_ms

    def answered(self, model: str) -> None:
        """A model was asked, and answered, whatever it said."""
        name = _endpoint(model)
        self._failed.pop(name, None)
        self._opened.pop(name, None)
        self._probed.pop(name, None)

    def _may_ask(self, name: str) -> bool:
        if self._is_left_alone(name):
            return False
        if name in self._opened:
            self._probed[name] = self._now_ms()
        return True

    def _is_left_alone(self, name: str) -> bool:
        opened, now_ms = self._opened.get(name), self._now_ms()
        # A probe that nobody heard of again must not leave the endpoint alone for ever.
        probed = self._probed.get(name, now_ms - PROBE_MS)
        return opened is not None and (now_ms - opened < OPEN_MS or now_ms - probed < PROBE_MS)

    def _now_ms(self) -> int:
        return self._clock.monotonic_ns() // 1_000_000


def _endpoint(model: str) -> str:
    return model.partition(":")[0]
