"""The program that searches files, in a process of its own.

A pattern can be made to match for years, and Python's matcher cannot be stopped nor does it let another thread run. So
this runs alone and is killed when the time is over. It is given an open folder (or file) as a descriptor and a question
on standard input, loads nothing but the standard library, and says each line it found as a line of JSON:
`[path, line, text, whether it matches]`, at last `true`.

Links are never followed: every name is opened in the folder that was just read, with O_NOFOLLOW, and only ordinary
files are read.
"""

from __future__ import annotations

import json
import os
import re
import resource
import stat
import sys
from collections.abc import Iterator
from typing import Any

Line = tuple[str, int, str, bool]
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Search:
    """One search. `asked` is what `searching.question` writes."""

    def __init__(self, asked: dict[str, Any]) -> None:
        flags = re.MULTILINE | (re.IGNORECASE if asked["ignore_case"] else 0)
        self._pattern = re.compile(asked["pattern"], flags)
        self._glob = re.compile(asked["glob"]) if asked["glob"] else None
        self._context: int = asked["context"]
        self._ignored = frozenset(asked["ignored"])
        self._bytes_max: int = asked["bytes_max"]
        self._depth_max: int = asked["depth_max"]
        self._characters_max: int = asked["characters_max"]

    def folder(self, fd: int, above: str = "", depth: int = 0) -> Iterator[Line]:
        """What is found in an open folder and those below it, in the order of their names."""
        with os.scandir(fd) as entries:
            named = sorted((os.fsencode(entry.name), entry) for entry in entries)
        for raw, entry in named:
            path = above + raw.decode("utf-8", "backslashreplace")
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._below(fd, entry.name, path, depth)
                elif entry.is_file(follow_symlinks=False) and self.fits(path):
                    yield from self._named(fd, entry.name, path)
            except OSError:  # gone, exchanged or not ours to read: passed by
                continue

    def file(self, fd: int, path: str) -> Iterator[Line]:
        """What is found in an open file."""
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > self._bytes_max:
            return
        data = _content(fd, self._bytes_max + 1)
        if len(data) <= self._bytes_max and b"\0" not in data:
            yield from self._lines(path, data.decode("utf-8", "replace"))

    def fits(self, path: str) -> bool:
        """Whether a file of this path is meant."""
        return self._glob is None or self._glob.fullmatch(path) is not None

    def _below(self, folder: int, name: str, path: str, depth: int) -> Iterator[Line]:
        if name in self._ignored or depth >= self._depth_max:
            return
        fd = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=folder)
        try:
            yield from self.folder(fd, f"{path}/", depth + 1)
        finally:
            os.close(fd)

    def _named(self, folder: int, name: str, path: str) -> Iterator[Line]:
        fd = os.open(name, _OPEN, dir_fd=folder)
        try:
            yield from self.file(fd, path)
        finally:
            os.close(fd)

    def _lines(self, path: str, text: str) -> Iterator[Line]:
        """Lines that match, and those around them. A line is matched by itself; looking through the whole text first
        only passes by what cannot match."""
        if self._pattern.search(text) is None:
            return
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        told = 0
        for number in self._matching(text, lines):
            first = max(told, number - 1 - self._context)
            yield from ((path, at + 1, self._cut(lines[at]), False) for at in range(first, number - 1))
            yield path, number, self._cut(lines[number - 1]), True
            told = number
            for at in range(number, min(number + self._context, len(lines))):
                if self._pattern.search(lines[at]) is not None:
                    break
                yield path, at + 1, self._cut(lines[at]), False
                told = at + 1

    def _matching(self, text: str, lines: list[str]) -> Iterator[int]:
        """The numbers of the lines that match."""
        at, line = 0, 1
        while at < len(text) and (found := self._pattern.search(text, at)) is not None:
            line += text.count("\n", at, found.start())
            if line <= len(lines) and self._pattern.search(lines[line - 1]) is not None:
                yield line
            end = text.find("\n", found.start())
            if end < 0:
                return
            at, line = end + 1, line + 1

    def _cut(self, line: str) -> str:
        return line[: self._characters_max]


def _content(fd: int, most: int) -> bytes:
    pieces = []
    while most > 0 and (piece := os.read(fd, min(most, 1_048_576))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def main() -> None:
    """Answer the one question of this process's life."""
    asked = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_CPU, (asked["cpu_s"], asked["cpu_s"]))
    resource.setrlimit(resource.RLIMIT_AS, (asked["memory_bytes"], asked["memory_bytes"]))
    search, fd = Search(asked), int(sys.argv[1])
    found = search.folder(fd) if asked["kind"] == "folder" else iter(())
    if asked["kind"] == "file":
        found = search.file(fd, "")
    matches = 0
    for line in found:
        matches += line[3]
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()  # what was found counts, also when the time is over
        if matches > asked["limit"]:
            break
    sys.stdout.write("true\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
