"""Questions to the person at the terminal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from assent.surfaces.cli.paper import Paper, Span, Tone

ANSWER_BYTES_MAX = 4_096


class Person(Protocol):
    """Who is asked."""

    @property
    def reason(self) -> str:
        """How the answer came about; it is recorded with it."""
        ...

    async def ask(self, question: str) -> bool:
        """Whether they say yes."""
        ...


class Terminal:
    """Asks on the terminal behind a descriptor.

    The event loop watches it while the person thinks: the node's lease goes on being renewed, and Ctrl-C is noticed at
    once. A thread that reads would neither end with the program nor let it end.
    """

    reason = "answered at the terminal"

    def __init__(self, descriptor: int, *, say: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._say = say

    async def ask(self, question: str) -> bool:
        """Whether the person says yes: `y` or `yes`. Anything else, an end of input too, is a no."""
        self._say(f"   {question} [y/N] ")
        answer = await self._line()
        if not answer:
            self._say("\n")
        return answer.strip().lower() in (b"y", b"yes")

    async def _line(self) -> bytes:
        """What was typed; a terminal hands it over when the line is ended."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, ANSWER_BYTES_MAX)


class Nobody:
    """Says yes in the person's place: they asked not to be asked, or there is nobody to ask."""

    reason = "not asked: --yes, or no terminal"

    def __init__(self, *, paper: Paper) -> None:
        self._paper = paper

    async def ask(self, question: str) -> bool:
        """Yes, and say that nobody was asked."""
        self._paper.line(f"{question} ", Span("yes", Tone.STRONG), f" ({self.reason})", indent=3)
        return True
