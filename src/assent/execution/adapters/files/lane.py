"""The file lane: one file operation beneath the workspace, carried to its end in a thread.

A file operation is never abandoned half-way. Cancelled, the lane asks it to stop, which it does where it leaves nothing
half-done, and waits. If it never began or changed nothing, the cancellation goes through; if it was done, or removed a
part of a tree, its true outcome comes in place of the cancellation: whoever cancelled must not record that nothing
happened when something did. The wall limit works the same way: it is looked at between steps, since a thread inside a
system call cannot be stopped.

Codes: `ok`, `not_found`, `outside_workspace`, `path_malformed`, `workspace_malformed`, `symlink_refused`,
`not_regular`, `not_folder`, `not_text`, `exists`, `edit_no_match`, `edit_ambiguous`, `file_changed`, `no_space`,
`not_permitted`, `output_limit`, `wall_limit`, `cancelled`, `io_error`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from typing import Any

from assent.execution.adapters.files.beneath import Beneath, Mechanism, best_mechanism
from assent.execution.adapters.files.opening import Done
from assent.execution.adapters.files.trees import Stopped, Tally
from assent.execution.adapters.files.verbs import VERBS
from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from assent.execution.orders import FileOrder, Order
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.paths import parts_of
from assent.execution.ports import OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.primitives.clock import Clock
from assent.primitives.errors import InvariantBroken, Refused

_NS_PER_MS = 1_000_000
_CODES = {
    errno.ENOENT: "not_found",
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "no_space",
    errno.EACCES: "not_permitted",
    errno.EPERM: "not_permitted",
    errno.EROFS: "not_permitted",
    errno.EXDEV: "not_permitted",
    errno.EBUSY: "not_permitted",
    errno.EEXIST: "exists",
    errno.EISDIR: "not_regular",
    errno.ENXIO: "not_regular",
    errno.ENAMETOOLONG: "path_malformed",
}
_STOPPED = {"cancelled": "the caller gave up", "wall_limit": "the time is over"}


class FileLane:
    """Carries `FileOrder`s. Only Assent's own code runs, so it meets every confinement floor.

    `mechanism` is chosen when the first order comes, by what the kernel allows, unless it is given.
    """

    name = "file"
    capabilities = Capabilities(cancels=False, summary="one file operation beneath the workspace")

    def __init__(self, *, clock: Clock, mechanism: Mechanism | None = None) -> None:
        self._clock = clock
        self._mechanism = mechanism

    async def carry(
        self,
        order: Order,
        *,
        floor: ConfinementClass,  # noqa: ARG002 (it meets every floor)
        on_event: OnEvent,  # noqa: ARG002 (it hands up no stream)
        steering: Steering | None = None,  # noqa: ARG002 (nothing can be said to it)
    ) -> Outcome:
        """Carry one operation to its end; see `Lane`."""
        if not isinstance(order, FileOrder):
            raise InvariantBroken("order_of_other_lane", f"the file lane got a `{type(order).__name__}`")
        cancelled = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(None, self._perform, order, cancelled)
        gave_up = False
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                gave_up = True
                cancelled.set()
        outcome = work.result()
        if outcome is None or (gave_up and outcome.ending is Ending.CANCELLED):
            raise asyncio.CancelledError
        return outcome

    async def close(self) -> None:
        """Nothing is held between orders."""

    def _perform(self, order: FileOrder, cancelled: threading.Event) -> Outcome | None:
        if cancelled.is_set():
            return None
        started_at_ms = self._clock.now_ms()
        ends_at_ns = self._clock.monotonic_ns() + order.limits.wall_ms * _NS_PER_MS

        def stop() -> str:
            if cancelled.is_set():
                return "cancelled"
            return "wall_limit" if self._clock.monotonic_ns() > ends_at_ns else ""

        tally = Tally(stop=stop)
        ending, done = self._attempt(order, tally)
        return self._outcome(order, ending, done, tally, started_at_ms=started_at_ms)

    def _attempt(self, order: FileOrder, tally: Tally) -> tuple[Ending, Done]:
        if self._mechanism is None:
            self._mechanism = best_mechanism()
        try:
            parts = parts_of(order.path)
            root = Beneath(order.workspace, mechanism=self._mechanism)
            try:
                done = VERBS[order.verb](root, parts, order, tally)
            finally:
                root.close()
        except Stopped as stopped:
            limit = "wall_ms" if stopped.code == "wall_limit" else ""
            ending = Ending.CANCELLED if stopped.code == "cancelled" and not tally.removed else Ending.FAILED
            return ending, Done(code=stopped.code, message=_STOPPED[stopped.code], limit=limit)
        except Refused as refusal:
            return Ending.FAILED, Done(code=refusal.code, message=str(refusal))
        except OSError as error:
            # What is visible and failed afterwards (an fsync, as a rule) may or may not outlast a crash.
            ending = Ending.UNKNOWN if tally.landed else Ending.FAILED
            code = _CODES.get(error.errno or 0, "io_error")
            return ending, Done(code="io_error" if tally.landed else code, message=_said(error))
        return Ending.SUCCEEDED if done.code == "ok" else Ending.FAILED, done

    def _outcome(self, order: FileOrder, ending: Ending, done: Done, tally: Tally, *, started_at_ms: int) -> Outcome:
        facts: dict[str, Any] = {"verb": order.verb, "path": _plain(order.path), **done.facts}
        if tally.removed:
            facts["removed"] = tally.removed
        how = Property(value=f"beneath workspace ({self._mechanism})", known=Known.OBSERVED)
        evidence = Evidence(
            lane=self.name,
            attestation=Attestation(mechanism="assent-files", properties={"paths": how}, builtin=True),
            started_at_ms=started_at_ms,
            ended_at_ms=self._clock.now_ms(),
            limit=done.limit,
            digests={} if done.content is None else {"content": done.content},
            facts=facts,
        )
        message = done.message
        if tally.removed and ending is not Ending.SUCCEEDED:
            message = f"{message}; {tally.removed} removed before"
        return Outcome(ending=ending, code=done.code, message=message, value=done.value, evidence=evidence)


def _said(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def _plain(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
