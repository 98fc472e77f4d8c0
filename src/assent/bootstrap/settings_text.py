"""The text of a settings file: parsed, with the line of every mistake. Knows TOML and nothing of what settings mean."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from assent.bootstrap.toml_places import ROW, KeyPath, line_of, places, row

FAULTS_MAX = 50
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)$")
_AT_END = "(at end of document)"


class Document:
    """A parsed file that gathers what is wrong with it. Reading a value of the wrong kind is a fault and a default."""

    def __init__(self, values: dict[str, Any], lines: Mapping[KeyPath, int]) -> None:
        self._values = values
        self._lines = lines
        self.faults: list[tuple[int, str]] = []

    def told(self) -> list[str]:
        """The faults as `line: message`, in the file's order."""
        shown = [f"{line}: {message}" for line, message in sorted(self.faults)[:FAULTS_MAX]]
        more = len(self.faults) - len(shown)
        return [*shown, f"0: and {more} more"] if more else shown

    def fault(self, key: KeyPath, message: str) -> None:
        """Note a mistake at `key`, or at the nearest thing around it."""
        self.faults.append((line_of(self._lines, key) or 1, _printable(message)))

    def has(self, key: KeyPath) -> bool:
        """Whether the file says anything at `key`."""
        return self._at(key) is not None

    def text(self, key: KeyPath, *, default: str) -> str:
        """The text at `key`."""
        value = self._at(key)
        if value is None:
            return default
        if not isinstance(value, str) or "\0" in value:
            self.fault(key, f"`{quoted(key[-1])}` must be a text, and is {_kind(value)}")
            return default
        return value

    def number(self, key: KeyPath, *, default: int, least: int, most: int) -> int:
        """The whole number at `key`."""
        value = self._at(key)
        if value is None:
            return default
        if type(value) is not int or not least <= value <= most:
            self.fault(key, f"`{quoted(key[-1])}` must be a whole number from {least} to {most}")
            return default
        return value

    def flag(self, key: KeyPath, *, default: bool) -> bool:
        """True or false at `key`."""
        value = self._at(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(key, f"`{quoted(key[-1])}` must be true or false, and is {_kind(value)}")
            return default
        return value

    def texts(self, key: KeyPath) -> tuple[str, ...]:
        """The list of texts at `key`; empty when there is none."""
        value = self._at(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fault(key, f"`{quoted(key[-1])}` must be a list of texts, and is {_kind(value)}")
            return ()
        return tuple(value)

    def tables(self, key: KeyPath) -> tuple[str, ...]:
        """The names of the tables in the table at `key`; what is not a table is a fault."""
        names = []
        self._must_be_table(key)
        for name, value in self._table(key).items():
            if isinstance(value, dict):
                names.append(name)
            else:
                self.fault((*key, name), f"`{quoted(name)}` must be a table such as `[{key[0]}.{quoted(name)}]`")
        return tuple(names)

    def rows(self, key: KeyPath) -> tuple[KeyPath, ...]:
        """Where each table of the list of tables at `key` stands; what is no such list is a fault."""
        value = self._at(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            name = quoted(key[-1])
            self.fault(key, f"`{name}` must be a list of tables, each under `[[{name}]]`, and is {_kind(value)}")
            return ()
        return tuple((*key, row(index)) for index in range(len(value)))

    def only(self, key: KeyPath, known: tuple[str, ...], *, owners: Mapping[str, str] | None = None) -> None:
        """Make a fault of every unknown name in the table at `key`. `owners` says where well-known names belong."""
        self._must_be_table(key)
        where = f"in `{_header(key)}`" if key else "here"
        for name in self._table(key):
            if name in known:
                continue
            owner = (owners or {}).get(name)
            hint = f": it belongs in `[{owner}]`" if owner else near(name, known)
            self.fault((*key, name), f"`{quoted(name)}` is not known {where}{hint}")

    def _must_be_table(self, key: KeyPath) -> None:
        if self._at(key) is not None and not isinstance(self._at(key), dict):
            self.fault(
                key, f"`{quoted(key[-1])}` must be a table such as `[{quoted(key[-1])}]`, and is {_kind(self._at(key))}"
            )

    def _table(self, key: KeyPath) -> dict[str, Any]:
        value = self._at(key)
        return value if isinstance(value, dict) else {}

    def _at(self, key: KeyPath) -> object:
        value: object = self._values
        for name in key:
            if isinstance(value, list):
                value = {row(index): one for index, one in enumerate(value)}
            value = value.get(name) if isinstance(value, dict) else None
        return value


def read_document(data: bytes, *, bytes_max: int) -> Document:
    """Parse a file's bytes. Never raises: what cannot be parsed is an empty document with one fault."""
    if len(data) > bytes_max:
        return _broken(1, f"the file is larger than {bytes_max} bytes")
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        return _broken(data.count(b"\n", 0, error.start) + 1, "this is not UTF-8 text")
    if text.startswith("\ufeff"):
        return _broken(1, "the file starts with a byte order mark: save it as plain UTF-8")
    try:
        return Document(tomllib.loads(text), places(text))
    except tomllib.TOMLDecodeError as error:
        return _broken(_line(str(error), text), _complaint(str(error)))
    except (ValueError, RecursionError, OverflowError) as error:
        # Numbers of thousands of digits, brackets of thousands of levels: valid TOML that no settings hold.
        return _broken(1, f"the file cannot be read as TOML ({type(error).__name__})")


def _header(key: KeyPath) -> str:
    """How a table is headed in the file: `[a.b]`, or `[[a]]` for one of a list."""
    listed = key[-1].startswith(ROW)
    name = ".".join(map(quoted, key[:-1] if listed else key))
    return f"[[{name}]]" if listed else f"[{name}]"


def near(name: str, known: Iterable[str]) -> str:
    """`: did you mean …?`, or the list of what is known."""
    names = list(known)
    found = difflib.get_close_matches(name[:80], names, n=1)
    return f": did you mean `{found[0]}`?" if found else f" (known: {', '.join(f'`{n}`' for n in names)})"


def quoted(text: str) -> str:
    """Foreign text that is safe to show: printable, in one line, at most 60 characters."""
    return _printable(text[:60]) + ("…" if len(text) > 60 else "")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _broken(line: int, message: str) -> Document:
    document = Document({}, {})
    document.faults.append((line, message))
    return document


def _line(message: str, text: str) -> int:
    found = _AT_LINE.search(message)
    return int(found.group(1)) if found else text.count("\n") + (not text.endswith("\n"))


def _complaint(message: str) -> str:
    what = _AT_LINE.sub("", message).removesuffix(_AT_END).strip()
    return f"this is not TOML: {quoted(what[:1].lower() + what[1:])}"


def _kind(value: object) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")
