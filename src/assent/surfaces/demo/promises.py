"""Promises: what the demonstration claims, checked on the spot. A claim that does not hold ends the story."""

from __future__ import annotations

from assent.primitives.errors import InvariantBroken


class PromiseBroken(InvariantBroken):
    """Something the story promises did not happen. `promise` says what was expected, `found` what was seen."""

    def __init__(self, promise: str, *, found: object) -> None:
        self.promise = promise
        self.found = str(found)
        super().__init__("promise_broken", f"expected {promise}; found {self.found}")


def expect(held: bool, promise: str, *, found: object) -> None:
    """Go on only if the promise was held.

    Raises:
        PromiseBroken: it was not.
    """
    if not held:
        raise PromiseBroken(promise, found=found)
