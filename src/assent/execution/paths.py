"""Paths beneath a workspace, taken apart by the letter. Pure.

A path is relative, in UTF-8, and has no `..`: such a path may come back inside, but where it passes on the way depends
on what is on the disk. `.` and doubled slashes mean nothing and are dropped. Whether a name on the way is a symbolic
link is not decided here but where it is opened.
"""

from __future__ import annotations

from assent.primitives.errors import Malformed

NAME_BYTES_MAX = 255
PATH_BYTES_MAX = 4_096


def parts_of(path: str) -> tuple[str, ...]:
    """The names a path goes through; none for the workspace itself (`.`).

    Raises:
        Malformed: it leads out (`outside_workspace`), or no file system could take it (`path_malformed`).
    """
    encoded = _encoded(path)
    if not encoded or b"\0" in encoded or len(encoded) > PATH_BYTES_MAX:
        raise _malformed(path, f"is empty, holds a NUL or is longer than {PATH_BYTES_MAX} bytes")
    if path.startswith("/"):
        raise _outside(path)
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    if ".." in parts:
        raise _outside(path)
    if any(len(part.encode()) > NAME_BYTES_MAX for part in parts):
        raise _malformed(path, f"has a name longer than {NAME_BYTES_MAX} bytes")
    return parts


def _encoded(path: str) -> bytes:
    try:
        return path.encode()
    except UnicodeEncodeError as error:
        raise _malformed(path, "is not text") from error


def _malformed(path: str, why: str) -> Malformed:
    return Malformed("path_malformed", f"`{ascii(path[:80])[1:-1]}` {why}", hint="write `.` for the workspace itself")


def _outside(path: str) -> Malformed:
    return Malformed(
        "outside_workspace",
        f"`{ascii(path[:80])[1:-1]}` leads outside the workspace",
        hint="give a path relative to the workspace, without `..`",
    )
