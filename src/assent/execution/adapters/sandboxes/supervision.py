"""From GO to the proof of death: streams, the wall limit, the output cap, and the end of everybody inside.

The end of a run is the end of its process namespace, seen on the pidfd of its process 1, and never the end of a pipe:
a background child that holds stdout open delays nothing. The kernel finishes process 1 only after all others of its
namespace are gone, so "pidfd readable" is proof that nothing is left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

import msgspec

from assent.execution import steering as steering_words
from assent.execution.adapters.sandboxes.gate import Word, settle
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.adapters.sandboxes.taps import Allowance, Outlet
from assent.execution.orders import Limits
from assent.execution.ports import OnEvent, Steering
from assent.primitives.clock import Clock
from assent.primitives.errors import InvariantBroken

ASK_GRACE_S = 2.0
DEATH_WAIT_S = 10.0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the run ended, as far as the supervisor knows.

    `limit` is the limit that made the supervisor end it. `report` is the warden's last word or None; `unstartable`
    the error number of an execve that failed, or 0. `death_ms` runs from the supervisor's kill to the proof (0 when
    it ended by itself); `dead` is false only when no proof came in time.
    """

    limit: str
    report: str | None
    unstartable: int
    dead: bool
    death_ms: int


class Supervision:
    """Drives one launched sandbox to its end.

    `words_ignored` counts the words of the steering that did not fit the order: input where none is taken, a size where
    there is no terminal.
    """

    def __init__(self, *, launch: Launch, streams: Streams, limits: Limits, clock: Clock) -> None:
        self._launch, self._streams, self._limits, self._clock = launch, streams, limits, clock
        self._limit = ""
        self._killed_ns = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._over, self._proved = False, True
        self._fault: BaseException | None = None
        self.words_ignored = self.withheld_bytes = 0

    async def run(self, on_event: OnEvent, *, wall_left_ms: int, steering: Steering | None = None) -> Ended:
        """Say GO, carry the streams up and wait for the end.

        Raises:
            InvariantBroken: the steering raised.
        """
        self._dead = dead = _watch(self._launch)
        outlet = Outlet(on_event, steering)
        allowance = Allowance(bytes_max=self._limits.output_bytes_max, exceeded=lambda: self._kill("output"))
        for tap in self._streams.taps:
            tap.attach(allowance, outlet, overrun=lambda: self._kill("line"))
        self._later(wall_left_ms / 1000, self._stop_politely)
        last_call = asyncio.get_running_loop().call_later(wall_left_ms / 1000, outlet.shut)
        self._launch.go()
        listening = self._listen(steering)
        try:
            await dead
            self._over = True
            death_ms = self._since_kill_ms()
            self._forget(dead)
            for tap in self._streams.taps:
                await tap.drain()
        finally:
            self._forget(dead)
            last_call.cancel()
            outlet.shut()
            if listening is not None:
                listening.cancel()
        self.withheld_bytes = outlet.withheld_bytes
        if self._fault is not None:
            raise InvariantBroken("steering_broken", f"the steering raised: {self._fault!r}") from self._fault
        return self._ended(death_ms)

    async def destroy(self, *, grace_ms: int = 0) -> bool:
        """End everybody inside, whatever state the run is in: with a grace politely first. Whether the proof came.

        A cancellation meanwhile cuts the grace short, and nothing else.
        """
        if grace_ms:
            self._launch.terminate()
            with contextlib.suppress(asyncio.CancelledError):
                await _died(self._launch, within_s=grace_ms / 1000)
        return await kill_and_prove(self._launch)

    def _ended(self, death_ms: int) -> Ended:
        words = _rest(self._launch)
        return Ended(
            limit=self._limit,
            report=next((word.text for word in words if word.letter == "E"), None),
            unstartable=next((int(word.text) for word in words if word.letter == "X"), 0),
            dead=self._proved,
            death_ms=death_ms,
        )

    def _listen(self, steering: Steering | None) -> asyncio.Future[None] | None:
        feed = self._streams.feed
        if feed is not None:
            feed.start()
        if steering is None:
            return None
        listening = asyncio.ensure_future(self._obey(steering))
        listening.add_done_callback(self._heard)
        return listening

    async def _obey(self, steering: Steering) -> None:
        """Obey the words in their order; the next is taken when there is room for what it may bring."""
        while True:
            word = await steering.word()
            if not await self._obeyed(word):
                self.words_ignored += 1
            await asyncio.sleep(0)  # an asker with a word always at hand must not keep the loop to itself

    async def _obeyed(self, word: steering_words.Word) -> bool:
        feed, terminal = self._streams.feed, self._streams.terminal
        match word:
            case steering_words.Input() if feed is not None:
                feed.write(word.data)
                await feed.room()
            case steering_words.EndInput() if feed is not None:
                feed.end()
            case steering_words.Signal():
                if terminal is None or not terminal.signal(word.name):
                    self._launch.signal(word.name)
            case steering_words.Resize() if terminal is not None:
                terminal.resize(word.rows, word.columns)
            case _:
                return False
        return True

    def _heard(self, listening: asyncio.Future[None]) -> None:
        if not listening.cancelled() and listening.exception() is not None:
            self._fault = listening.exception()
            self._kill("")

    def _forget(self, dead: asyncio.Future[None]) -> None:
        _unwatch(self._launch, dead)
        for timer in self._timers:
            timer.cancel()

    def _stop_politely(self) -> None:
        self._limit = self._limit or "wall"
        self._launch.terminate()
        self._later(self._limits.grace_ms / 1000, lambda: self._kill("wall"))

    def _kill(self, limit: str) -> None:
        self._limit = self._limit or limit
        if self._over:
            return  # what the drain of a dead run found
        if self._killed_ns == 0:
            self._killed_ns = self._clock.monotonic_ns()
            self._later(DEATH_WAIT_S, self._give_up)
        self._launch.kill()
        self._later(ASK_GRACE_S, lambda: self._launch.kill(surely=True))

    def _give_up(self) -> None:
        self._proved = False
        settle(self._dead)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, action))

    def _since_kill_ms(self) -> int:
        return (self._clock.monotonic_ns() - self._killed_ns) // 1_000_000 if self._killed_ns else 0


async def kill_and_prove(launch: Launch) -> bool:
    """End everybody inside a sandbox and wait for the proof; whether it came within `DEATH_WAIT_S`."""
    dead = _watch(launch)
    launch.kill()
    surely = asyncio.get_running_loop().call_later(ASK_GRACE_S, lambda: launch.kill(surely=True))
    try:
        async with asyncio.timeout(DEATH_WAIT_S):
            await dead
    except TimeoutError:
        return False
    finally:
        surely.cancel()
        _unwatch(launch, dead)
    return True


async def _died(launch: Launch, *, within_s: float) -> None:
    """Wait until a sandbox is dead, or the time is over."""
    dead = _watch(launch)
    try:
        await asyncio.wait([dead], timeout=within_s)
    finally:
        _unwatch(launch, dead)


def _watch(launch: Launch) -> asyncio.Future[None]:
    """Done when the sandbox's process 1 is dead."""
    loop = asyncio.get_running_loop()
    dead: asyncio.Future[None] = loop.create_future()
    loop.add_reader(launch.init_pidfd, partial(settle, dead))
    return dead


def _unwatch(launch: Launch, dead: asyncio.Future[None]) -> None:
    asyncio.get_running_loop().remove_reader(launch.init_pidfd)
    dead.cancel()


def _rest(launch: Launch) -> list[Word]:
    """Everything still waiting at the gate."""
    words = []
    while (word := launch.gate.word_now()) is not None and word.letter:
        words.append(word)
    return words
