"""Where keys stand in a TOML text. `tomllib` gives values without positions, so the lines are found by a second look.

The text must be valid TOML already: then statements are told apart by brackets, strings and comments alone, and the
keys themselves are read by `tomllib` again, one at a time, so that no second grammar of keys exists. An array or inline
table counts as one place, that of its key. The tables of an array of tables are numbered from 0: `("a", "#0", "b")`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

KeyPath = tuple[str, ...]
DEPTH_MAX = 8
ROW = "#"

# One piece of a statement: a string of any of the four kinds, a comment, a line's end, or one other character.
_PIECE = re.compile(
    r'''
      (?P<text>"""(?:\\.|[^\\])*?"""{1}"{0,2} | \'\'\'.*?\'\'\'\'{0,2} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<comment>\#[^\n]*)
    | (?P<end>\n)
    | (?P<other>.)
    ''',
    re.DOTALL | re.VERBOSE,
)


def places(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of every key and table header of a valid TOML text, down to `DEPTH_MAX` levels."""
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    rows: dict[KeyPath, int] = {}
    for line, statement in _statements(text):
        if statement.startswith("["):
            table = _path(statement.strip("[] \t") + " = 0")
            if statement.startswith("[["):
                rows[table] = rows.get(table, -1) + 1
            table = _numbered(table, rows)
            key = table
        else:
            key = table + _path(_before_equals(statement) + " = 0")
        for depth in range(1, min(len(key), DEPTH_MAX) + 1):
            found.setdefault(key[:depth], line)
    return found


def _numbered(table: KeyPath, rows: Mapping[KeyPath, int]) -> KeyPath:
    """The path of a header with the number of its row behind every array of tables on the way."""
    path: KeyPath = ()
    for depth in range(1, len(table) + 1):
        path += table[depth - 1 : depth]
        if table[:depth] in rows:
            path += (row(rows[table[:depth]]),)
    return path


def row(index: int) -> str:
    """The name, in a path, of one table of an array of tables."""
    return f"{ROW}{index}"


def line_of(found: Mapping[KeyPath, int], key: KeyPath) -> int:
    """The line of `key`, or of the nearest thing around it (0: nothing is)."""
    while key and key not in found:
        key = key[:-1]
    return found.get(key, 0)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Every statement with the line it starts in, comments left out. A line ends one when no bracket is open."""
    line, started, depth = 1, 1, 0
    parts: list[str] = []
    for match in _PIECE.finditer(text + "\n"):
        piece = match.group()
        if match.lastgroup == "end" and depth == 0:
            statement = "".join(parts).strip()
            if statement:
                yield started, statement
            parts = []
        elif match.lastgroup != "comment":
            if not parts:
                started = line
            if parts or not piece.isspace():
                parts.append(piece)
            depth += _turn(piece, match.lastgroup)
        line += piece.count("\n")


def _turn(piece: str, kind: str | None) -> int:
    if kind != "other":
        return 0
    return (piece in "[{") - (piece in "]}")


def _before_equals(statement: str) -> str:
    """The key of a statement: everything before the first `=` outside quotes."""
    parts: list[str] = []
    for match in _PIECE.finditer(statement):
        if match.group() == "=":
            break
        parts.append(match.group())
    return "".join(parts)


def _path(key: str) -> KeyPath:
    """The path a dotted key spells, as `tomllib` reads it."""
    path: list[str] = []
    value: object = tomllib.loads(key)
    while isinstance(value, dict):
        name, value = next(iter(value.items()))
        path.append(name)
    return tuple(path)
