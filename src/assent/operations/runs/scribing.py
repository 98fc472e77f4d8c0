"""Have a model sum up what was said: governed questions like every other, each under a key of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from assent.ledger.journals import Content
from assent.ledger.ports import LedgerStore
from assent.ledger.provenance import OWN, Provenance
from assent.operations.gate import Gate
from assent.operations.models import CONNECTOR
from assent.operations.runs.shortening import Cut, question_of, summary_of
from assent.operations.runs.story import Attempt, attempt_of
from assent.operations.wishes import Wish
from assent.primitives.ids import TenantId
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.context import Pack, Piece
from assent.reasoning.failures import FailureKind, Fault


class Commission(msgspec.Struct, frozen=True, kw_only=True):
    """For whom something is summed up: whose models are asked, in which name, in which run; `key` names each question
    by its part and attempt, `known` is what was asked before, `source` where the summary says it comes from."""

    tenant: TenantId
    agent: AgentDefinition
    on_behalf_of: tuple[str, ...]
    run: str
    source: str
    key: Callable[[int, int], str]
    known: Mapping[int, Sequence[Attempt]] = {}


class Scribe:
    """Sums up. Every dependency is given."""

    def __init__(self, *, gate: Gate, store: LedgerStore) -> None:
        self._gate = gate
        self._store = store

    async def sum_up(self, commission: Commission, cut: Cut) -> Piece | Fault:
        """The summary of all portions, or why there is none. What was answered before is not asked again.

        Raises:
            Unavailable: the database or this node's lease is not there.
        """
        before: Piece | None = None
        for part, portion in enumerate(cut.portions):
            said = await self._ask(commission, part, question_of(portion, before=before))
            if isinstance(said, Fault):
                return said
            before = summary_of(said, portion, before=before, source=commission.source)
        assert before is not None, "a cut has portions"
        return before

    async def _ask(self, commission: Commission, part: int, question: Pack) -> str | Fault:
        """Ask the models of the chain until one answers."""
        known = commission.known.get(part, ())
        said = next((one.completion.text for one in known if one.completion and one.completion.text.strip()), "")
        if said:
            return said
        fault = Fault(kind=FailureKind.ADAPTER_UNAVAILABLE, message="no model was asked")
        for attempt, model in enumerate(commission.agent.models, start=len(known)):
            wish = self._wish(commission, model, question, key=commission.key(part, attempt))
            effect = (await self._gate.perform(wish)).effect
            asked = attempt_of(effect, await self._store.history(effect.tenant, effect))
            if asked.completion and asked.completion.text.strip():
                return asked.completion.text
            fault = asked.fault or Fault(kind=FailureKind.INVALID_OUTPUT, message=f"`{model}` said nothing")
        return fault

    def _wish(self, commission: Commission, model: str, question: Pack, *, key: str) -> Wish:
        endpoint, _, name = model.partition(":")
        agent = commission.agent
        pairs = dict(zip(question.digests, question.data, strict=True))
        return Wish(
            tenant=commission.tenant,
            operation=f"{CONNECTOR}.{endpoint}",
            arguments={
                "model": name, "pieces": [*question.digests], "output_tokens_max": agent.output_tokens_max,
            },
            principal=agent.principal,
            on_behalf_of=commission.on_behalf_of,
            run=commission.run,
            key=key,
            contents=tuple(Content(digest=name, data=data) for name, data in pairs.items()),
            provenance=Provenance(context=OWN.context, arguments={"pieces": question.label}),
        )  # fmt: skip
