"""Faults on purpose: a process that dies at a named place, wired in by constructors and nowhere in the product.

    before_accept ── mid_accept ── after_accept ── before_lane ── mid_lane ── after_lane ── mid_settle ── after_settle
                     (written,     (committed,     (grant         (the deed   (the lane     (written,     (committed,
                     not            not             checked)       is done)    answered)     not           not told)
                     committed)     told)                                                    committed)

A `CrashPlan` counts how often its place was reached and dies at the `at`-th time by SIGKILL, which nothing can catch:
no `finally`, no flush, no goodbye. The wrappers around the store, the log book and the lanes only report places.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Order
from assent.execution.outcomes import Outcome, StreamEvent
from assent.execution.ports import Lane, OnEvent, Steering
from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.checkpoints import Signer
from assent.ledger.commands import Accept, Command, Dispatch, Settle
from assent.ledger.entries import Draft
from assent.ledger.ports import LedgerStore
from assent.primitives.ids import TenantId


class CrashPoint(StrEnum):
    """Where a process may die; see the picture at the top of this module."""

    BEFORE_ACCEPT = "before_accept"
    MID_ACCEPT = "mid_accept"
    AFTER_ACCEPT = "after_accept"
    BEFORE_LANE = "before_lane"
    MID_LANE = "mid_lane"
    AFTER_LANE = "after_lane"
    MID_SETTLE = "mid_settle"
    AFTER_SETTLE = "after_settle"


def die() -> None:
    """End this process as a power cut ends it."""
    os.kill(os.getpid(), signal.SIGKILL)


class CrashPlan:
    """Dies when `point` is reached for the `at`-th time (from 1). Without a point it never does."""

    def __init__(self, point: CrashPoint | None = None, *, at: int = 1, death: Callable[[], None] = die) -> None:
        self._point = point
        self._left = at
        self._death = death

    def reached(self, point: CrashPoint) -> None:
        """Report a place."""
        if point is self._point:
            self._left -= 1
            if self._left == 0:
                self._death()


class CrashingStore:
    """A store that reports the commits of accept and settle. Everything is the inner store's."""

    def __init__(self, inner: LedgerStore, plan: CrashPlan) -> None:
        self._inner = inner
        self._plan = plan

    async def apply(self, command: Command) -> Any:  # noqa: ANN401 (the port's: each command has its own result)
        """Apply it, reporting the places before and after."""
        if isinstance(command, Accept | Dispatch):
            self._plan.reached(CrashPoint.BEFORE_ACCEPT)
            result = await self._inner.apply(command)
            self._plan.reached(CrashPoint.AFTER_ACCEPT)
            return result
        if isinstance(command, Settle):
            self._plan.reached(CrashPoint.AFTER_LANE)
            result = await self._inner.apply(command)
            self._plan.reached(CrashPoint.AFTER_SETTLE)
            return result
        return await self._inner.apply(command)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the inner store has)
        return getattr(self._inner, name)


class CrashingBook(LogBook):
    """A log book that reports the moment in which everything is written and nothing is committed."""

    def __init__(self, *, signer: Signer, log_id: str, keep: Callable[[list[str]], None], plan: CrashPlan) -> None:
        super().__init__(signer=signer, log_id=log_id, keep=keep)
        self._plan = plan
        self._types: set[str] = set()

    def append(self, tenant: TenantId, entry: Draft) -> int:
        """Append, remembering what kind of change this transaction makes."""
        self._types.add(entry.type)
        return super().append(tenant, entry)

    def flush(self) -> None:
        """Flush, then report."""
        super().flush()
        types, self._types = self._types, set()
        if types & {"effect.accepted", "effect.dispatched", "effect.resent"}:
            self._plan.reached(CrashPoint.MID_ACCEPT)
        if "effect.settled" in types:
            self._plan.reached(CrashPoint.MID_SETTLE)


class CrashingLane:
    """A lane that reports its start and its first output."""

    def __init__(self, inner: Lane, plan: CrashPlan) -> None:
        self.name = inner.name
        self.capabilities = inner.capabilities
        self._inner = inner
        self._plan = plan

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry it, reporting the places on the way."""
        self._plan.reached(CrashPoint.BEFORE_LANE)

        def told(event: StreamEvent) -> None:
            self._plan.reached(CrashPoint.MID_LANE)
            on_event(event)

        return await self._inner.carry(order, floor=floor, on_event=told, steering=steering)

    async def close(self) -> None:
        """Close the inner lane."""
        await self._inner.close()


def crashing_lanes(lanes: Mapping[type, Lane], plan: CrashPlan) -> dict[type, Lane]:
    """Every lane, wrapped."""
    return {kind: CrashingLane(lane, plan) for kind, lane in lanes.items()}
