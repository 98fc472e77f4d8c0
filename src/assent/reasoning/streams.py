"""Answers as they come: bytes, objects, and in the end one whole answer. Pure and bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from assent.primitives.errors import Malformed
from assent.reasoning.faults import Said, kind_within, one_line, said_of
from assent.reasoning.lines import EventCutter, LineCutter
from assent.reasoning.messages import Completion, Delta
from assent.reasoning.ports import BrokenAnswer
from assent.reasoning.reading import Misread, read_json, read_object

ANSWER_BYTES_MAX = 16 * 1_048_576
"""How large an answer may be; what is held of it is never more."""

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
WHOLE = "application/json"
_LINES = (LINES, "application/jsonl", "application/ndjson")
_DONE = b"[DONE]"


class AnswerError(Exception):
    """The answer itself says that it is none; `value` is what it says, in the provider's shape."""

    def __init__(self, value: object) -> None:
        super().__init__("the answer is an error")
        self.said: Said = said_of(value)


class Reader(Protocol):
    """What one wire format makes of the objects of an answer. `done`: it has said that it is whole."""

    done: bool

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:
        """Take one object of a stream. Raises AnswerError, or whatever reading something unexpected raises."""
        ...

    def whole(self, value: dict[str, Any]) -> None:
        """Take an answer that came in one piece."""
        ...

    def completion(self) -> Completion:
        """All that was taken, once it is done."""
        ...


class AnswerDecoder:
    """Reads one answer (`reasoning.ports.Decoder`): its content type says how it is cut, `reader` what it means.

    `marked`: an event `[DONE]` says that the answer is whole. Formats without it may send it; it says nothing there.
    """

    def __init__(self, reader: Reader, *, content_type: str, marked: bool = False) -> None:
        self._reader = reader
        self._marked = marked
        self._kind = content_type.partition(";")[0].strip().lower() or WHOLE
        self._events = EventCutter() if self._kind == EVENTS else None
        self._lines = LineCutter() if self._kind in _LINES else None
        self._whole = bytearray()
        self._size = 0
        self._fault: Malformed | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """Take some bytes of the body; what can be shown already."""
        self._size += len(data)
        if self._size > ANSWER_BYTES_MAX and self._fault is None:
            self._fault = _unread(f"it is larger than {ANSWER_BYTES_MAX} bytes")
            self._whole.clear()
        if self._fault is not None:
            return []
        if self._events is not None:
            return [delta for name, event in self._events.feed(data) for delta in self._taken(name, event)]
        if self._lines is not None:
            return [delta for line in self._lines.feed(data) for delta in self._taken("", line)]
        self._whole += data
        return []

    def close(self) -> Completion:
        """The whole answer. Raises BrokenAnswer; see `reasoning.ports.Decoder`."""
        if self._fault is None:
            self._end()
        if self._fault is not None:
            raise self._fault
        if not self._reader.done:
            raise BrokenAnswer("answer_cut", "the answer ended before it said that it was whole")
        try:
            return self._reader.completion()
        except Exception as error:
            raise _fault_of(error) from error

    def _end(self) -> None:
        """What is known only now that nothing more comes."""
        if self._lines is not None:
            self._taken("", self._lines.end())
        elif self._events is None:
            self._take(self._whole_answer)
        elif not self._reader.done:
            self._stray(self._events.end())

    def _taken(self, name: str, text: bytes) -> list[Delta]:
        text = text.strip()
        if self._fault is not None or not text:
            return []
        if text == _DONE:
            self._reader.done = self._reader.done or self._marked
            return []
        return self._take(lambda: self._reader.event(name, read_object(text)))

    def _whole_answer(self) -> list[Delta]:
        try:
            value = read_json(bytes(self._whole))
        except Misread as misread:
            raise Misread(misread if self._kind == WHOLE else f"{misread}; it came as `{self._kind[:80]}`") from misread
        if isinstance(value, list) and value and isinstance(value[0], dict) and "error" in value[0]:
            raise AnswerError(value)
        if not isinstance(value, dict):
            raise Misread("it is not a JSON object")
        self._reader.whole(value)
        return []

    def _stray(self, text: bytes) -> None:
        """A stream that ended too early may hold the reason, as plain JSON between its events."""
        try:
            value = read_json(text)
        except Misread:
            return
        said = said_of(value)
        if said.words:
            self._fault = _fault_of(AnswerError(value))

    def _take(self, taking: Callable[[], list[Delta]]) -> list[Delta]:
        try:
            return taking()
        except Exception as error:  # noqa: BLE001 (a stranger's answer may hold anything)
            self._fault = _fault_of(error)
            return []


def _fault_of(error: Exception) -> Malformed:
    if isinstance(error, AnswerError):
        said = one_line(error.said.words or error.said.code)
        told = f"the answer broke off: {said}" if said else "the answer broke off"
        return BrokenAnswer("answer_error", told, kind=kind_within(error.said))
    return _unread(str(error) if isinstance(error, Misread) else f"its parts do not fit ({type(error).__name__})")


def _unread(why: str) -> Malformed:
    return BrokenAnswer("answer_malformed", f"the answer is not what its format says: {why}")
