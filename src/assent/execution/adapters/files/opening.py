"""What verbs have in common: the file they mean, open and looked at, and what they say they did."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from assent.execution.adapters.files.beneath import Beneath, shown_name, status
from assent.execution.adapters.files.trees import Tally, kind_of
from assent.execution.orders import FileOrder
from assent.primitives.digests import Digest
from assent.primitives.errors import Refused

PIECE_BYTES = 1_048_576
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY

Parts = tuple[str, ...]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a verb did: the value for the caller, the facts for the record, the limit that stopped it if one did."""

    code: str = "ok"
    message: str = ""
    limit: str = ""
    value: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    content: Digest | None = None


def too_large(size: int, order: FileOrder) -> Done:
    """What is said when a file would grow beyond what is allowed."""
    limit = order.limits.file_bytes_max
    message = f"the file would have {size} bytes, more than {limit}"
    return Done(code="output_limit", message=message, limit="file_bytes_max")


def above(parts: Parts) -> Parts:
    """The folder that a name is in. Raises Refused: `not_permitted`, for the workspace itself."""
    if not parts:
        raise Refused("not_permitted", "this cannot be done to the workspace itself", hint="name something in it")
    return parts[:-1]


def must_find(folder: int, name: str) -> os.stat_result:
    """What `name` is. Raises FileNotFoundError."""
    found = status(folder, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return found


@contextmanager
def regular(root: Beneath, parts: Parts, flags: int) -> Iterator[tuple[int, os.stat_result]]:
    """A regular file, open. It is looked at before, since merely opening some devices does something, and after."""
    with root.folder(above(parts)) as folder, regular_in(root, folder, parts[-1], flags) as opened:
        yield opened


@contextmanager
def regular_in(root: Beneath, folder: int, name: str, flags: int) -> Iterator[tuple[int, os.stat_result]]:
    """As `regular`, in a folder that is open."""
    check_regular(must_find(folder, name), name)
    fd = root.child(folder, name, flags)
    try:
        found = os.fstat(fd)
        check_regular(found, name)
        yield fd, found
    finally:
        os.close(fd)


def check_regular(found: os.stat_result, name: str) -> None:
    """Accept an ordinary file. Raises Refused: `symlink_refused`, `not_regular`."""
    if stat.S_ISLNK(found.st_mode):
        raise Refused("symlink_refused", f"`{shown_name(name)}` is a symbolic link", hint="name what it points to")
    if not stat.S_ISREG(found.st_mode):
        raise Refused("not_regular", f"`{shown_name(name)}` is a {kind_of(found.st_mode)}, not a file")


def replaceable(folder: int, name: str) -> os.stat_result | None:
    """The ordinary file that stands at `name`, or None when nothing does. Raises Refused as `check_regular`."""
    found = status(folder, name)
    if found is not None:
        check_regular(found, name)
    return found


def pieces(fd: int, limit: int, tally: Tally) -> Iterator[bytes]:
    """The content from where `fd` stands, at most `limit` bytes of it. Raises Stopped."""
    while limit > 0 and (piece := os.read(fd, min(limit, PIECE_BYTES))):
        tally.check()
        limit -= len(piece)
        yield piece
