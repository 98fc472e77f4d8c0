"""An open workspace, and the only ways into it: beneath it, through real folders, never through a link.

A path that is checked and then opened is two looks at a tree that somebody may change in between. So nothing is
checked: the kernel is told to refuse while it opens, and from then on there are only descriptors.

- `openat2` (Linux 5.6): one call resolves a whole path with RESOLVE_BENEATH, NO_SYMLINKS and NO_MAGICLINKS. There is no
  moment at which a name could be exchanged.
- `walk`, where openat2 is missing or filtered away: one `openat` with O_NOFOLLOW and O_DIRECTORY for each name, each
  from the folder just opened. A folder exchanged for a link between two steps meets O_NOFOLLOW; one moved away after
  its step is still the folder that was opened.

Mounts inside the workspace are crossed when a path names what is in them: only the operator can have put them there. A
recursive delete does not cross them (`one_mount`): it was asked for the folder, not for what is mounted in it. A bind
mount of the same file system has the same device number, so mounts are told apart by mount id and not by device.

Hard links are invisible to all of this: a second name inside for a file outside *is* that file. Linux lets nobody make
one to a file that is not his (fs.protected_hardlinks), writing replaces a name and does not write through it, and
appending refuses a file with two names.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from assent.primitives.errors import Refused

Mechanism = Literal["openat2", "walk"]

_OPENAT2 = 437  # the same number on every architecture
_AT_FDCWD = -100
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_RESOLVE = _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS
_ALWAYS = os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_PASSING = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
_UNAVAILABLE = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EACCES})
_TRIES_MAX = 32
_libc = ctypes.CDLL(None, use_errno=True)
_FOLDER_MODE = 0o777  # less the umask, as for every new folder


class Beneath:
    """A workspace opened once. `close` it; every descriptor it returns is the caller's to close."""

    def __init__(self, workspace: str, *, mechanism: Mechanism) -> None:
        self._mechanism = mechanism
        self.fd = _opened_workspace(workspace, mechanism)

    def close(self) -> None:
        """Close the workspace. Not idempotent."""
        os.close(self.fd)

    @contextmanager
    def folder(self, parts: tuple[str, ...], *, create: bool = False) -> Iterator[int]:
        """The folder at `parts`, open for the length of the block; missing folders are made when `create`.

        Raises:
            Refused: a name on the way is a symbolic link (`symlink_refused`) or no folder (`not_folder`).
            OSError: as the kernel says.
        """
        fd = self._created_folder(parts) if create else self._folder(parts)
        try:
            yield fd
        finally:
            os.close(fd)

    def child(self, folder: int, name: str, flags: int, *, mode: int = 0, one_mount: bool = False) -> int:
        """Open `name` in an open folder. With `one_mount`, what is mounted there is refused with EXDEV.

        Raises:
            Refused: it is a symbolic link (`symlink_refused`).
            OSError: as the kernel says.
        """
        try:
            if self._mechanism == "openat2":
                return openat2(folder, name, flags | _ALWAYS, mode, _RESOLVE | (_NO_XDEV if one_mount else 0))
            fd = os.open(name, flags | _ALWAYS, mode, dir_fd=folder)
        except OSError as error:
            raise _explained(error, folder, name) from error
        if one_mount and _mount_of(fd) != _mount_of(folder):
            os.close(fd)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
        return fd

    def make(self, folder: int, name: str) -> bool:
        """Make a folder in an open folder; False if there was one. As root, it gets the owner of the folder it is in.

        Raises:
            Refused: what stands there is a symbolic link or no folder.
            OSError: as the kernel says.
        """
        try:
            os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
        except FileExistsError:
            os.close(self.child(folder, name, _PASSING))
            return False
        fd = self.child(folder, name, _FOLDER)
        try:
            give(fd, os.fstat(folder))
            os.fsync(folder)
        finally:
            os.close(fd)
        return True

    def _folder(self, parts: tuple[str, ...]) -> int:
        if self._mechanism == "openat2":
            try:
                return openat2(self.fd, "/".join(parts) or ".", _FOLDER | _ALWAYS, 0, _RESOLVE)
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                    raise
        return self._walked(parts)  # also after openat2 said no: the walk knows the name that is the reason

    def _walked(self, parts: tuple[str, ...]) -> int:
        here = os.dup(self.fd)
        for at, name in enumerate(parts):
            try:
                there = self.child(here, name, _FOLDER if at == len(parts) - 1 else _PASSING)
            finally:
                os.close(here)
            here = there
        return here

    def _created_folder(self, parts: tuple[str, ...]) -> int:
        here = os.dup(self.fd)
        for name in parts:
            try:
                self.make(here, name)
                there = self.child(here, name, _FOLDER)
            finally:
                os.close(here)
            here = there
        return here


def best_mechanism() -> Mechanism:
    """What this kernel, and the filter this process runs under, allow."""
    if not sys.platform.startswith("linux"):
        return "walk"
    try:
        os.close(openat2(_AT_FDCWD, "/", _PASSING | _ALWAYS, 0, _NO_SYMLINKS))
    except OSError as error:
        if error.errno in _UNAVAILABLE:
            return "walk"
        raise
    return "openat2"


def status(folder: int, name: str) -> os.stat_result | None:
    """What `name` in an open folder is, links not followed; None when there is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def give(fd: int, like: os.stat_result) -> None:
    """As root, give what `fd` is to the owner of `like`, so that the program it is for can use it."""
    if os.geteuid() == 0 and (like.st_uid, like.st_gid) != (0, 0):
        os.fchown(fd, like.st_uid, like.st_gid)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(folder: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """The system call. EAGAIN (the kernel saw a rename and cannot vouch for the result) is tried again a few times."""
    how = _OpenHow(flags=flags, mode=mode, resolve=resolve)
    name = ctypes.c_char_p(os.fsencode(path))
    code = errno.EAGAIN
    for _ in range(_TRIES_MAX):
        fd: int = _libc.syscall(_OPENAT2, folder, name, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in {errno.EAGAIN, errno.EINTR}:
            break
    raise OSError(code, os.strerror(code), path)


def _opened_workspace(workspace: str, mechanism: Mechanism) -> int:
    """With openat2 no link leads to it, wherever on the way; the walk looks at the last name only."""
    if not workspace.startswith("/") or "\0" in workspace:
        raise Refused("workspace_malformed", "the workspace is not an absolute path")
    try:
        if mechanism == "openat2":
            return openat2(_AT_FDCWD, workspace, _FOLDER | _ALWAYS, 0, _NO_SYMLINKS | _NO_MAGICLINKS)
        return os.open(workspace, _FOLDER | _ALWAYS)
    except FileNotFoundError as error:
        raise Refused("not_found", "the workspace does not exist", hint="make the folder first") from error
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        raise Refused("workspace_malformed", "the workspace is a symbolic link, behind one, or no folder") from error


def _explained(error: OSError, folder: int, name: str) -> Exception:
    """ELOOP and ENOTDIR say the same of links and of files: look what it is, for the message only. Whoever turned it
    back into a folder in the meantime is told of the link that was met."""
    if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
        return error
    found = status(folder, name)
    if (
        error.errno == errno.ENOTDIR
        and found is not None
        and not (stat.S_ISLNK(found.st_mode) or stat.S_ISDIR(found.st_mode))
    ):
        return Refused("not_folder", f"`{shown_name(name)}` is no folder")
    return Refused("symlink_refused", f"`{shown_name(name)}` is a symbolic link", hint="name what it points to")


def shown_name(name: str) -> str:
    """A name as text that every encoder takes: bytes that are no UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _mount_of(fd: int) -> tuple[int, str]:
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
            mount = next((line for line in lines if line.startswith("mnt_id:")), "")
    except OSError:
        mount = ""
    return os.fstat(fd).st_dev, mount
