"""Looking at files for Assent itself, which asks no gate: before a run begins, say. Read only, and as careful as the
file lane: beneath the folder, through no link, ordinary files only, and never more than was said."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assent.execution.adapters.files.beneath import Beneath, best_mechanism, shown_name, status
from assent.execution.adapters.files.opening import PIECE_BYTES, READ, regular
from assent.primitives.errors import Refused


@contextmanager
def opened(folder: Path) -> Iterator[Beneath]:
    """A folder to look at. Raises Refused, OSError."""
    root = Beneath(str(folder.resolve()), mechanism=best_mechanism())
    try:
        yield root
    finally:
        root.close()


def content_of(root: Beneath, parts: tuple[str, ...], bytes_max: int) -> bytes:
    """The beginning of an ordinary file. Raises Refused, OSError."""
    with regular(root, parts, READ) as (fd, _):
        pieces = []
        while bytes_max > 0 and (piece := os.read(fd, min(bytes_max, PIECE_BYTES))):
            pieces.append(piece)
            bytes_max -= len(piece)
    return b"".join(pieces)


def folders_in(root: Beneath, parts: tuple[str, ...]) -> list[str]:
    """The names of the folders in a folder, in order; none when it is not there. Raises Refused, OSError."""
    try:
        with root.folder(parts) as folder:
            return sorted(name for name in os.listdir(folder) if _kind(folder, name) == "folder")
    except FileNotFoundError:
        return []


def files_below(
    root: Beneath, parts: tuple[str, ...], *, files_max: int, bytes_max: int, depth_max: int
) -> dict[str, bytes]:
    """Every file in a folder and below, by its path in it.

    Raises:
        Refused: `folder_too_large`; or there is a link or another thing that is no file.
        OSError: as the kernel says.
    """
    files: dict[str, bytes] = {}
    size = 0
    for path in _paths(root, parts, "", depth_max):
        data = content_of(root, (*parts, *path.split("/")), bytes_max + 1 - size)
        size += len(data)
        files[path] = data
        if len(files) > files_max or size > bytes_max:
            raise Refused("folder_too_large", f"it has more than {files_max} files, or more than {bytes_max} bytes")
    return files


def _paths(root: Beneath, parts: tuple[str, ...], above: str, depth: int) -> Iterator[str]:
    with root.folder(parts) as folder:
        kinds = {name: _kind(folder, name) for name in sorted(os.listdir(folder))}
    for name, kind in kinds.items():
        if shown_name(name) != name:
            raise Refused("path_malformed", f"`{shown_name(name)[:80]}` is no name in UTF-8")
        if kind != "folder":
            yield f"{above}{name}"
        elif depth > 0:
            yield from _paths(root, (*parts, name), f"{above}{name}/", depth - 1)
        else:
            raise Refused("folder_too_large", "its folders are too deep")


def _kind(folder: int, name: str) -> str:
    found = status(folder, name)
    return "folder" if found is not None and stat.S_ISDIR(found.st_mode) else "other"
