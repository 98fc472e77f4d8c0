"""Searching: a child that is given an open folder and a question, and killed when the time is over."""

from __future__ import annotations

import os
import posixpath
import select
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from assent.execution.adapters.files import search_program
from assent.execution.adapters.files.beneath import Beneath, shown_name
from assent.execution.adapters.files.opening import READ, Done, Parts, check_regular, must_find
from assent.execution.adapters.files.trees import DEPTH_MAX, Stopped, Tally
from assent.execution.orders import FileOrder, Search
from assent.execution.searches import IGNORED, LINE_CHARACTERS_MAX, SEARCHED_BYTES_MAX, Line, assembled, glob_pattern

_WAIT_MS = 50
_PIECE_BYTES = 65_536
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_ARGV = (sys.executable, "-I", "-S", "-B", search_program.__file__)


def search(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """Lines that match a pattern, in a file or in a folder and those below it."""
    wanted = order.search
    assert wanted is not None, "a search says what it looks for"
    fd, kind = _opened(root, parts)
    try:
        return _Answer(wanted, order, fd, kind, "/".join(shown_name(part) for part in parts)).told(tally)
    finally:
        os.close(fd)


def question(wanted: Search, order: FileOrder, *, kind: str) -> dict[str, Any]:
    """What the child is asked."""
    return {
        "pattern": wanted.pattern, "ignore_case": wanted.ignore_case, "glob": glob_pattern(wanted.glob),
        "context": wanted.context, "limit": wanted.limit, "ignored": IGNORED, "bytes_max": SEARCHED_BYTES_MAX,
        "depth_max": DEPTH_MAX, "characters_max": LINE_CHARACTERS_MAX, "kind": kind,
        "cpu_s": order.limits.wall_ms // 1_000 + 1, "memory_bytes": order.limits.memory_bytes_max,
    }  # fmt: skip


def _opened(root: Beneath, parts: Parts) -> tuple[int, str]:
    """What is searched, open, and its kind."""
    if parts:
        with root.folder(parts[:-1]) as folder:
            found = must_find(folder, parts[-1])
            if stat.S_ISDIR(found.st_mode):
                return root.child(folder, parts[-1], _FOLDER), "folder"
            check_regular(found, parts[-1])
            return root.child(folder, parts[-1], READ), "file"
    return os.dup(root.fd), "folder"


class _Answer:
    """What the child says, as it comes."""

    def __init__(self, wanted: Search, order: FileOrder, fd: int, kind: str, prefix: str) -> None:
        self._wanted = wanted
        self._order = order
        self._asked = msgspec.json.encode(question(wanted, order, kind=kind))
        self._fd = fd
        self._prefix = prefix
        self._lines: list[Line] = []
        self._ended = False
        self._limit = ""

    def told(self, tally: Tally) -> Done:
        try:
            self._ask(tally)
        except Stopped as stopped:
            if stopped.code != "wall_limit":
                raise
            self._limit = "wall_ms"
        value = assembled(self._lines, limit=self._wanted.limit, context=self._wanted.context)
        facts = {"matches": value["matches"], "complete": value["complete"] and self._ended}
        value |= facts
        if self._limit:
            code, what = (
                ("wall_limit", "time is over") if self._limit == "wall_ms" else ("output_limit", "room is full")
            )
            message = f"the {what}, and not everything was searched: narrow the path, the glob or the pattern"
            return Done(code=code, message=message, limit=self._limit, value=value, facts=facts)
        if not self._ended:
            return Done(code="search_failed", message="the search ended too early", value=value, facts=facts)
        return Done(value=value, facts=facts)

    def _ask(self, tally: Tally) -> None:
        child = subprocess.Popen(
            [*_ARGV, str(self._fd)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            pass_fds=(self._fd,), env={}, cwd="/", start_new_session=True,
        )  # fmt: skip
        try:
            assert child.stdin is not None, "it was asked for"
            assert child.stdout is not None, "it was asked for"
            child.stdin.write(self._asked)
            child.stdin.close()
            rest = b""
            for piece in self._pieces(child.stdout.fileno(), tally):
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    self._take(line)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def _pieces(self, fd: int, tally: Tally) -> Iterator[bytes]:
        size, poll = 0, select.poll()
        poll.register(fd, select.POLLIN)
        while size <= self._order.limits.output_bytes_max:
            ready = poll.poll(_WAIT_MS)
            tally.check()
            if not ready:
                continue
            piece = os.read(fd, _PIECE_BYTES)
            if not piece:
                return
            size += len(piece)
            yield piece
        self._limit = "output_bytes_max"

    def _take(self, line: bytes) -> None:
        said = msgspec.json.decode(line)
        if said is True:
            self._ended = True
            return
        beneath, number, text, match = said
        path = posixpath.join(self._prefix, beneath) if beneath else self._prefix
        self._lines.append(Line(path=path, line=number, text=text, match=match))
