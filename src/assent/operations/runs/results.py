"""Results as words: what a program, a file, a page or a function gave, as a model reads it best. Pure.

Where nothing better is known a result is its JSON. What is told here is what a run goes on with, so it holds nothing
that a record does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from assent.reasoning.pages import is_html, readable

PAGE_SCANNED_CHARACTERS_MAX = 1_048_576

Told = Callable[[Mapping[str, Any], dict[str, Any]], str]


def shown(operation: str, arguments: Mapping[str, Any], value: dict[str, Any]) -> str:
    """The value that an operation gave for these arguments, in words; as JSON where it has not the shape of one."""
    try:
        return _teller(operation, value)(arguments, value)
    except (KeyError, TypeError, ValueError, AttributeError):
        return as_json(value)


def _teller(operation: str, value: dict[str, Any]) -> Told:
    if operation in _TELLERS:
        return _TELLERS[operation]
    if isinstance(value.get("stdout"), str):
        return _program
    return _exchange if "body" in value and "status" in value else _result


def _result(_: Mapping[str, Any], value: dict[str, Any]) -> str:
    result = value["result"] if value.keys() == {"result"} else value
    return result if isinstance(result, str) else as_json(result)


def as_json(value: object) -> str:
    """The value as JSON, the same each time."""
    return msgspec.json.encode(value, order="sorted").decode()


def _read(_: Mapping[str, Any], value: dict[str, Any]) -> str:
    if "text" not in value:
        return f"[{value['bytes']} bytes that are no text]" if "base64" in value else as_json(value)
    text = str(value["text"])
    if "first_line" not in value:
        return text or "[an empty file]"
    first, lines = value["first_line"], value["lines"]
    if not lines:
        return f"[no line {first}: the file ends before it]"
    more = f"; it goes on: read with offset {first + lines}" if value.get("more") else ", to the end"
    return f"{text}\n[lines {first} to {first + lines - 1}{more}]"


def _listed(_: Mapping[str, Any], value: dict[str, Any]) -> str:
    if not isinstance(value.get("entries"), list):
        return as_json(value)
    names = [_entry(one) for one in value["entries"]] or ["[an empty folder]"]
    return "\n".join(names if value.get("complete") else [*names, "[there is more than is listed]"])


def _entry(entry: dict[str, Any]) -> str:
    name, kind = entry.get("name", ""), entry.get("kind", "")
    if kind == "folder":
        return f"{name}/"
    return f"{name}  {entry.get('size', 0)} bytes" if kind == "file" else f"{name}  [{kind}]"


def _wrote(arguments: Mapping[str, Any], value: dict[str, Any]) -> str:
    how = "replaced" if value.get("replaced") else "wrote"
    return f"{how} `{arguments.get('path', '')}`: {value.get('bytes', 0)} bytes"


def _edited(arguments: Mapping[str, Any], value: dict[str, Any]) -> str:
    if "replaced" not in value:
        return _near(value)
    lines = ", ".join(str(line) for line in value.get("lines", ()))
    return f"edited `{arguments.get('path', '')}`: replaced {value['replaced']} (line {lines})"


def _near(value: dict[str, Any]) -> str:
    """Of an edit that did not fit: what stands there, and what was looked for."""
    if "there" not in value:
        return ""
    return f"there:  {as_json(value['there'])}\nwanted: {as_json(value.get('wanted', ''))}"


def _found(_: Mapping[str, Any], value: dict[str, Any]) -> str:
    """As grep tells it: the path, then its lines; `:` behind the number of one that matches, `-` of one around it."""
    parts = []
    for one in value["found"]:
        lines = [f"{line['line']}{':' if line['match'] else '-'} {line['text']}" for line in one["lines"]]
        parts.append("\n".join([one["path"], *lines]))
    more = [] if value["complete"] else ["[there is more: narrow the path, the glob or the pattern]"]
    return "\n\n".join([*parts, *more]) or "[nothing was found]"


def _hits(arguments: Mapping[str, Any], value: dict[str, Any]) -> str:
    wanted = value["results"][: arguments.get("results", 10)]
    told = [
        "\n".join(
            part
            for part in (f"{number}. {one.get('title', '')}", one["url"], one.get("date", ""), one.get("words", ""))
            if part
        )
        for number, one in enumerate(wanted, 1)
    ]
    return "\n\n".join(told) or "[nothing was found]"


def _remembered(_: Mapping[str, Any], value: dict[str, Any]) -> str:
    """Each piece with where it stands, on whose word, and since when; what may be out of date is said to be."""
    told = [
        f"{one['source']} ({one['integrity']}, {_day(one['recorded_at_ms'])}"
        f"{', may be out of date' if one['stale'] else ''})\n{one['text']}"
        for one in value["result"]
    ]
    return "\n\n".join(told) or "[nothing is remembered about it]"


def _agents(_: Mapping[str, Any], value: dict[str, Any]) -> str:
    """A line for each: what it is, what it can do, and whether work can be handed to it."""
    told = [
        "; ".join(
            part
            for part in (
                f"`{one['name']}`: {one['description']}".rstrip(": "),
                f"can: {', '.join(one['capabilities'])}" if one["capabilities"] else "",
                f"it is {one['health']}",
                "you may hand work to it" if one["delegate"] else "you may not hand work to it",
            )
            if part
        )
        for one in value["result"]
    ]
    return "\n".join(told) or "[there is no such agent now]"


def _day(at_ms: int) -> str:
    """The day in UTC, by the civil calendar's own arithmetic: nothing here may ask a clock."""
    days = at_ms // 86_400_000 + 719_468
    era, day = divmod(days, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    year, month = year + era * 400 + (month >= 10), (month + 2) % 12 + 1
    return f"{year:04}-{month:02}-{of_year - (153 * ((month + 9) % 12) + 2) // 5 + 1:02}"


def _program(_: Mapping[str, Any], value: dict[str, Any]) -> str:
    parts = [str(value["stdout"])]
    if value.get("stderr"):
        parts.append(f"[stderr]\n{value['stderr']}")
    if value.get("result") is not None:
        parts.append(f"[result] {as_json(value['result'])}")
    if isinstance(value.get("exception"), dict):
        parts.append(_exception(value["exception"]))
    if value.get("signal"):
        parts.append(f"[ended by signal {value['signal']}]")
    return "\n".join(part.rstrip("\n") for part in parts if part) or "[no output]"


def _exception(raised: dict[str, Any]) -> str:
    places = raised.get("traceback")
    lines = [
        f"  {one.get('file', '')}, line {one.get('line', '')}, in {one.get('function', '')}: {one.get('text', '')}"
        for one in (places if isinstance(places, list) else [])
        if isinstance(one, dict)
    ]
    return "\n".join(["[traceback]", *lines]) if lines else ""


def _exchange(arguments: Mapping[str, Any], value: dict[str, Any]) -> str:
    headers, body = value.get("headers"), value.get("body")
    fields = headers if isinstance(headers, dict) else {}
    kind = str(fields.get("content-type", ""))
    if not isinstance(body, str):
        words = f"[a body that is no text{f': {kind}' if kind else ''}]" if body is not None else ""
    elif is_html(kind, body):
        words = readable(body[:PAGE_SCANNED_CHARACTERS_MAX], url=str(arguments.get("url", "")))
    else:
        words = body
    return words if value.get("status") == 200 and words else f"[status {value.get('status')}]\n{words}".rstrip()


_TELLERS: Mapping[str, Told] = MappingProxyType(
    {
        "files.read": _read,
        "files.list": _listed,
        "files.write": _wrote,
        "files.edit": _edited,
        "files.search": _found,
        "http.search": _hits,
        "memory.search": _remembered,
        "agents.find": _agents,
    }
)
