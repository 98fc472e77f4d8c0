"""Halts: what may not be dispatched any more, whatever policy says, until a person lifts it. Pure.

A halt stands in a journal of its own, so it is in the log and compared with it. Whatever would dispatch a call looks at
the halts in the very transaction that dispatches it, on every node of the database.
"""

from __future__ import annotations

import re

from assent.ledger.intents import Intent
from assent.ledger.journals import Journal, Note, note
from assent.primitives.errors import Malformed

EVERYTHING = "everything"
HALTED, LIFTED = "halted", "lifted"
REASON_CHARACTERS_MAX = 1_000

_SCOPE = re.compile(r"everything\Z|(?:agent|service|person):[A-Za-z0-9._@+/:-]{1,128}\Z|connector:[a-z0-9_-]{1,64}\Z")


def scopes_of(intent: Intent) -> tuple[str, ...]:
    """The halts that a call falls under: everything, whoever asks and whoever that is for, and what is asked."""
    connector = intent.operation.partition(".")[0]
    return (EVERYTHING, intent.principal, *intent.on_behalf_of, f"connector:{connector}")


def check_scope(scope: str) -> None:
    """Check what is to be halted.

    Raises:
        Malformed: `scope_malformed`.
    """
    if not _SCOPE.match(scope):
        raise Malformed(
            "scope_malformed",
            f"`{scope[:80]}` is nothing that can be halted",
            hint="name `everything`, `agent:NAME`, `service:NAME`, `person:NAME` or `connector:NAME`",
        )


def halt_note(journal: Journal | None, scope: str, *, state: str, by: str, reason: str, salt: bytes) -> Note:
    """The note by which `by` halts or lifts `scope`."""
    return note(
        kind="halt",
        id_=scope,
        before=journal.last_seq if journal else -1,
        state=state,
        owned=False,
        type_="halt.begun" if state == HALTED else "halt.lifted",
        body={"by": by},
        salt=salt,
        payload=reason.encode(),
        name=scope,
    )
