"""Calls, effects and values in words that several commands share."""

from __future__ import annotations

import base64
import binascii
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from assent.ledger.effects import EffectState
from assent.surfaces.cli.escapes import cut, shown
from assent.surfaces.cli.paper import Paper, Part, Span, Tone

VALUE_COLUMNS = 48
SHORT_ID = 8
# Fields of results that hold what was asked for; everything else is told beside it.
OUTPUTS = ("text", "body", "stdout", "stderr")

_TONES: dict[EffectState, Tone] = {
    EffectState.SUCCEEDED: Tone.GOOD,
    EffectState.REFUSED: Tone.BAD,
    EffectState.FAILED: Tone.BAD,
    EffectState.EXPIRED: Tone.BAD,
    EffectState.REVOKED: Tone.BAD,
    EffectState.CANCELLED: Tone.BAD,
    EffectState.IN_REVIEW: Tone.WAIT,
    EffectState.GRANTED: Tone.WAIT,
    EffectState.REQUESTED: Tone.LOST,
    EffectState.DISPATCHED: Tone.LOST,
    EffectState.UNKNOWN: Tone.LOST,
    EffectState.QUARANTINED: Tone.LOST,
}


def tone_of(state: str) -> Tone:
    """The colour of a state."""
    return _TONES[EffectState(state)]


def state_span(state: str) -> Span:
    """A state in its colour."""
    return Span(state.replace("_", " "), tone_of(state))


def short(id_: str) -> str:
    """The end of an id: enough to name it, since commands take any unambiguous part."""
    return id_[-SHORT_ID:]


def who(principal: str, on_behalf_of: tuple[str, ...] | list[str]) -> str:
    """A principal and for whom it acts."""
    return " for ".join([principal, *on_behalf_of])


def call_line(operation: str, arguments: Mapping[str, Any], *, columns: int = VALUE_COLUMNS) -> str:
    """A call in one line; long values are cut."""
    argv = arguments.get("argv")
    if isinstance(argv, list) and all(isinstance(word, str) for word in argv):
        rest = {name: value for name, value in arguments.items() if name != "argv"}
        return " ".join([operation, cut(shlex.join(argv), 2 * columns), *_written(rest, columns)])
    return " ".join([operation, *_written(arguments, columns)])


def _written(arguments: Mapping[str, Any], columns: int) -> Iterator[str]:
    for name, value in arguments.items():
        if value in ("", {}, [], False, None):
            continue
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        text = text if text and not any(c.isspace() for c in text) else f'"{text}"'
        yield f"{name}={cut(shown(text), columns)}"


def tell_call(paper: Paper, operation: str, arguments: Mapping[str, Any], *, indent: int = 2) -> None:
    """The exact call, whole: what somebody is asked to approve must not be cut."""
    paper.line(operation, indent=indent)
    texts = {name: _field(value) for name, value in arguments.items()}
    paper.pairs([(name, text or '""') for name, text in texts.items() if "\n" not in text], indent=indent + 2)
    for name, text in texts.items():
        if "\n" in text:
            paper.line(name, Span(f"  ({len(text.encode())} bytes)", Tone.QUIET), indent=indent + 2)
            paper.block(text, indent=indent + 4, lines_max=len(text))


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of output in a result: its bytes, and its text when it is text."""

    name: str
    data: bytes
    text: str | None


def outputs(value: Mapping[str, Any]) -> list[Output]:
    """What a result holds of what was asked for. A piece is a text, or `{"base64": …}` where it is not text; a file's
    own content stands at the top as `text` or `base64`."""
    found = [_output(name, _head_of(value[name])) for name in OUTPUTS if value.get(name)]
    if "base64" in value:
        found.append(_output("content", {"base64": value["base64"]}))
    return [output for output in found if output is not None]


def tell_outputs(paper: Paper, value: Mapping[str, Any], *, indent: int = 2) -> None:
    """The outputs of a result as blocks, and its lists of entries as tables."""
    for output in outputs(value):
        if output.text is None:
            told = f"{output.name}: {len(output.data)} bytes that are not text; --raw writes them"
            paper.line(Span(told, Tone.QUIET), indent=indent)
        else:
            paper.block(output.text, indent=indent)
    for name in OUTPUTS:
        if rest := _rest_of(value.get(name)):
            paper.line(Span(f"{name}: {rest}", Tone.QUIET), indent=indent)
    for name, rows in value.items():
        if _is_table(rows):
            paper.line(Span(f"{name} ({len(rows)})", Tone.QUIET), indent=indent)
            paper.table([[_field(cell) for cell in row.values()] for row in rows], indent=indent + 2)


def value_rows(value: Mapping[str, Any]) -> list[tuple[str, Part | list[Part]]]:
    """The small fields of a result."""
    return [
        (name, Span(_field(found), Tone.QUIET))
        for name, found in value.items()
        if name not in (*OUTPUTS, "base64") and found not in (None, "", [], {}, False) and not _is_table(found)
    ]


def _head_of(value: object) -> object:
    """What stands in a result of an output that is too large for it: its beginning."""
    return value["head"] if isinstance(value, dict) and "head" in value else value


def _rest_of(value: object) -> str:
    """Where all of such an output is; empty for one that is there whole."""
    if not isinstance(value, dict) or "head" not in value:
        return ""
    kept = f"in {value['artefact']}" if "artefact" in value else f"not kept: {value.get('unkept', '')}"
    return f"this is the beginning of {value.get('bytes')} bytes, which are {kept}"


def _output(name: str, value: object) -> Output | None:
    if isinstance(value, str):
        return Output(name=name, data=value.encode(), text=value)
    packed = value.get("base64") if isinstance(value, dict) else None
    try:
        data = base64.b64decode(packed, validate=True) if isinstance(packed, str) else None
    except binascii.Error:
        data = None
    return Output(name=name, data=data, text=None) if data is not None else None


def _is_table(value: object) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) and row for row in value):
        return False
    return len({tuple(row) for row in value}) == 1


def _field(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
