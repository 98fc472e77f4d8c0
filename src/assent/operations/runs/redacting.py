"""What people and files say is freed of known secrets before it is written down or told to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from assent.operations.runs.surroundings import Around, Surroundings
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.context import Source
from assent.reasoning.messages import Message, Text

Redact = Callable[[str], str]


class Redacted:
    """Surroundings without secrets."""

    def __init__(self, surroundings: Surroundings, redact: Redact) -> None:
        self._surroundings = surroundings
        self._redact = redact

    async def around(self, agent: AgentDefinition) -> Around:
        """What there is for `agent`. Never raises."""
        found = await self._surroundings.around(agent)
        return replace(found, sections=redacted_sections(found.sections, self._redact))


def redacted_sections(sections: Iterable[Source], redact: Redact) -> tuple[Source, ...]:
    """Sections without secrets."""
    return tuple(replace(one, text=redact(one.text)) for one in sections)


def redacted_words(said: str | Message, redact: Redact) -> Message:
    """What a person says, as a message without secrets."""
    if isinstance(said, str):
        return Message(role="user", parts=(Text(text=redact(said)),))
    parts = tuple(replace(one, text=redact(one.text)) if isinstance(one, Text) else one for one in said.parts)
    return replace(said, parts=parts)
