"""The jail, built from inside by the process that will live in it. Runs in the cloned child of the spawner.

The child starts as process 1 of fresh user, process, mount, network, ipc, uts and cgroup namespaces, with every
capability *inside* them and none outside. In this order:

1. The parent-death signal, the identity maps (own uid to itself, length 1), the host name.
2. The private root. Sources are taken as detached mounts *before* anything is covered; attributes (read-only, nosuid,
   nodev) are only ever added with mount_setattr(2), which never meets the locked flags that a remount trips over.
   Sources the child could not reach by path (Assent is root, the child is not) arrive as descriptors, already marked
   by the parent; the workspace then carries an id map, so files land owned by the workspace's owner. Mounts go in by
   depth, so a folder inside the workspace (a virtual environment) can be read-only over it. A fresh /proc from inside
   the process namespace. The new root is entered (pivot_root) and the old one detached before anything is placed by
   path, so no link in a workspace can lead a mount or a file outside; last the root itself becomes read-only.
3. Where the order names hosts, the loopback comes up with a listening socket on it, whose descriptor is handed out
   (`doorway.py`). The bounding set and all capabilities dropped. no_new_privs. Landlock. The system call filter.
4. One fork: process 1 stays behind as warden (`warden.py`); process 2 sets its limits, says `R` on the gate and
   waits. The supervisor reads /proc for process 2, decides, and only its `G` leads to execve. Untrusted code cannot
   run before.

What is not bound is not there: no host secret, no home, no state folder, no sysfs, no device but five.

Gate words (one SEQPACKET message each): `P pid` from the spawner, `N port` with the listening socket, `R` ready, `G`
go, `F stage: reason` could not build, `X errno` could not execute, `E status …` ended (see `warden.py`).
"""

from __future__ import annotations

import os
import signal
import stat
from typing import Any

from . import doorway, landlock, seccomp, syscalls, warden
from .arrivals import Spec, Streams, fail

NAMESPACES = (
    syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP
)  # fmt: skip
STAGING = "/tmp"  # noqa: S108 - covered by the new root while it is built; any folder that exists everywhere would do
DEVICES = "/dev"
_LOCKED_DOWN = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_DEVICE_NODE = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
_ROOT_BYTES, _ROOT_INODES = 4_194_304, 4096
_BYTES_PER_INODE = 1024  # what an empty file costs the kernel, about: so the files weigh no more than their content may


def live(fds: list[int], program: bytes) -> None:
    """Build the jail in this process, then be its warden. Never returns."""
    streams = Streams(fds)
    stage = "start"
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        spec = streams.spec()
        for name, step in (("identity", _map_identity), ("root", _build_root), ("seal", _seal_root)):
            stage = name
            step(spec, streams)
        stage = "network"
        doorway.open_doorway(spec, streams)
        stage = "privileges"
        syscalls.drop_capabilities()
        stage = "filters"
        restrict(spec, program)
        stage = "fork"
        warden.split(spec, streams)
    except BaseException as error:  # noqa: BLE001 - nothing may return into the spawner's loop
        fail(streams.gate, stage, error)


def restrict(spec: Spec, program: bytes) -> None:
    """no_new_privs, then Landlock, then the filter, which must come last: the others need calls it denies.

    `program` is the filter of runs without a network; a run with a doorway gets the one that lets TCP sockets be made.
    """
    port = spec.get("broker_port", 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict(
        version=spec["landlock"], writable=spec["writable"], devices=(DEVICES,), connect=(port,) if port else ()
    )
    seccomp.install(seccomp.assemble(tcp=True) if port else program)


def _map_identity(spec: Spec, _streams: Streams) -> None:
    _write("/proc/self/setgroups", b"deny")
    _write("/proc/self/uid_map", f"{spec['uid']} {spec['uid']} 1".encode())
    _write("/proc/self/gid_map", f"{spec['gid']} {spec['gid']} 1".encode())
    syscalls.set_hostname("sandbox")


def _build_root(spec: Spec, streams: Streams) -> None:
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    trees = {entry[0]: _tree(entry, streams) for entry in spec["mounts"] if entry[1] in ("path", "fd", "device")}
    _tmpfs(STAGING, _ROOT_BYTES, f",nr_inodes={_ROOT_INODES},mode=755")
    os.chdir(STAGING)
    os.mkdir("proc")  # must be mounted while the host's /proc is still in sight: the kernel asks for one
    syscalls.mount("proc", "proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.pivot_root(".", ".")  # the old root now lies over the new one, at the same place
    syscalls.unmount_lazily(".")
    os.chdir("/")
    _furnish(spec, trees)


def _furnish(spec: Spec, trees: dict[str, int]) -> None:
    """Fill the new root. The old one is gone, so no link in a workspace can lead any of this outside."""
    for path, mode in spec["folders"]:
        os.makedirs(path, mode, exist_ok=True)
    for path, content in spec["files"]:
        _write(path, content, create=True)
    for target, path in spec["links"]:
        os.symlink(target, path)
    for entry in spec["mounts"]:
        _place(entry, trees)
    for path, mode in spec["homes"]:
        os.mkdir(path, mode)


def _tree(entry: tuple[Any, ...], streams: Streams) -> int:
    """The detached, marked mount an entry asks for."""
    _target, kind, source, writable, identity = entry
    if kind == "fd":
        passed: int = streams.mounts[source]
        return passed
    origin = os.open(source, os.O_PATH | os.O_CLOEXEC)
    found = os.fstat(origin)
    if identity is not None and (found.st_dev, found.st_ino) != tuple(identity):
        raise OSError(f"`{source}` is no longer what was checked")
    tree = syscalls.open_tree("", dir_fd=origin)
    os.close(origin)
    marks = _DEVICE_NODE if kind == "device" else _LOCKED_DOWN | (0 if writable else syscalls.MOUNT_ATTR_RDONLY)
    syscalls.set_mount(tree, marks)
    return tree


def _place(entry: tuple[Any, ...], trees: dict[str, int]) -> None:
    target, kind, source, _writable, _identity = entry
    if kind == "tmpfs":
        os.makedirs(target, exist_ok=True)
        _tmpfs(target, source, f",nr_inodes={max(_ROOT_INODES, source // _BYTES_PER_INODE)},mode=1777")
        return
    tree = trees[target]
    _make_place(target, folder=stat.S_ISDIR(os.fstat(tree).st_mode))
    syscalls.move_mount(tree, target)
    os.close(tree)


def _make_place(path: str, *, folder: bool) -> None:
    if folder:
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.lexists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))


def _tmpfs(target: str, size_bytes: int, rest: str) -> None:
    syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, f"size={size_bytes}{rest}")


def _seal_root(_spec: Spec, _streams: Streams) -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    syscalls.set_mount(root, syscalls.MOUNT_ATTR_RDONLY, recursive=False)
    os.close(root)


def _write(path: str, content: bytes, *, create: bool = False) -> None:
    if create:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_WRONLY | (os.O_CREAT if create else 0) | os.O_CLOEXEC, 0o644)
    os.write(fd, content)
    os.close(fd)
