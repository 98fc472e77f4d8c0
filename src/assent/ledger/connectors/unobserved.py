"""What operations have in common whose effects nothing can look up: a person settles what is unknown of them. Pure."""

from __future__ import annotations

from typing import Any

from assent.ledger.operations import Judgement


class Unobserved:
    """The half of an operation that says how its effects are looked up: they are not."""

    def observation(self, arguments: dict[str, Any]) -> dict[str, Any] | None:  # noqa: ARG002 (the protocol's)
        """None: what became of a call cannot be told by looking."""
        return None

    def judge(
        self,
        arguments: dict[str, Any],  # noqa: ARG002 (the protocol's)
        observed_code: str,  # noqa: ARG002
        observed: dict[str, Any],  # noqa: ARG002
    ) -> Judgement:
        """Always unclear."""
        return Judgement.UNCLEAR
