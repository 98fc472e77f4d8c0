"""ripgrep: how it is asked, and how what it says is read. Pure.

It says JSON, one message a line, in the order of the paths. A little shell around it does three things: it goes to
where the search begins and has the kernel confirm that no link led there, it cuts what is too much, and it puts in
front what the reader must know. A search that was not cut ends with ripgrep's own summary.

It knows that a file is binary when it meets a NUL in it, and says so at the file's end. So it is not told to stop at so
many lines of a file: it would end before it knew.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
from typing import Any

import msgspec

from assent.execution.orders import Search
from assent.execution.searches import IGNORED, LINE_CHARACTERS_MAX, SEARCHED_BYTES_MAX, Line, read_pattern

OUTPUT_BYTES_MAX = 900_000

SCRIPT = r"""
rg=$0 path=$1 above=$2 name=$3 glob=$4 most=$5 header=$6
shift 6
refused() { printf '{"type":"refused","data":"%s"}\n' "$1"; exit 0; }
enter() { cd -P "./$1" 2>/dev/null || refused not_found; [ "$(pwd -P)" = "$root/$1" ] || refused symlink_refused; }
root=$(pwd -P)
printf '%s\n' "$header"
if [ -L "./$path" ]; then refused symlink_refused
elif [ "$path" = . ]; then :
elif [ -d "./$path" ]; then enter "$path"
elif [ -f "./$path" ]; then
  [ -z "$above" ] || enter "$above"
  printf '{"type":"one"}\n'
  set -- -g "/$name" "$@" --max-depth 1
  glob=
elif [ -e "./$path" ]; then refused not_regular
else refused not_found
fi
[ -z "$glob" ] || set -- -g "$glob" "$@"
"$rg" "$@" -- . | head -c "$most"
"""
"""`$0` is ripgrep, then: where to begin, its folder, its name as a glob, the glob that is asked for, the most bytes to
say, the header, and ripgrep's own options."""


class Said(msgspec.Struct, kw_only=True):
    """What was read of it. `whole`: it came to its own end; `refused`: it was not begun."""

    lines: list[Line] = []
    whole: bool = False
    refused: str = ""
    limit: int = 0
    context: int = 0


def argv(program: str, wanted: Search, path: str, *, output_bytes_max: int) -> tuple[str, ...]:
    """How it is asked to search `path`, which is relative to the folder it runs in."""
    prefix = "" if path == "." else path
    above, name = posixpath.split(prefix)
    header = {"type": "asked", "data": {"limit": wanted.limit, "context": wanted.context, "prefix": prefix}}
    most = str(min(OUTPUT_BYTES_MAX, output_bytes_max * 9 // 10))
    glob = wanted.glob if "/" not in wanted.glob else f"/{wanted.glob}"
    told = msgspec.json.encode(header).decode()
    return ("sh", "-c", SCRIPT, program, path, above, _literal(name), glob, most, told, *_options(wanted))


def read_said(stdout: object) -> Said:
    """Read what came on standard output. What is no message of ripgrep's is passed by."""
    said, prefix, one = Said(), "", False
    for raw in stdout.split("\n") if isinstance(stdout, str) else ():
        message = _message(raw)
        data = message.get("data")
        match message.get("type"), data:
            case "asked", {"limit": int(limit), "context": int(context), "prefix": str(prefix)}:
                said.limit, said.context = limit, context
            case "one", None:
                one = True
            case "refused", str(code):
                said.refused = code
            case ("match" | "context") as kind, dict():
                if (line := _line(data, prefix, one=one, match=kind == "match")) is not None:
                    said.lines.append(line)
            case "end", {"binary_offset": int(), **rest}:
                binary = _path(rest.get("path"), prefix, one=one)
                said.lines = [line for line in said.lines if line.path != binary]
            case "summary", _:
                said.whole = True
    return said


def _options(wanted: Search) -> tuple[str, ...]:
    return (
        "--json", "--no-config", "--no-ignore", "--hidden", "--no-messages", "--encoding", "none", "--sort", "path",
        "--max-filesize", str(SEARCHED_BYTES_MAX), "--context", str(wanted.context),
        "--ignore-case" if wanted.ignore_case else "--case-sensitive",
        *(part for folder in IGNORED for part in ("-g", f"!{folder}/")), "-e", read_pattern(wanted.pattern),
    )  # fmt: skip


def _literal(name: str) -> str:
    """A name as a glob that fits it alone."""
    return "".join(f"\\{char}" if char in "\\*?[]{}!," else char for char in name)


def _message(raw: str) -> dict[str, Any]:
    try:
        message = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return {}
    return message if isinstance(message, dict) else {}


def _line(data: dict[str, Any], prefix: str, *, one: bool, match: bool) -> Line | None:
    text, number = _text(data.get("lines")), data.get("line_number")
    path = _path(data.get("path"), prefix, one=one)
    if text is None or path is None or not isinstance(number, int):
        return None
    return Line(path=path, line=number, text=text.removesuffix("\n")[:LINE_CHARACTERS_MAX], match=match)


def _path(value: object, prefix: str, *, one: bool) -> str | None:
    """The path from the workspace of what ripgrep names from where it began; where that is `one` file, its own."""
    path = _text(value, errors="backslashreplace")
    if path is None or one:
        return prefix if one else None
    return posixpath.join(prefix, path.removeprefix("./"))


def _text(value: object, *, errors: str = "replace") -> str | None:
    """A text, which is said as such, or in base64 where it is no UTF-8."""
    match value:
        case {"text": str(text)}:
            return text
        case {"bytes": str(packed)}:
            try:
                return base64.b64decode(packed, validate=True).decode("utf-8", errors)
            except (binascii.Error, ValueError):
                return None
        case _:
            return None
