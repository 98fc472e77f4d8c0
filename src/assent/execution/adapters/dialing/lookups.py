"""Asking for the addresses of a name: in bounded threads, and once for the length of a run."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence

from assent.primitives.errors import Refused

Resolver = Callable[[str], Sequence[str]]
Answers = asyncio.Future[tuple[str, ...]]

_LOOKUPS_MAX = 64
_NAMES_MAX = 1024


def system_resolver(name: str) -> Sequence[str]:
    """Ask the system's resolver. Raises OSError when the name does not resolve."""
    return [str(answer[4][0]) for answer in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


class Lookups:
    """Runs a blocking resolver in daemon threads: a hanging name server holds neither the loop nor a shared pool."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._waiting = 0

    def ask(self, name: str) -> Answers:
        """Start a look-up; the answers without repetitions, at least one; else OSError or ValueError."""
        loop = asyncio.get_running_loop()
        answers: Answers = loop.create_future()
        if self._waiting >= _LOOKUPS_MAX:
            answers.set_exception(OSError("too many look-ups are waiting for a name server"))
            return answers
        self._waiting += 1

        def settle(found: Sequence[str], error: Exception | None) -> None:
            self._waiting -= 1
            if answers.done():
                return
            if error is None:
                answers.set_result(tuple(dict.fromkeys(found)))
            else:
                answers.set_exception(error)

        def run() -> None:
            found: Sequence[str] = ()
            failure: Exception | None = None
            try:
                found = self._resolver(name)
                failure = None if found else OSError("the name has no address")
            except (OSError, ValueError) as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever asked
                loop.call_soon_threadsafe(settle, found, failure)

        threading.Thread(target=run, name="assent-lookup", daemon=True).start()
        return answers


class Pins:
    """The answers of one order or run: the first one for a name holds to the end, also for who asks at the same time.

    A look-up that failed is not kept: the next one asks again.
    """

    def __init__(self) -> None:
        self._answers: dict[str, Answers] = {}

    async def answers(self, name: str, ask: Callable[[str], Answers]) -> tuple[str, ...]:
        """The pinned answers for `name`, asked for with `ask` when there are none yet.

        Raises:
            Refused: the run has asked for more names than one may (`host_refused`).
            OSError, ValueError: the name does not resolve.
        """
        pinned = self._answers.get(name)
        if pinned is None:
            if len(self._answers) >= _NAMES_MAX:
                raise Refused("host_refused", f"more than {_NAMES_MAX} names were asked for in one run")
            pinned = self._answers[name] = ask(name)
            pinned.add_done_callback(lambda done: self._forget_failure(name, done))
        return await asyncio.shield(pinned)  # who gives up waiting must not take the answer from the others

    def _forget_failure(self, name: str, done: Answers) -> None:
        if done.cancelled() or done.exception() is not None:
            self._answers.pop(name, None)
