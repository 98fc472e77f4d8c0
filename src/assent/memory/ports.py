"""What the layers above need of memory: to recall. Nothing else is needed, and so nothing else can be asked."""

from __future__ import annotations

from typing import Protocol

from assent.memory.fragments import Question, Recalled


class Memory(Protocol):
    """Something that recalls. Its conformance suite is `assent.testing.conformance.memory`."""

    async def recall(self, question: Question) -> tuple[Recalled, ...]:
        """What fits best of what may be told, the best first. It changes nothing, and may be asked from any thread.

        Raises:
            Unavailable: what is remembered cannot be read now.
        """
        ...
