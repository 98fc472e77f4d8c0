"""Whether what a run waits for has come. Reads only: nobody has to tell a host that somebody answered elsewhere."""

from __future__ import annotations

from assent.ledger.effects import EffectState
from assent.ledger.halts import EVERYTHING, HALTED
from assent.ledger.journals import Journal
from assent.ledger.ports import LedgerStore, Record
from assent.ledger.reviews import ReviewState
from assent.operations.halts import HALTS_MAX
from assent.operations.runs.delegating import CHILDREN_MAX
from assent.operations.runs.states import ALIVE, RunState
from assent.operations.runs.steps import DEPTH_MAX
from assent.primitives.clock import Clock
from assent.primitives.ids import EffectId, ReviewId

AGAIN_MS = {"provider": 120_000, "budget": 300_000}
"""When it is worth asking again, if all that was wrong was a bad moment."""


class Waits:
    """Looks at waiting runs. Every dependency is given."""

    def __init__(self, *, store: LedgerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def over(self, run: Journal, last: Record | None, *, depth: int = 0) -> bool:
        """Whether a waiting run can go on; `last` is the last entry of its journal."""
        if last is None or depth > DEPTH_MAX:
            return False
        if last.type != "run.waiting":
            return True  # somebody said something to it since
        reason, of = last.body["reason"], last.body["of"]
        match reason:
            case "review":
                review = await self._store.review(run.tenant, ReviewId(of))
                return review is not None and review.state is not ReviewState.OPEN
            case "unknown":
                effect = await self._store.effect(run.tenant, EffectId(of))
                return effect is not None and effect.state not in (EffectState.UNKNOWN, EffectState.DISPATCHED)
            case "child":
                return await self._child_moves(run, depth=depth)
            case "halted":
                return not await self._is_halted(run, EffectId(of))
            case "provider" | "budget":
                return self._clock.now_ms() >= run.updated_at_ms + AGAIN_MS[reason]
            case _:
                return False  # a person is asked, and what they say is an entry of its own

    async def _is_halted(self, run: Journal, of: EffectId) -> bool:
        effect = await self._store.effect(run.tenant, of)
        connector = effect.operation.partition(".")[0] if effect else ""
        halts = await self._store.journals(run.tenant, "halt", states=(HALTED,), limit=HALTS_MAX)
        return not {one.id for one in halts}.isdisjoint((EVERYTHING, f"agent:{run.name}", f"connector:{connector}"))

    async def _child_moves(self, run: Journal, *, depth: int) -> bool:
        """Whether what it handed on is over, or can go on itself."""
        alive = tuple(str(state) for state in ALIVE)
        children = await self._store.journals(run.tenant, "run", states=alive, parent=run.id, limit=CHILDREN_MAX)
        last = await self._store.records_at(run.tenant, [child.last_seq for child in children])
        for child in children:
            if child.state == RunState.RUNNING:
                return True
            if child.state == RunState.WAITING and await self.over(child, last.get(child.last_seq), depth=depth + 1):
                return True
        return not children
