"""Interpreters that wait at their gate for the next call: one for each kind of sandbox that was asked for lately.

Building a sandbox costs more than the call, so after the second call of a kind (the same workspace, access, limits and
imports) another one is built for the third, and so on. It has run nothing, and is read from outside when a call takes
it, as if it had been built then. A spare is used once, or ended when nobody came for it in time or its workspace is
another folder by now.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial

import msgspec

from assent.execution.adapters.python.planning import Plan
from assent.execution.adapters.sandboxes.workers import Worker
from assent.execution.adapters.sandboxes.zygotes import Zygote, Zygotes
from assent.execution.orders import order_digest
from assent.primitives.digests import Digest
from assent.primitives.errors import AssentError

SPARES_MAX = 4
SPARE_IDLE_S = 120.0
ASKED_MAX = 64  # kinds that are remembered
_Kind = tuple[Digest, tuple[str, ...]]
_Identity = tuple[int, int, int, int]


class Held:
    """A worker at its gate, the zygote it came from, and the folder it shows (None: it was being exchanged).

    `waited`: it was built before it was called for.
    """

    def __init__(self, zygote: Zygote, worker: Worker, folder: _Identity | None) -> None:
        self.zygote, self.worker, self.folder = zygote, worker, folder
        self.waited = False

    async def end(self) -> bool:
        """End the worker, and give the zygote back; whether the proof of death came."""
        try:
            return await self.worker.end()
        finally:
            self.zygote.back()


class Spares:
    """The spares of one lane."""

    def __init__(self, *, zygotes: Zygotes, spares_max: int = SPARES_MAX, idle_s: float = SPARE_IDLE_S) -> None:
        self._zygotes, self._max, self._idle_s = zygotes, spares_max, idle_s
        self._building: dict[_Kind, asyncio.Task[Held]] = {}
        self._asked: dict[_Kind, None] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def taken(self, plan: Plan) -> Held:
        """A worker for `plan`: the spare, or one that is built now.

        Raises:
            Malformed, Unavailable: as `Worker.start`.
        """
        task = self._building.pop(_kind(plan), None)
        if task is None:
            return await self._built(plan)
        try:
            held = await asyncio.shield(task)
        except asyncio.CancelledError:
            self._drop(task)
            raise
        except (AssentError, OSError):
            return await self._built(plan)  # what stood in its way may be gone
        if held.worker.dead.done() or _identity(plan.program.workspace) != held.folder:
            await held.end()
            return await self._built(plan)
        held.waited = True
        return held

    def replenish(self, plan: Plan) -> None:
        """Begin to build the next of this kind, unless there is one or nobody has asked for two of them."""
        kind = _kind(plan)
        if self._max == 0 or kind in self._building:
            return
        if kind not in self._asked:
            self._asked[kind] = None
            if len(self._asked) > ASKED_MAX:
                del self._asked[next(iter(self._asked))]
            return
        while len(self._building) >= self._max:
            self._drop(self._building.pop(next(iter(self._building))))
        task = asyncio.create_task(self._built(plan))  # noqa: TID251 (awaited by who takes or drops it)
        self._building[kind] = task
        asyncio.get_running_loop().call_later(self._idle_s, partial(self._expire, kind, task))

    async def ready(self) -> None:
        """Wait until everything that is being built is."""
        await asyncio.gather(*self._building.values(), return_exceptions=True)

    async def close(self) -> None:
        """End them all. Idempotent."""
        building, self._building = list(self._building.values()), {}
        for task in building:
            self._drop(task)
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def _built(self, plan: Plan) -> Held:
        folder = _identity(plan.program.workspace)
        zygote = await self._zygotes.lend(workspace=plan.program.workspace, imports=plan.imports)
        try:
            worker = await Worker.start(zygote.mechanism, plan.program, beats=False)
        except BaseException:
            zygote.back()
            raise
        same = folder == _identity(plan.program.workspace)
        return Held(zygote, worker, folder if same else None)

    def _expire(self, kind: _Kind, task: asyncio.Task[Held]) -> None:
        if self._building.get(kind) is task:
            self._drop(self._building.pop(kind))

    def _drop(self, task: asyncio.Task[Held]) -> None:
        ending = asyncio.create_task(_ended(task))  # noqa: TID251 (`close` awaits it)
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _ended(task: asyncio.Task[Held]) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await task.result().end()


def _kind(plan: Plan) -> _Kind:
    """What a sandbox depends on; times and amounts of output are each call's own."""
    limits = msgspec.structs.replace(plan.program.limits, wall_ms=0, output_bytes_max=0, grace_ms=0)
    return order_digest(msgspec.structs.replace(plan.program, limits=limits)), plan.imports


def _identity(path: str) -> _Identity | None:
    """Which folder this is and whose, or None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_uid, found.st_gid
