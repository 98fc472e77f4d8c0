"""Landlock: a second, independent wall on files, TCP, abstract sockets and signals. It uses what the kernel offers.

The rights a ruleset *handles* are denied unless a rule gives them back, so the ruleset handles everything the
kernel's ABI knows and the rules give back: reading and running below `/` (which is the private root) or, where there is
no private root, below the places named one by one; everything but device nodes below the writable folders; reading and
writing the few device nodes. TCP gets no rule, so none is allowed; but the one port of the egress broker may be
connected to where an order names hosts.

A zero return code has been wrong in the field and no process's Landlock state can be read from outside: that it works
is only ever *probed*, by the self-test or by the process itself before it becomes the program (`fence.py`), never
observed.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from . import syscalls

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_TCP_BOTH, _SCOPE_BOTH = 3, 3
_RULE_PATH_BENEATH, _RULE_NET_PORT, _CREATE_RULESET_VERSION = 1, 2, 1
_TCP_ABI, _CONNECT_TCP = 4, 2

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_DEVICE = _WRITE_FILE | _READ_FILE | _READ_DIR | _TRUNCATE | _IOCTL_DEV
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # all that a rule on a file may give


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


def abi() -> int:
    """The kernel's Landlock ABI, or 0 where there is none."""
    try:
        return syscalls.call("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def handled_files(version: int) -> int:
    """The file rights that ABI `version` can handle."""
    bits = 13 if version == 1 else 14 if version == 2 else 15 if version <= 4 else 16
    return (1 << bits) - 1


def restrict(
    *,
    version: int,
    writable: Iterable[str],
    devices: Iterable[str],
    readable: Iterable[str] = ("/",),
    connect: Iterable[int] = (),
) -> None:
    """Restrict this process and all it starts. Needs no_new_privs. Does nothing when `version` is 0.

    `connect` are the TCP ports that may be connected to, where the ABI handles TCP.
    """
    if version == 0:
        return
    files = handled_files(version)
    ruleset = _Ruleset(
        files=files, network=_TCP_BOTH if version >= _TCP_ABI else 0, scoped=_SCOPE_BOTH if version >= 6 else 0
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    fd = syscalls.call("landlock_create_ruleset", ctypes.byref(ruleset), size, 0)
    for path in readable:
        _allow(fd, path, _READ & files)
    for path in devices:
        _allow(fd, path, _DEVICE & files)
    for path in writable:
        _allow(fd, path, files & ~(_MAKE_CHAR | _MAKE_BLOCK))
    for port in connect if version >= _TCP_ABI else ():
        rule = _NetPort(allowed=_CONNECT_TCP, port=port)
        syscalls.call("landlock_add_rule", fd, _RULE_NET_PORT, ctypes.byref(rule), 0)
    syscalls.call("landlock_restrict_self", fd, 0)
    os.close(fd)


def _allow(ruleset: int, path: str, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not stat.S_ISDIR(os.fstat(parent).st_mode):
        rights &= _OF_A_FILE
    rule = _PathBeneath(allowed=rights, parent=parent)
    syscalls.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    os.close(parent)
