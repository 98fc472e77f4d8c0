"""A process that owns a process lane and carries what it is told, one JSON line a request: the "Assent process" of
the tests.

It runs as whoever started it, so the same tests drive the lane as root and as an ordinary user, and it can be killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.python import PythonLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import ProcessOrder, PythonOrder
from assent.execution.outcomes import StreamEvent
from assent.execution.steering import EndInput, Input, Resize, Signal, Word
from assent.primitives.errors import AssentError


class RealClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


ANSWERS = {
    "allowed.test": "127.0.0.1", "a.allowed.test": "127.0.0.1", "metadata.test": "169.254.169.254",
    "mapped.test": "::ffff:127.0.0.1", "translated.test": "64:ff9b::7f00:1",
}  # fmt: skip
REBOUND = ["127.0.0.1", "127.0.0.2"]


def resolve(name: str) -> list[str]:
    """The name service of the broker: it knows a few names, and one that it answers differently every time."""
    if name == "rebound.test":
        REBOUND.reverse()
        return [REBOUND[1]]
    if name not in ANSWERS:
        raise OSError(-2, "name or service not known")
    return [ANSWERS[name]]


class Driver:
    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lanes: dict[str, ProcessLane] = {}
        self._python: PythonLane | None = None

    async def serve(self) -> None:
        say({"uid": os.getuid(), "pid": os.getpid()})
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            try:
                say(await getattr(self, request.pop("do"))(**request))
            except AssentError as error:
                say({"error": error.code, "message": str(error)})

    def lane(self, mechanism: str | None) -> ProcessLane:
        lane = self._lanes.get(mechanism or "")
        if lane is None:
            chosen: Any = mechanism
            lane = self._lanes[mechanism or ""] = ProcessLane(
                clock=RealClock(),
                state_dir=self._state_dir,
                mechanism=chosen,
                artefacts=ArtefactFolder(self._state_dir / "artefacts", entropy=os.urandom),
                resolver=resolve,
            )
        return lane

    async def carry(
        self, orders: list[Any], floor: str, mechanism: str | None = None, on_output: str = "", announce: bool = False
    ) -> Any:
        """Carry `orders` at once. `on_output`: `cancel` or `kill_spawner` when the first output arrives."""
        lane, events, output = self.lane(mechanism), [], asyncio.Event()

        def heard(event: Any) -> None:
            events.append([event.stream, len(event.data)])
            if announce and not output.is_set():
                say({"heard": event.data.decode()})
            output.set()

        tasks = [
            asyncio.ensure_future(
                lane.carry(msgspec.convert(one, ProcessOrder), floor=ConfinementClass(floor), on_event=heard)
            )
            for one in orders
        ]
        if on_output:  # or when none comes because a run ended without any: a wait for it would never end
            waiting = asyncio.ensure_future(output.wait())
            await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if on_output == "cancel":
            tasks[0].cancel()
        if on_output == "kill_spawner":
            os.kill(spawner_of(lane), signal.SIGKILL)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        return {
            "outcomes": [
                None if isinstance(one, asyncio.CancelledError) else msgspec.to_builtins(one) for one in ended
            ],
            "cancelled": [isinstance(one, asyncio.CancelledError) for one in ended],
            "classes": [
                None if isinstance(one, BaseException) else one.evidence.attestation.confinement.value for one in ended
            ],
            "events": events,
            "open_files": open_files(),
            "resident_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }

    async def steer(self, order: Any, floor: str, steps: list[Any], mechanism: str | None = None) -> Any:
        """Carry one order and take `steps` while it runs (see `Script`)."""
        script = Script(steps)
        outcome = await self.lane(mechanism).carry(
            msgspec.convert(order, ProcessOrder),
            floor=ConfinementClass(floor),
            on_event=script.hear,
            steering=script,
        )
        return {
            "outcome": msgspec.to_builtins(outcome),
            "heard": [[one.stream, one.data.decode(errors="replace")] for one in script.heard],
            "overran": script.overran,
            "steps_left": len(script.steps),
            "open_files": open_files(),
            "resident_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }

    async def crowd(self, order: Any, floor: str, count: int) -> Any:
        """Carry `count` orders at once, say a word of its own to each once all run, and count what came back."""
        scripts = [Script([["input", f"word {n}"], ["end"]], begins=asyncio.Event()) for n in range(count)]
        work = [
            asyncio.ensure_future(
                self.lane(None).carry(
                    msgspec.convert(order, ProcessOrder),
                    floor=ConfinementClass(floor),
                    on_event=script.hear,
                    steering=script,
                )
            )
            for script in scripts
        ]
        for script, task in zip(scripts, work, strict=True):
            listened = asyncio.ensure_future(script.listened.wait())
            await asyncio.wait([listened, task], return_when=asyncio.FIRST_COMPLETED)
            listened.cancel()
        running = sum(one.listened.is_set() and not task.done() for one, task in zip(scripts, work, strict=True))
        for script in scripts:
            script.begins.set()
        outcomes = await asyncio.gather(*work)
        whole = [one.value.get("stdout") == f"word {n}" and one.code == "ok" for n, one in enumerate(outcomes)]
        return {"running": running, "whole": sum(whole), "codes": sorted({one.code for one in outcomes})}

    async def python(self, orders: list[Any], floor: str = "namespaced") -> Any:
        """Carry `orders` for the python lane one after the other; what each came to, and its user."""
        if self._python is None:
            self._python = PythonLane(clock=RealClock(), entropy=os.urandom, spares_max=0)
        found = []
        for one in orders:
            order = msgspec.convert(one, PythonOrder)
            outcome = await self._python.carry(order, floor=ConfinementClass(floor), on_event=lambda _: None)
            found.append(msgspec.to_builtins(outcome))
        return found

    async def cancelled_after(self, order: Any, floor: str, delays_ms: list[int]) -> Any:
        """Carry an order again and again, each time given up after so long."""
        ends = []
        for delay_ms in delays_ms:
            work = asyncio.ensure_future(
                self.lane(None).carry(
                    msgspec.convert(order, ProcessOrder), floor=ConfinementClass(floor), on_event=lambda _event: None
                )
            )
            await asyncio.wait([work], timeout=delay_ms / 1000)
            work.cancel()
            await asyncio.wait([work])
            ends.append("cancelled" if work.cancelled() else work.result().code)
        return {"ends": ends}

    async def selftest(self, mechanism: str | None = None, fresh: bool = False) -> Any:
        report = await self.lane(mechanism).selftest(fresh=fresh)
        return {**msgspec.to_builtins(report), "held": report.held, "verdict": report.verdict}

    async def mechanisms(self) -> Any:
        return [
            {
                "name": one.mechanism,
                "works": one.works,
                "confinement": one.held[-1].value if one.held else None,
                "reason": one.reason,
            }
            for one in await self.lane(None).offers()
        ]

    async def forget(self) -> Any:
        """Close every lane, as a shutdown would, and say which processes are left."""
        for lane in self._lanes.values():
            await lane.close()
            await lane.close()
        self._lanes = {}
        if self._python is not None:
            await self._python.close()
        return {"children": children()}


class Script:
    """A steering that follows steps: `["input", text]`, `["end"]`, `["signal", name]`, `["resize", rows, columns]`;
    `["expect", text]` waits until the output so far has it; `["hold"]` takes nothing more and `["take"]` goes on.

    `["take_one"]` takes pieces one by one, with a breath between them.
    """

    def __init__(self, steps: list[Any], *, begins: asyncio.Event | None = None) -> None:
        self.steps = steps
        self.listened = asyncio.Event()
        self.begins = begins or asyncio.Event()
        if begins is None:
            self.begins.set()
        self.heard: list[StreamEvent] = []
        self.text = b""
        self.overran = 0
        self._awaited = b""
        self._act: Callable[[], object] = list
        self._taking, self._one_by_one = True, False
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._next()

    def when(self, text: bytes, act: Callable[[], object]) -> None:
        """Call `act` once the output has `text`."""
        self._awaited, self._act = text, act

    def hear(self, event: StreamEvent) -> None:
        self._hear(event)
        if self._awaited and self._awaited in self.text:
            self._awaited = b""
            self._act()

    def _hear(self, event: StreamEvent) -> None:
        self.overran += not self._room.is_set()
        if len(self.text) < 1_000_000:
            self.heard.append(event)
            self.text += event.data
        if self._one_by_one:
            self._room.clear()
            asyncio.get_running_loop().call_later(0.001, self._room.set)
        self._arrived.set()
        self._next()

    async def word(self) -> Word:
        self.listened.set()
        await self.begins.wait()
        while True:
            self._next()
            if self.steps and self.steps[0][0] in _WORDS:
                name, *values = self.steps.pop(0)
                word: Word = _WORDS[name](*values)
                return word
            self._arrived.clear()
            await self._arrived.wait()

    def has_room(self) -> bool:
        return self._room.is_set()

    async def room(self) -> None:
        await self._room.wait()

    def _next(self) -> None:
        while self.steps and self.steps[0][0] not in _WORDS:
            name, *values = self.steps[0]
            if name == "expect" and values[0].encode() not in self.text:
                return
            if name == "hold":
                self._room.clear()
            if name == "take":
                self._room.set()
            if name == "take_one":
                self._one_by_one = True
            self.steps.pop(0)


_WORDS: dict[str, Any] = {
    "input": lambda text: Input(data=text.encode()),
    "end": EndInput,
    "signal": lambda name: Signal(name=name),
    "resize": lambda rows, columns: Resize(rows=rows, columns=columns),
}


def spawner_of(lane: ProcessLane) -> int:
    mechanism: Any = lane.roster.running("namespaces")
    pid: int = mechanism.spawner_pid
    return pid


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(Driver(Path(sys.argv[1])).serve())
