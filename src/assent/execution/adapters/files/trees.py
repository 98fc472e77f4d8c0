"""Whole trees: listed and deleted through open folders, links never followed, and stopped when it is time.

Depth is bounded without giving up on deep trees: a list ends there and says so, a delete moves what lies deeper up to
the top of the tree and goes on. So neither the number of open folders nor the stack depends on what is on the disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from assent.execution.adapters.files.beneath import Beneath, shown_name, status
from assent.primitives.errors import Refused

ENTRIES_MAX = 10_000
DEPTH_MAX = 48
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


class Stopped(Exception):
    """The caller gave up, or the time is over (`code` says which). Raised only where nothing is left half-done."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Tally:
    """How far a verb has come: what a failure in the middle can still say. `stop` answers why to stop, or nothing.

    `landed` is set once the change is visible, so that a failure from then on is not taken for "nothing happened".
    """

    def __init__(self, *, stop: Callable[[], str]) -> None:
        self._stop = stop
        self.removed = 0
        self.landed = False

    def check(self) -> None:
        """Raises Stopped when it is time to."""
        if code := self._stop():
            raise Stopped(code)


def kind_of(mode: int) -> str:
    """`file`, `folder`, `link` or `other`."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


class Listing:
    """What is in a folder, and with `recursive` in those below it: name, kind and size, at most 10 000 entries."""

    def __init__(self, root: Beneath, tally: Tally, *, recursive: bool) -> None:
        self._root = root
        self._tally = tally
        self._recursive = recursive
        self.entries: list[dict[str, str | int]] = []

    def gather(self, folder: int, above: str = "", depth: int = 0) -> str:
        """Add what is in an open folder. Returns the limit that ended it early, or nothing."""
        with os.scandir(folder) as found:
            for entry in found:
                self._tally.check()
                if len(self.entries) >= ENTRIES_MAX:
                    return "entries_max"
                if limit := self._add(folder, entry.name, above, depth):
                    return limit
        return ""

    def _add(self, folder: int, name: str, above: str, depth: int) -> str:
        seen = status(folder, name)
        if seen is None:
            return ""
        shown_as = above + shown_name(name)
        self.entries.append({"name": shown_as, "kind": kind_of(seen.st_mode), "size": seen.st_size})
        if not (self._recursive and stat.S_ISDIR(seen.st_mode)):
            return ""
        return "depth_max" if depth >= DEPTH_MAX else self._below(folder, name, f"{shown_as}/", depth + 1)

    def _below(self, folder: int, name: str, above: str, depth: int) -> str:
        try:
            fd = self._root.child(folder, name, _FOLDER)
        except (Refused, FileNotFoundError):
            return ""  # exchanged since it was seen: not a folder any more
        try:
            return self.gather(fd, above, depth)
        finally:
            os.close(fd)


def delete_tree(root: Beneath, folder: int, name: str, tally: Tally) -> None:
    """Remove a folder and all in it; `tally` counts what is gone, the folder itself left out.

    Raises:
        Stopped: cancelled, or the time is over.
        Refused, OSError: something could not be opened or removed.
    """
    top = root.child(folder, name, _FOLDER, one_mount=True)
    try:
        while names := os.listdir(top):
            _Deletion(root, top, tally).names_in(top, names, depth=0)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=folder)


class _Deletion:
    """One recursive delete; `top` is the folder it was asked for."""

    def __init__(self, root: Beneath, top: int, tally: Tally) -> None:
        self._root = root
        self._top = top
        self._tally = tally

    def names_in(self, folder: int, names: list[str], *, depth: int) -> None:
        for name in names:
            self._tally.check()
            found = status(folder, name)
            if found is None:
                continue
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=folder)
            elif depth < DEPTH_MAX:
                self._folder(folder, name, depth=depth)
            else:
                # Too deep to hold every folder open: move it up to the top, where its turn comes later.
                os.rename(name, f".assent-deep-{found.st_ino}", src_dir_fd=folder, dst_dir_fd=self._top)
                continue
            self._tally.removed += 1

    def _folder(self, folder: int, name: str, *, depth: int) -> None:
        fd = self._root.child(folder, name, _FOLDER, one_mount=True)
        try:
            self.names_in(fd, os.listdir(fd), depth=depth + 1)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=folder)
