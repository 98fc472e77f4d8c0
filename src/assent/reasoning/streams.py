"""Answers as they come: bytes cut into events or lines, whatever pieces they arrive in. Pure and bounded."""

from __future__ import annotations

from typing import Protocol

import msgspec

from assent.primitives.errors import Malformed
from assent.reasoning.messages import Completion, Delta

ANSWER_BYTES_MAX = 16 * 1_048_576
EVENT_BYTES_MAX = 8 * 1_048_576
MESSAGE_CHARACTERS_MAX = 300

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
WHOLE = "application/json"


class AnswerError(Exception):
    """The answer itself says that it is none."""


class Reader(Protocol):
    """What one wire format makes of the objects of an answer. `done`: it has said that it is whole."""

    done: bool

    def event(self, name: str, value: dict[str, object]) -> list[Delta]:
        """Take one object of a stream. Raises AnswerError, or whatever reading something unexpected raises."""
        ...

    def whole(self, value: dict[str, object]) -> None:
        """Take an answer that came in one piece."""
        ...

    def completion(self) -> Completion:
        """All that was taken, once it is done."""
        ...


class AnswerDecoder:
    """Reads one answer (`reasoning.ports.Decoder`): its content type says how it is cut, `reader` what it means."""

    def __init__(self, reader: Reader, *, content_type: str) -> None:
        self._reader = reader
        kind = content_type.partition(";")[0].strip().lower()
        self._kind = kind or WHOLE
        self._cutter = (
            EventCutter() if kind == EVENTS else LineCutter() if kind in (LINES, "application/jsonl") else None
        )
        self._whole = bytearray()
        self._size = 0
        self._fault: tuple[str, str] | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """Take some bytes of the body; what can be shown already."""
        self._size += len(data)
        if self._size > ANSWER_BYTES_MAX:
            self._fault = self._fault or ("answer_malformed", f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
        if self._fault:
            return []
        if self._cutter is None:
            self._whole += data
            return []
        found: list[Delta] = []
        for name, text in self._cutter.feed(data):
            found += self._taken(name, text)
        return found

    def close(self) -> Completion:
        """The whole answer. Raises Malformed; see `reasoning.ports.Decoder`."""
        if self._cutter is None and self._fault is None:
            self._take_whole()
        if self._cutter is not None:
            for name, text in self._cutter.end():
                self._taken(name, text)
        if self._fault is not None:
            code, message = self._fault
            raise Malformed(code, message)
        if not self._reader.done:
            raise Malformed("answer_cut", "the answer ended before it said that it was whole")
        return self._reader.completion()

    def _taken(self, name: str, text: bytes) -> list[Delta]:
        if self._fault or not text.strip():
            return []
        if text.strip() == b"[DONE]":
            self._reader.done = True
            return []
        try:
            return self._reader.event(name, read_object(text))
        except Exception as error:  # noqa: BLE001 (a stranger's answer may hold anything)
            self._fault = _fault_of(error)
            return []

    def _take_whole(self) -> None:
        try:
            self._reader.whole(read_object(bytes(self._whole)))
        except Exception as error:  # noqa: BLE001 (as above)
            code, message = _fault_of(error)
            told = message if self._kind == WHOLE else f"{message} (it came as `{self._kind[:80]}`)"
            self._fault = code, told


class EventCutter:
    """Server-sent events (WHATWG HTML, section 9.2), of which only the name and the data are wanted."""

    def __init__(self) -> None:
        self._lines = LineCutter()
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that are whole by now."""
        return [event for _, line in self._lines.feed(data) for event in self._line(line)]

    def end(self) -> list[tuple[str, bytes]]:
        """Nothing: an event that was not ended by an empty line was cut."""
        return []

    def _line(self, line: bytes) -> list[tuple[str, bytes]]:
        if not line:
            event = (self._name, b"\n".join(self._data))
            whole = bool(self._data)
            self._name, self._data, self._size = "", [], 0
            return [event] if whole else []
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode(errors="replace")[:80]
        elif field == b"data":
            self._size += len(value)
            if self._size <= EVENT_BYTES_MAX:
                self._data.append(value)
        return []


class LineCutter:
    """Lines that end in LF, CRLF or CR. One that is too long is cut there, and so is no JSON any more."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The lines that are whole by now."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        if data:
            self._after_cr = data.endswith(b"\r")
        *whole, rest = (bytes(self._rest) + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(rest[:EVENT_BYTES_MAX])
        return [("", line[:EVENT_BYTES_MAX]) for line in whole]

    def end(self) -> list[tuple[str, bytes]]:
        """The last line, if it has no end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [("", rest)] if rest.strip() else []


def read_object(data: bytes) -> dict[str, object]:
    """A JSON object from a stranger.

    Raises:
        ValueError: it is something else.
    """
    value = msgspec.json.decode(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 (one kind of error for what is no object)
    return value


def _fault_of(error: Exception) -> tuple[str, str]:
    if isinstance(error, AnswerError):
        return "answer_error", f"the answer broke off: {one_line(str(error))}"
    return "answer_malformed", f"the answer is not what its format says ({type(error).__name__})"


def one_line(text: str) -> str:
    """Foreign words in one line with an end."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MESSAGE_CHARACTERS_MAX]
