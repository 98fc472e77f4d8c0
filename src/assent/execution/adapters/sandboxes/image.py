"""What a sandbox's private root holds: the system read-only, the caller's Python, one workspace, and little else.

The image is a plan, computed once per lane: mounts, links, synthesised files. Per run only the workspace is added. A
path of the host that is not in the plan does not exist inside.

Checks made here, on the host, before anything starts: the workspace is an existing folder, is not a system folder or
above one, and neither holds nor lies in a folder that is protected (Assent's own state, with its keys and log).
"""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from assent.execution.adapters.sandboxes import doorway, landlock
from assent.execution.adapters.sandboxes.terminals import COLUMNS_MAX, ROWS_MAX
from assent.execution.hosts import allow_list
from assent.execution.orders import Limits, ProcessOrder, Pty
from assent.primitives.errors import Malformed

Mount = tuple[str, str, Any, bool, tuple[int, int] | None]  # target, kind, source, writable, (device, inode)

_MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_CONFIGURATION = (
    "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
)  # fmt: skip
_DEVICE_NODES = ("null", "zero", "full", "random", "urandom")
_OWN = ("/usr", "/etc", "/dev", "/proc", "/sys", "/boot", *_MERGED)
_STREAM_LINKS = (
    ("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"), ("/proc/self/fd/2", "/dev/stderr"),
)  # fmt: skip
_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
_SCRATCH = ("/tmp", "/dev/shm")  # noqa: S108 - inside the sandbox, where they are file systems of its own
_BROKER = f"http://{doorway.ADDRESS}:{doorway.PORT}"
_PROXY = {
    **{name: _BROKER for word in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (word, word.lower())},
    "NO_PROXY": "", "no_proxy": "", "NODE_USE_ENV_PROXY": "1",
}  # fmt: skip
_LIMIT_MAX = 2**62  # the kernel's own numbers end above
_PAGE_BYTES = 4096
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
HOME = "/tmp/home"  # noqa: S108 - inside the sandbox, where /tmp is its own


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """A checked workspace: its path (the same on the host and inside), its identity and owner."""

    path: str
    device: int
    inode: int
    uid: int
    gid: int


class Image:
    """The plan of the private root of one node.

    `readable` are further host folders to bind read-only; `protected` may never become visible.
    """

    def __init__(self, *, readable: Iterable[Path] = (), protected: Iterable[Path] = ()) -> None:
        self.python_folders = _python_folders()
        wanted = ["/usr", *(p for p in _MERGED if os.path.isdir(p) and not os.path.islink(p))]
        wanted += [p for p in _CONFIGURATION if os.path.exists(p)] + self.python_folders + [str(p) for p in readable]
        self.system = _without_nested(wanted)
        self.protected = [os.path.realpath(p) for p in protected]
        self.links = [(os.readlink(p), p) for p in _MERGED if os.path.islink(p)] + list(_STREAM_LINKS)
        self.landlock_abi = landlock.abi()
        self.devices: list[str] = []
        self.pipes: list[str] = []

    def showing(self, folder: Path) -> Image:
        """The same image with one more folder to read."""
        wider = copy.copy(self)
        wider.system = _without_nested([*self.system, str(folder)])
        return wider

    def speaking(self, folder: Path) -> Image:
        """The same image with a folder of named pipes that can be written to; the folder itself stays read-only."""
        wider = self.showing(folder)
        wider.pipes = [*self.pipes, str(folder)]
        return wider

    def with_device(self, path: str) -> Image:
        """The same image with one more device."""
        wider = copy.copy(self)
        wider.devices = [*self.devices, path]
        return wider

    def without(self, folders: Iterable[str]) -> Image:
        """The same image without some of its folders."""
        narrower, gone = copy.copy(self), set(folders)
        narrower.system = [path for path in self.system if path not in gone]
        return narrower

    def workspace(self, order: ProcessOrder) -> Workspace:
        """Check the order's workspace against the host.

        A link on the way is refused: who can exchange it decides what is shown, and that need not be the operator.

        Raises:
            Malformed: it is relative, missing, no folder, behind a link, a system folder, or shows what is protected.
        """
        path = os.path.normpath(order.workspace)
        if not os.path.isabs(order.workspace) or "\0" in order.workspace or path != order.workspace.rstrip("/"):
            raise Malformed("order_malformed", f"workspace `{path[:200]}` is not a plain absolute path")
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Malformed("order_malformed", f"workspace `{path[:200]}`: {error.strerror}") from error
        try:
            found, real = os.fstat(fd), os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        if real != path:
            message = f"workspace `{path[:200]}` lies behind a link"
            raise Malformed("order_malformed", message, hint="name the folder itself")
        self._check_place(path)
        return Workspace(path=path, device=found.st_dev, inode=found.st_ino, uid=found.st_uid, gid=found.st_gid)

    def specification(
        self, order: ProcessOrder, *, uid: int, gid: int, sources: dict[str, int], workspace: Workspace
    ) -> dict[str, Any]:
        """Everything the jail is built from. `sources` gives the position of mounts passed as descriptors."""
        limits = order.limits
        account = f"sandbox:x:{uid}:{gid}:sandbox:{HOME}:/bin/sh\n".encode()
        return {
            "argv": list(order.argv), "env": self.environment(order), "cwd": folder_inside(order),
            "pty": order.pty is not None, "uid": uid, "gid": gid, "mounts": self._mounts(order, sources, workspace),
            "folders": [("/etc", 0o755), ("/dev", 0o755)], "homes": [(HOME, 0o700)], "links": self.links,
            "files": [
                ("/etc/passwd", account), ("/etc/group", f"sandbox:x:{gid}:\n".encode()),
                ("/etc/hosts", b"127.0.0.1 localhost sandbox\n::1 localhost\n"), ("/etc/hostname", b"sandbox\n"),
                ("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\n"), ("/etc/resolv.conf", b""),
            ],
            "landlock": self.landlock_abi, "writable": self.writable(order),
            "limits": resource_limits(limits), "memory_bytes_max": limits.memory_bytes_max,
            "cpu_s_max": limits.cpu_s_max,
            "disk": {
                "folders": [workspace.path] if order.workspace_writable else [], "own": list(_SCRATCH),
                "bytes_max": limits.disk_bytes_max,
            },
            "broker_port": doorway.PORT if order.hosts else 0,
        }  # fmt: skip

    def environment(self, order: ProcessOrder) -> dict[str, str]:
        """The fixed base, with hosts to reach the way to the broker, and the order's own variables, which win."""
        path = ":".join([*(f"{p}/bin" for p in self.python_folders), *_SYSTEM_PATH])
        base = {"PATH": path, "HOME": HOME, "LANG": "C.UTF-8", "TMPDIR": "/tmp"}  # noqa: S108
        base |= {"TERM": order.pty.term} if order.pty else {}
        return {**base, **(_PROXY if order.hosts else {}), **order.env}

    def writable(self, order: ProcessOrder) -> list[str]:
        """The folders inside in which files may be made."""
        own = [os.path.normpath(order.workspace)] if order.workspace_writable else []
        return [*_SCRATCH, *own, *self.pipes]

    def _mounts(self, order: ProcessOrder, sources: dict[str, int], workspace: Workspace) -> list[Mount]:
        identity = (workspace.device, workspace.inode)
        mounts: list[Mount] = [_passed(path, sources) or (path, "path", path, False, None) for path in self.system]
        mounts.append(
            _passed(workspace.path, sources)
            or (workspace.path, "path", workspace.path, order.workspace_writable, identity)
        )
        mounts += [(f"/dev/{name}", "device", f"/dev/{name}", True, None) for name in _devices(order)]
        mounts += [(path, "device", path, True, None) for path in self.devices]
        mounts += [(place, "tmpfs", scratch_bytes(order.limits), True, None) for place in _SCRATCH]
        return sorted(mounts, key=lambda mount: mount[0].count("/"))

    def _check_place(self, path: str) -> None:
        taken = path in ("/", "/tmp", *self.system)  # noqa: S108 - the sandbox has its own
        if taken or any(_within(path, own) for own in _OWN):
            raise Malformed("order_malformed", f"workspace `{path}` is a system folder", hint="use a folder of its own")
        for secret in self.protected:
            if _within(path, secret) or _within(secret, path):
                raise Malformed(
                    "order_malformed", f"workspace `{path}` would show Assent's own state", hint="keep the two apart"
                )


def _devices(order: ProcessOrder) -> tuple[str, ...]:
    """`tty` opens a process's own controlling terminal, whichever that is; so it is shown where there is one."""
    return (*_DEVICE_NODES, "tty") if order.pty else _DEVICE_NODES


def scratch_bytes(limits: Limits) -> int:
    """How much the sandbox's own /tmp may hold: never 0, which to a tmpfs means no limit."""
    return max(_PAGE_BYTES, min(limits.file_bytes_max, limits.memory_bytes_max, limits.disk_bytes_max))


def check_order(order: ProcessOrder) -> None:
    """Check the parts of an order that need no look at the host.

    Raises:
        Malformed: no program, a NUL byte, half a character, a variable name with `=`, a limit that is none, or a `cwd`
            that leaves the workspace (`order_malformed`); or a host that is none (`allow_list_malformed`).
    """
    words = [*order.argv, *order.env, *order.env.values(), order.cwd, order.workspace]
    if not order.argv or not order.argv[0] or not all(map(_carriable, words)):
        raise Malformed("order_malformed", "argv is empty, or a word holds a NUL byte or is not valid Unicode")
    odd = [name for name in Limits.__struct_fields__ if not 0 <= getattr(order.limits, name) <= _LIMIT_MAX]
    if odd:  # to the kernel, minus one means no limit at all
        raise Malformed("order_malformed", f"the limit `{odd[0]}` is negative or too large")
    if order.pty and not (_TERM.fullmatch(order.pty.term) and _fits(order.pty)):
        raise Malformed("order_malformed", "the terminal's size or its `TERM` is none")
    if any(not name or "=" in name for name in order.env):
        raise Malformed("order_malformed", "an environment name is empty or holds `=`")
    allow_list(order.hosts)
    folder_inside(order)


def folder_inside(order: ProcessOrder) -> str:
    """The absolute working folder inside the sandbox.

    Raises:
        Malformed: `cwd` is absolute or climbs out of the workspace.
    """
    relative = os.path.normpath(order.cwd or ".")
    if os.path.isabs(relative) or relative.split("/")[0] == "..":
        raise Malformed("order_malformed", f"cwd `{order.cwd[:200]}` leaves the workspace", hint="make it relative")
    return os.path.normpath(f"{order.workspace}/{relative}")


def _fits(pty: Pty) -> bool:
    return 1 <= pty.rows <= ROWS_MAX and 1 <= pty.columns <= COLUMNS_MAX


def _carriable(word: str) -> bool:
    """Whether a word can stand in an argument vector or in a path, and in the record."""
    try:
        return b"\0" not in word.encode()
    except UnicodeEncodeError:
        return False


def resource_limits(limits: Limits) -> dict[str, int]:
    """Per-process limits by their names in the resource module; the warden is one process more than the program's own.

    Memory is limited as written data (RLIMIT_DATA), not address space: runtimes reserve far more than they use.
    """
    return {
        "RLIMIT_CORE": 0, "RLIMIT_CPU": limits.cpu_s_max, "RLIMIT_FSIZE": limits.file_bytes_max,
        "RLIMIT_DATA": limits.memory_bytes_max, "RLIMIT_NOFILE": limits.open_files_max,
        "RLIMIT_NPROC": limits.processes_max + 1,
    }  # fmt: skip


def _python_folders() -> list[str]:
    """The virtual environment and the interpreter's prefix, where they lie outside the system."""
    prefixes = dict.fromkeys([sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)])
    return [p for p in prefixes if p != "/" and not any(_within(p, own) for own in _OWN)]


def _without_nested(paths: list[str]) -> list[str]:
    return [p for p in dict.fromkeys(paths) if not any(p != other and _within(p, other) for other in paths)]


def _passed(target: str, sources: dict[str, int]) -> Mount | None:
    return (target, "fd", sources[target], False, None) if target in sources else None


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
