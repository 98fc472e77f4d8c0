"""The function lane: calls functions of the host program, in this very process.

Nothing confines such a function: it has everything this process has, the log's key included. The attestation says so
(`in-process`, class local-weak), and the order is refused unless policy accepted that class in so many words.

Each call has a thread of its own, and a coroutine an event loop of its own in it, so that one that blocks or never ends
cannot stall another effect. A coroutine that is out of time is cancelled. A plain function cannot be stopped: then the
outcome is UNKNOWN and says that it may still be running. Of an exception the type and the message are told, never the
traceback, whose lines hold values.

Codes: `ok`, `exception`, `function_missing`, `definition_changed`, `functions_full`, `confinement_unmet`,
`order_malformed`, `wall_limit`, `output_limit`, `cancelled`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from assent.execution.functions import Callee
from assent.execution.orders import FunctionOrder, Order
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.primitives.canonical import canonical, parse
from assent.primitives.clock import Clock
from assent.primitives.digests import digest
from assent.primitives.errors import InvariantBroken, Malformed, Refused, Unavailable

CALLS_MAX = 64
MESSAGE_CHARS_MAX = 300
_CODE = re.compile(r"[a-z][a-z_]{0,39}\Z")
_STILL = "it cannot be stopped and may still be running"


class _End(NamedTuple):
    ending: Ending
    code: str
    message: str = ""
    value: dict[str, Any] = {}  # noqa: RUF012 (never changed: it goes into a frozen outcome)
    limit: str = ""


class FunctionLane:
    """Carries `FunctionOrder`s to the functions it was given, by the name of their operation."""

    name = "function"
    capabilities = Capabilities(cancels=False, summary="one call of a function of the host program, unconfined")

    def __init__(self, *, clock: Clock, functions: Mapping[str, Callee]) -> None:
        self._clock = clock
        self._functions = dict(functions)
        self._running: set[_Call] = set()

    async def carry(
        self,
        order: Order,
        *,
        floor: ConfinementClass,
        on_event: OnEvent,  # noqa: ARG002 (it hands up no stream)
        steering: Steering | None = None,  # noqa: ARG002 (nothing can be said to it)
    ) -> Outcome:
        """Carry one call to its end; see `Lane`."""
        if not isinstance(order, FunctionOrder):
            raise InvariantBroken("order_of_other_lane", f"the function lane got a `{type(order).__name__}`")
        started_at_ms = self._clock.now_ms()
        attestation = _attestation()
        end = await self._carried(order, attestation, floor)
        evidence = Evidence(
            lane=self.name,
            attestation=attestation,
            started_at_ms=started_at_ms,
            ended_at_ms=self._clock.now_ms(),
            limit=end.limit,
            digests={"result": digest(canonical(end.value))} if end.code == "ok" else {},
            facts={"function": order.function, "definition": order.definition},
        )
        return Outcome(ending=end.ending, code=end.code, message=end.message, value=end.value, evidence=evidence)

    async def close(self) -> None:
        """Nothing is held: what still runs runs in threads that end with the process."""

    async def _carried(self, order: FunctionOrder, attestation: Attestation, floor: ConfinementClass) -> _End:
        callee = self._functions.get(order.function)
        if callee is None:
            return _End(Ending.FAILED, "function_missing", "this process has no such function")
        if callee.definition != order.definition:
            return _End(Ending.FAILED, "definition_changed", "the function is not the one that was asked for")
        try:
            arguments = parse(order.arguments.encode())
        except Malformed as malformed:
            return _End(Ending.FAILED, "order_malformed", malformed.message)
        if not isinstance(arguments, dict):
            return _End(Ending.FAILED, "order_malformed", "the arguments are not an object")
        if not attestation.meets(floor):
            message = f'nothing confines a function, and the floor is {floor}: a rule must say `@accept("local-weak")`'
            return _End(Ending.FAILED, "confinement_unmet", message)
        if len(self._running) >= CALLS_MAX:
            return _End(Ending.FAILED, "functions_full", f"{CALLS_MAX} calls run already")
        return await self._called(order, callee, arguments)

    async def _called(self, order: FunctionOrder, callee: Callee, arguments: dict[str, Any]) -> _End:
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def ended() -> None:
            self._running.discard(call)
            if not over.done():
                over.set_result(None)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever would hear it
                loop.call_soon_threadsafe(ended)

        call = _Call(callee, arguments, tell, bytes_max=order.limits.output_bytes_max)
        self._running.add(call)
        call.start()
        limits = order.limits
        try:
            await asyncio.wait([over], timeout=limits.wall_ms / 1000)
        except asyncio.CancelledError:
            if not await _stopped(call, over, limits.grace_ms, limits.wall_ms):
                return _End(Ending.UNKNOWN, "cancelled", f"the caller gave up; {_STILL}")
            if isinstance(call.fault, asyncio.CancelledError):
                raise
            return call.end(order)
        if over.done():
            return call.end(order)
        if await _stopped(call, over, limits.grace_ms, 0):
            return call.end(order, limit="wall_ms")
        return _End(Ending.UNKNOWN, "wall_limit", f"it took longer than {limits.wall_ms} ms; {_STILL}", limit="wall_ms")


class _Call(threading.Thread):
    """One call in a thread of its own, which ends with the process at the latest."""

    def __init__(self, callee: Callee, arguments: dict[str, Any], done: Callable[[], None], *, bytes_max: int) -> None:
        super().__init__(name="assent-function", daemon=True)
        self._callee = callee
        self._arguments = arguments
        self._done = done
        self._bytes_max = bytes_max
        self._inner: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self.fault: BaseException | None = None
        self.value: dict[str, Any] = {}
        self.bytes = 0

    def run(self) -> None:
        try:
            found = self._callee.call(self._arguments)
            if inspect.isawaitable(found):
                found = asyncio.run(self._awaited(found))
            self.value, self.bytes = _plain(found)
        except BaseException as fault:  # noqa: BLE001 (whatever a stranger's function raises, SystemExit included)
            self.fault = fault
        finally:
            self._done()

    def stop(self) -> bool:
        """Ask it to stop; whether there is any way to ask."""
        if self._inner is None:
            return False
        loop, task = self._inner
        with contextlib.suppress(RuntimeError):  # it has just ended
            loop.call_soon_threadsafe(task.cancel)
        return True

    def end(self, order: FunctionOrder, *, limit: str = "") -> _End:
        """How it ended. A call that was cancelled because its time was over failed for that."""
        if isinstance(self.fault, asyncio.CancelledError) and limit:
            return _End(
                Ending.FAILED, "wall_limit", f"it took longer than {order.limits.wall_ms} ms and was cancelled",
                limit=limit,
            )  # fmt: skip
        if isinstance(self.fault, Refused | Unavailable) and _CODE.match(self.fault.code):
            return _End(Ending.FAILED, self.fault.code, str(self.fault)[:MESSAGE_CHARS_MAX])  # a no, in our own words
        if self.fault is not None:
            return _End(Ending.FAILED, "exception", _said(self.fault))
        if self.bytes > self._bytes_max:
            message = f"it returned {self.bytes} bytes, and the limit is {self._bytes_max}; what it did is done"
            return _End(Ending.SUCCEEDED, "ok", message, {"result": None, "bytes": self.bytes}, "output_bytes_max")
        return _End(Ending.SUCCEEDED, "ok", "", self.value)

    async def _awaited(self, found: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None, "a coroutine run by asyncio.run is a task"
        self._inner = asyncio.get_running_loop(), task
        return await found


async def _stopped(call: _Call, over: asyncio.Future[None], grace_ms: int, patience_ms: int) -> bool:
    """Ask a call to stop and wait: for its grace when it can be asked, else for `patience_ms`."""
    asked = call.stop()
    with contextlib.suppress(asyncio.CancelledError):  # asked twice; the answer is under way
        await asyncio.wait([over], timeout=max(grace_ms if asked else patience_ms, 1) / 1000)
    return over.done()


def _attestation() -> Attestation:
    process = Property(value=f"the node's own, pid {os.getpid()}", known=Known.OBSERVED)
    return Attestation(mechanism="in-process", properties={"process": process})


def _plain(found: object) -> tuple[dict[str, Any], int]:
    """A result as JSON values, and its size; what has no such form is told by its type."""
    try:
        value = {"result": msgspec.to_builtins(found, str_keys=True)}
        return value, len(canonical(value))
    except (TypeError, ValueError, Malformed, RecursionError):
        value = {"result": None, "unserialisable": type(found).__qualname__[:80]}
        return value, len(canonical(value))


def _said(fault: BaseException) -> str:
    name = type(fault).__qualname__
    try:
        text = str(fault)
    except Exception:  # noqa: BLE001 (an exception that cannot even be told)
        return name
    told = text.encode("utf-8", "backslashreplace").decode()
    return f"{name}: {told[:MESSAGE_CHARS_MAX]}".removesuffix(": ")
