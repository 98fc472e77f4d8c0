"""Memory in the process: for tests, and for programs that fill it themselves."""

from __future__ import annotations

from assent.memory.fragments import Fragment, Question, Recalled, recalled


class InProcessMemory:
    """Keeps fragments in a list. `keep` and `revoke` are for whoever governs it; a model reaches neither."""

    def __init__(self) -> None:
        self._fragments: tuple[Fragment, ...] = ()

    async def recall(self, question: Question) -> tuple[Recalled, ...]:
        return recalled(self._fragments, question)

    def keep(self, *fragments: Fragment) -> None:
        """Remember these."""
        self._fragments = (*self._fragments, *fragments)

    def revoke(self, source: str) -> None:
        """Forget what comes from `source`, at once and for good."""
        self._fragments = tuple(one for one in self._fragments if one.source != source)
