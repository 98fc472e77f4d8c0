"""Run a Python program as an ordinary user with this same interpreter, for tests that are started by root.

The interpreter may lie below a folder that is closed to others (a home, say). In a mount namespace of our own such a
folder is covered by a small tmpfs that shows nothing but the paths the interpreter needs. Then root is given up for
ever.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import assent
from assent.execution.adapters.sandboxes import syscalls

ORDINARY_UID = 59_321
_SOURCES = str(Path(assent.__file__).resolve().parent.parent)


def main() -> None:
    """`python ordinary_user.py program arguments…`: become the user and run the program."""
    if os.geteuid() == 0:
        _open_the_way([sys.prefix, os.path.realpath(sys.base_prefix), _SOURCES, str(Path(sys.argv[1]).parent)])
        os.setgroups([])
        os.setresgid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
        os.setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": _SOURCES,
        "HOME": "/nonexistent",
        "PLANTED": "in-the-parent",
    }
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment)


def _open_the_way(paths: list[str]) -> None:
    syscalls.call("unshare", syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    closed = {folder for path in paths for folder in Path(path).parents if not _open_to_all(folder)}
    for folder in sorted(closed, key=lambda one: len(one.parts)):
        if _open_to_all(folder):
            continue
        inside = {path: syscalls.open_tree(path) for path in paths if folder in Path(path).parents}
        syscalls.mount("tmpfs", str(folder), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
        for path, tree in inside.items():
            Path(path).mkdir(parents=True, exist_ok=True)
            syscalls.move_mount(tree, path)


def _open_to_all(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)


if __name__ == "__main__":
    main()
