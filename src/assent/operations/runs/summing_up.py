"""Sessions that are summed up: because somebody wishes it, or because they would leave a new run too little room."""

from __future__ import annotations

from contextlib import suppress

from assent.ledger.ports import LedgerStore
from assent.operations.gate import Gate
from assent.operations.runs.scribing import Commission, Scribe
from assent.operations.runs.sessions import Sessions
from assent.operations.runs.shortening import KEPT_SHARE, PORTION_SHARE, cut
from assent.operations.runs.story import key_of_summary
from assent.operations.runs.transcript import piece_bytes
from assent.primitives.errors import Refused
from assent.primitives.ids import IdSource, TenantId
from assent.reasoning.agents import AgentDefinition, check_agent
from assent.reasoning.context import piece_tokens, read_pieces
from assent.reasoning.failures import Fault

SESSION_SHARE_PERCENT = 60
"""How much of what an agent can be told a session may fill before it is summed up."""
EXCHANGE = 2
"""What was said last, and the answer: so much of a session always stays word for word."""
MESSAGES_MIN = 4
"""With fewer there is nothing in a session that a summary could stand for."""


class SummingUp:
    """Sums sessions up. Every dependency is given."""

    def __init__(self, *, store: LedgerStore, gate: Gate, sessions: Sessions, ids: IdSource) -> None:
        self._store = store
        self._scribe = Scribe(gate=gate, store=store)
        self._sessions = sessions
        self._ids = ids

    async def session(self, tenant: TenantId, session: str, agent: AgentDefinition, *, by: str) -> str:
        """Sum up what a session holds, and go on from the summary and the newest words; under which name models were
        asked for it. The whole of it stays on record, and so does what is left to be done.

        Raises:
            NotFound: there is no such session.
            Refused: `nothing_to_compact`; `compaction_failed`: no model could be asked.
            Conflict: the session was spoken in meanwhile.
        """
        journal, exchange = await self._sessions.now(tenant, session)
        pieces = read_pieces(exchange.pieces, await self._store.contents(tenant, exchange.pieces))
        sizes = [piece_tokens(one) for one in pieces]
        kept = max(sum(sizes) // KEPT_SHARE, sum(sizes[-EXCHANGE:]))
        parts = cut(pieces, kept=kept, portion=agent.context_tokens_max // PORTION_SHARE)
        if parts is None or len(pieces) < MESSAGES_MIN:
            raise Refused("nothing_to_compact", f"session `{session[:120]}` holds too little to be made shorter")
        run = self._ids.run()
        commission = Commission(
            tenant=tenant, agent=check_agent(agent), on_behalf_of=(by,), run=run, source=f"run:{run}",
            key=lambda part, attempt: key_of_summary(run, 0, part, attempt),
        )  # fmt: skip
        summary = await self._scribe.sum_up(commission, parts)
        if isinstance(summary, Fault):
            raise Refused("compaction_failed", f"it could not be summed up: {summary.message}", hint="try again later")
        (data,) = piece_bytes([summary])
        await self._sessions.shorten(journal, exchange, summary=data, kept=parts.kept, run=run)
        return run

    async def if_large(self, tenant: TenantId, session: str, agent: AgentDefinition, *, by: str) -> None:
        """Sum a session up that would leave a new run too little room. Where that fails, the run has less of it."""
        _, exchange = await self._sessions.now(tenant, session)
        held = await self._store.contents(tenant, exchange.pieces)
        tokens = sum(piece_tokens(one) for one in read_pieces(exchange.pieces, held))
        if tokens * 100 > agent.context_tokens_max * SESSION_SHARE_PERCENT:
            with suppress(Refused):
                await self.session(tenant, session, agent, by=by)
