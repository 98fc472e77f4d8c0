"""Callers: who asks, and what they may do under the credential they showed. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.ledger.provenance import TYPED, UNVOUCHED
from assent.operations.wishes import Wish
from assent.policy.mandates import Allowance
from assent.primitives.errors import Refused
from assent.primitives.ids import TenantId


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody of a tenant. `shown_by` names the credential and never holds it; `scope` are the calls it is good for
    (none: all that the principal may ask), `may_answer` whether reviews may be answered with it."""

    tenant: TenantId
    principal: str
    on_behalf_of: tuple[str, ...] = ()
    shown_by: str
    scope: tuple[Allowance, ...] = ()
    may_answer: bool = False

    def wish(self, operation: str, arguments: Mapping[str, Any], *, run: str = "", key: str = "") -> Wish:
        """A call of theirs, as the gate takes it. What a person asks stands on their word; what an agent or a service
        asks may have been chosen by anybody.

        Raises:
            Refused: `scope_exceeded`: the credential is not good for it.
        """
        self.must_cover(operation, arguments)
        return Wish(
            tenant=self.tenant,
            operation=operation,
            arguments=arguments,
            principal=self.principal,
            on_behalf_of=self.on_behalf_of,
            run=run,
            key=key,
            provenance=TYPED if self.principal.startswith("person:") else UNVOUCHED,
        )

    def must_cover(self, operation: str, arguments: Mapping[str, Any]) -> None:
        """Check that the credential is good for a call.

        Raises:
            Refused: `scope_exceeded`.
        """
        if self.scope and not any(one.covers(operation, arguments) for one in self.scope):
            good_for = ", ".join(f"`{one}`" for one in self.scope[:5])
            raise Refused("scope_exceeded", f"this credential is good for {good_for} and for nothing else")

    def answering(self) -> str:
        """The person in whose name a review is answered.

        Raises:
            Refused: `credential_may_not_answer`.
        """
        if not self.may_answer or not self.principal.startswith("person:"):
            raise Refused(
                "credential_may_not_answer", f"reviews are not answered with this credential ({self.shown_by})",
                hint="a person answers at their own terminal, or with a token made with --may-answer",
            )  # fmt: skip
        return self.principal
