"""What a guest said after its ticket was lost: it belongs in the record, and changes nothing there."""

from __future__ import annotations

from assent.execution.guests import Ticket
from assent.execution.outcomes import Outcome
from assent.ledger.commands import Settle
from assent.ledger.effects import EffectState, ended
from assent.ledger.receipts import receipt_draft

_BEFORE_EVERYTHING = -1  # no effect stands there, so the store can only record it as late


def late_result(ticket: Ticket, outcome: Outcome, *, salt: bytes) -> Settle:
    """The command that records `outcome` of `ticket` as late."""
    moves, after = ended(EffectState.DISPATCHED, outcome.ending)
    return Settle(
        tenant=ticket.tenant,
        effect=ticket.effect,
        last_seq=_BEFORE_EVERYTHING,
        attempt=ticket.attempt,
        fence=ticket.fence,
        state=after,
        code=outcome.code,
        draft=receipt_draft(
            effect=ticket.effect,
            before=_BEFORE_EVERYTHING,
            moves=[*moves],
            state=after,
            attempt=ticket.attempt,
            fence=ticket.fence,
            outcome=outcome,
            salt=salt,
        ),
    )
