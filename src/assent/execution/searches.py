r"""Searching files: which patterns and globs there are, and how what was found is put together. Pure.

Two engines search, Python's own and ripgrep's, and what they find must be the same. So a pattern is in the part of both
their grammars that means the same to both: characters, escapes (`\d \w \s \D \W \S \b \B \t \r \f \v \xHH \uHHHH` and
escaped punctuation), `.`, classes without set operations, groups (`(…)`, `(?:…)`, `(?P<name>…)`), `|`, `* + ? {m,n}`
(lazy too), `^`, `$`, and `(?i)` at the beginning. A line is matched by itself. Look-around and back references are
refused. A brace that counts nothing is a brace. One difference is left: a byte that is no UTF-8 is a character to
Python's, and to ripgrep's it is none, so `.` and classes pass it by.

A glob without a slash is matched against a file's name, one with a slash against its path from where the search began.
`*` and `?` stop at slashes, `**/` is any folders, `[…]` a class, `{a,b}` alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from assent.primitives.errors import Malformed

PATTERN_CHARACTERS_MAX = 1_000
GLOB_CHARACTERS_MAX = 500
LINE_CHARACTERS_MAX = 500
MATCHES_MAX = 1_000
CONTEXT_MAX = 10
SEARCHED_BYTES_MAX = 16_777_216
"""A file larger than this is not searched."""
IGNORED = (
    ".git", ".hg", ".svn", ".jj", "node_modules", "__pycache__", ".venv", ".tox", ".nox", ".mypy_cache",
    ".pytest_cache", ".ruff_cache", ".hypothesis", ".assent",
)  # fmt: skip
"""Folders that are passed by: what others keep for themselves."""

_ESCAPES = frozenset("dDwWsSbBtrfv")
_SPECIAL = frozenset("\\.+*?()|[]{}^$#&-~/")
_HEX = {"x": 2, "u": 4}
_COUNT = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")
_GROUP = re.compile(r"\(\?(?::|P<[A-Za-z_][A-Za-z0-9_]{0,40}>)")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line that an engine hands up: one that matches, or one around it. `path` is relative to where it began."""

    path: str
    line: int
    text: str
    match: bool


def read_pattern(pattern: str) -> str:
    """The pattern as ripgrep spells it, when it is one that both engines read alike.

    Raises:
        Malformed: `pattern_refused`.
    """
    if not pattern or len(pattern) > PATTERN_CHARACTERS_MAX:
        raise _refused(f"it has no characters, or more than {PATTERN_CHARACTERS_MAX}")
    if "\n" in pattern or "\0" in pattern:
        raise _refused("it holds the end of a line; lines are matched one by one")
    spelled = _Reader(pattern).read()
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise _refused(str(error)) from error
    return spelled


def glob_pattern(glob: str) -> str:
    """A glob as a regular expression for the whole of a path, in Python's spelling; empty: every path.

    Raises:
        Malformed: `glob_refused`.
    """
    if not glob:
        return ""
    if len(glob) > GLOB_CHARACTERS_MAX or glob.startswith(("!", "/")) or glob.endswith("/") or "\\" in glob:
        raise _glob_refused(glob)
    body, at, depth = "" if "/" in glob else "(?:.*/)?", 0, 0
    while at < len(glob):
        char = glob[at]
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            body, at = f"{body}(?:.*/)?", at + 3
            continue
        if char == "[":
            end = glob.find("]", at + 2)
            if end < 0 or "/" in glob[at:end] or "[" in glob[at + 1 : end]:
                raise _glob_refused(glob)
            inside = glob[at + 1 : end].replace("^", "\\^")
            body, at = f"{body}(?!/)[{'^' if inside.startswith('!') else ''}{inside.removeprefix('!')}]", end + 1
            continue
        depth += (char == "{") - (char == "}")
        body += {"*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}.get(char) or _plain_or_comma(char, depth)
        at += 1
        if depth not in (0, 1):
            raise _glob_refused(glob)
    if depth:
        raise _glob_refused(glob)
    try:
        re.compile(body)
    except re.error as error:
        raise _glob_refused(glob) from error
    return body.replace("[^/]*[^/]*", "(?:.*)") if glob.endswith("/**") else body


def assembled(lines: Iterable[Line], *, limit: int, context: int) -> dict[str, Any]:
    """What was found, file by file: at most `limit` lines that match, each with at most `context` lines around it.

    `complete` is False when there is more.
    """
    found: list[dict[str, Any]] = []
    matches, last, complete = 0, 0, True
    for line in lines:
        if line.match and matches == limit:
            complete = False
            break
        if not found or found[-1]["path"] != line.path:
            found.append({"path": line.path, "lines": []})
            last = 0
        if line.match:
            matches, last = matches + 1, line.line
        text = line.text[:LINE_CHARACTERS_MAX]
        found[-1]["lines"].append({"line": line.line, "text": text, "match": line.match})
    if found and not complete:
        kept = [one for one in found[-1]["lines"] if last and one["line"] <= last + context]
        found[-1]["lines"] = kept
        found = found if kept else found[:-1]
    return {"found": found, "matches": matches, "complete": complete}


class _Reader:
    """Reads a pattern from the front to the end, and spells it for ripgrep."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> str:
        out = []
        if self._text.startswith("(?i)"):
            out.append("(?i)")
            self._at = 4
        while self._at < len(self._text):
            out.append(self._one())
        return "".join(out)

    def _one(self) -> str:
        char = self._text[self._at]
        if char == "\\":
            return self._escape()
        if char == "[":
            return self._class()
        if char == "(":
            return self._group()
        self._at += 1
        if char == "{":
            counted = _COUNT.match(self._text, self._at - 1)
            if counted is None:
                return "\\{"
            self._at = counted.end()
            return counted[0] + self._lazy()
        if char in "*+?":
            return char + self._lazy()
        return f"\\{char}" if char in "}]" else char

    def _lazy(self) -> str:
        """The mark that makes a repetition lazy. A second repetition means another thing to each engine."""
        lazy = "?" if self._text.startswith("?", self._at) else ""
        self._at += len(lazy)
        if self._text[self._at : self._at + 1] in ("*", "+", "?") or _COUNT.match(self._text, self._at):
            raise _refused("it repeats a repetition")
        return lazy

    def _group(self) -> str:
        if not self._text.startswith("(?", self._at):
            self._at += 1
            return "("
        group = _GROUP.match(self._text, self._at)
        if group is None:
            raise _refused("of groups there are `(…)`, `(?:…)`, `(?P<name>…)`, and `(?i)` at the beginning")
        self._at = group.end()
        return group[0]

    def _escape(self, *, inside: bool = False) -> str:
        char = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        if not char:
            raise _refused("it ends with a `\\`")
        if char in _HEX:
            digits = self._text[self._at : self._at + _HEX[char]]
            if not re.fullmatch(r"[0-9A-Fa-f]+", digits) or len(digits) < _HEX[char] or int(digits, 16) in (0, 10):
                raise _refused(f"`\\{char}` is not followed by {_HEX[char]} hex digits of a character in a line")
            self._at += len(digits)
            return f"\\{char}{digits}"
        if char.isalnum():
            if char not in _ESCAPES or (inside and char in "bB"):
                raise _refused(f"`\\{char}` is not understood")
            return f"\\{char}"
        return f"\\{char}" if char in _SPECIAL else char

    def _class(self) -> str:
        out, self._at = ["["], self._at + 1
        if self._text.startswith("^", self._at):
            out.append("^")
            self._at += 1
        first = True
        while True:
            char = self._text[self._at : self._at + 1]
            if not char:
                raise _refused("a `[` is not closed")
            if char == "]" and not first:
                self._at += 1
                return "".join(out) + "]"
            if char in "[]" or self._text[self._at : self._at + 2] in ("--", "&&", "~~", "||"):
                raise _refused("in a class, `[`, `]` and what looks like a set operation must be escaped")
            if char == "\\":
                out.append(self._escape(inside=True))
            else:
                self._at += 1
                out.append(char)
            first = False


def _plain_or_comma(char: str, depth: int) -> str:
    return "|" if char == "," and depth else re.escape(char)


def _refused(why: str) -> Malformed:
    return Malformed(
        "pattern_refused", f"the pattern cannot be used: {why}", hint="escape with `\\` what is meant as it is"
    )


def _glob_refused(glob: str) -> Malformed:
    shown = ascii(glob[:80])[1:-1]
    return Malformed(
        "glob_refused",
        f"`{shown}` is not a glob that is understood",
        hint="write one like `*.py`, `src/**/*.ts`, `*.{c,h}`",
    )
