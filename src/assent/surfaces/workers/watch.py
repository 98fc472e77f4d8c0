"""A worker that is watched: started, listened to, and started again when it dies or stands still.

The worker is a process of its own, because what keeps an event loop from going on also keeps every guard inside that
process from going on. It beats; when it is silent for too long it is asked where it stands (its stacks go to stderr),
killed, and followed by another, which goes on from the record.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress

from assent.surfaces.workers.news import Beat, News, news_of
from assent.surfaces.workers.strikes import Strikes

START_S = 120.0
"""How long opening the database may take, with whatever a dead node left to be settled."""
SILENCE_S = 10.0
"""Shorter than a node's lease, so that a worker that stands still is gone before others take over what it had."""
STACKS_S = 1.0
STOP_S = 30.0
BACKOFF_S = (0.5, 60.0)
WELL_S = 60.0
LINE_BYTES_MAX = 64 * 1_048_576


class Watch:
    """Keeps one worker going. `command` starts it; `tell` hears its news, `note` what happens to it."""

    def __init__(self, command: Sequence[str], *, tell: Callable[[News], None], note: Callable[[str], None]) -> None:
        self._command = command
        self._tell = tell
        self._note = note
        self._strikes = Strikes()
        self._has_beaten = False

    async def serve(self) -> int:
        """Keep it going until this is cancelled, and stop it then. Returns only the exit code of a worker that never
        came to work, for the same would happen to the next."""
        backoff_s, loop = BACKOFF_S[0], asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            code = await self._one()
            if not self._has_beaten:
                return code
            backoff_s = BACKOFF_S[0] if loop.time() - began_s > WELL_S else min(backoff_s * 2, BACKOFF_S[1])
            self._note(f"the worker ended ({_told(code)}); another one starts in {backoff_s:g} s")
            await asyncio.sleep(backoff_s)

    async def _one(self) -> int:
        """The life of one worker; its exit code."""
        flags = [f"--suspect={run}" for run in self._strikes.suspects] + [
            f"--stuck={run}" for run in self._strikes.stuck
        ]
        worker = await asyncio.create_subprocess_exec(
            *self._command, *flags, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES_MAX, start_new_session=True
        )
        try:
            await self._listen(worker)
            code = await worker.wait()
        finally:
            await _stop(worker)
        self._strikes.fell()
        return code

    async def _listen(self, worker: Process) -> None:
        """Hear what it says until it has nothing more to say, or nothing at all."""
        assert worker.stdout is not None, "it was asked for"
        patience_s = START_S
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    line = await worker.stdout.readline()
            except TimeoutError:
                self._note(f"the worker has been silent for {patience_s:g} s and is ended; where it stands:")
                await _kill(worker)
                return
            except ValueError:
                continue  # a line that is too long is news that nobody could read
            if not line:
                return
            news = news_of(line)
            if isinstance(news, Beat):
                self._has_beaten, patience_s = True, SILENCE_S
                self._strikes.beat(news.runs)
            elif news is not None:
                self._tell(news)


async def _kill(worker: Process) -> None:
    """Have it say where it stands, and end it."""
    with suppress(ProcessLookupError):
        worker.send_signal(signal.SIGUSR1)
        with suppress(TimeoutError):
            async with asyncio.timeout(STACKS_S):
                await worker.wait()
        worker.kill()


async def _stop(worker: Process) -> None:
    """Let it settle what is under way, and be sure that it is gone."""
    if worker.returncode is not None:
        return
    with suppress(ProcessLookupError):
        worker.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await worker.communicate()
        except TimeoutError:
            worker.kill()
    await worker.wait()


def _told(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"
