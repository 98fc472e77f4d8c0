"""The kernel calls that Python does not offer, through ctypes. Linux on x86_64 and aarch64; standard library only.

Every function raises `OSError` with the call's name in the message. Nothing here decides anything. The module is
imported by the warm spawner, so it imports little and allocates its prototypes once.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x00001000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 1 << 18
MNT_DETACH = 2

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
MOUNT_ATTR_IDMAP = 0x00100000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 47, 4
CAP_LAST_PROBED = 63  # PR_CAPBSET_DROP answers EINVAL beyond the kernel's last capability

SECCOMP_SET_MODE_FILTER = 1
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

MACHINE = platform.machine()
# The calls with numbers below 424 differ between architectures; all later ones are the same everywhere.
_NUMBERS = {
    "x86_64": {"clone": 56, "unshare": 272, "capset": 126, "pivot_root": 155, "seccomp": 317},
    "aarch64": {"clone": 220, "unshare": 97, "capset": 91, "pivot_root": 41, "seccomp": 277},
}
_NUMBER = {
    "open_tree": 428,
    "move_mount": 429,
    "close_range": 436,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    **_NUMBERS.get(MACHINE, {}),
}
SUPPORTED = MACHINE in _NUMBERS

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.sethostname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
# clone must be called with the interpreter lock held, exactly as os.fork does: hence PyDLL.
_held = ctypes.PyDLL(None, use_errno=True)
_held.syscall.restype = ctypes.c_long


class MountAttr(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def call(name: str, *arguments: object) -> int:
    """One raw system call by name. Integers go as 64 bits; bytes and ctypes objects as pointers."""
    number = _NUMBER.get(name)
    if number is None:
        raise OSError(38, f"{name}: not known on `{MACHINE}`")
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *words), name)


def clone(flags: int) -> tuple[int, int]:
    """clone(2) as fork: `(0, -1)` in the child, `(pid, pidfd)` in the parent. The caller must be single-threaded."""
    pidfd = ctypes.c_int(-1)
    ctypes.pythonapi.PyOS_BeforeFork()
    arguments = [ctypes.c_long(flags | CLONE_PIDFD | signal.SIGCHLD), None, ctypes.byref(pidfd), None, None]
    pid = _held.syscall(ctypes.c_long(_NUMBER["clone"]), *arguments)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return int(pid), pidfd.value


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() if kind else None, flags, data.encode() or None
    )
    _checked(result, f"mount {kind or ''} {target}")


def unmount_lazily(target: str) -> None:
    """umount2(2) with MNT_DETACH."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    call("pivot_root", os.fsencode(new), os.fsencode(old))


def open_tree(path: str, *, dir_fd: int = AT_FDCWD) -> int:
    """A detached, recursive copy of the mounts at `path` (or at `dir_fd` itself when `path` is empty)."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | (0 if path else AT_EMPTY_PATH)
    return call("open_tree", dir_fd, os.fsencode(path), flags)


def move_mount(tree: int, target: str) -> None:
    """Attach the detached mounts `tree` at `target`."""
    call("move_mount", tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)


def set_mount(tree: int, attributes: int, *, path: str = "", user_namespace: int = 0, recursive: bool = True) -> None:
    """Add `attributes` to the mounts at `tree` (or at `path`). Only adding never meets a locked flag."""
    attr = MountAttr(attr_set=attributes, userns_fd=user_namespace)
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    call("mount_setattr", tree, os.fsencode(path), flags, ctypes.byref(attr), ctypes.sizeof(attr))


def prctl(option: int, first: int = 0, second: int = 0) -> None:
    """prctl(2)."""
    _checked(_libc.prctl(option, first, second, 0, 0), f"prctl {option}")


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    raw = name.encode()
    _checked(_libc.sethostname(raw, len(raw)), "sethostname")


def drop_capabilities() -> None:
    """Empty the bounding, ambient, inheritable, permitted and effective sets, in that order."""
    for capability in range(CAP_LAST_PROBED + 1):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == -1:
            break
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CapHeader(version=_LINUX_CAPABILITY_VERSION_3, pid=0)
    call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` up close-on-exec (close_range(2); Linux 5.11)."""
    call("close_range", first, 0xFFFFFFFF, 4)


def _checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)
