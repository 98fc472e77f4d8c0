"""The fence of a run without namespaces: Landlock and two filters, and the proof that they refuse. Runs inside.

Landlock does not govern everything that has a path or a number. Where nothing is private, the rest is refused by a
second filter on top of the usual one: changing the mode, the owner, the times or the attributes of files by their path
(by descriptor it stays possible: what can be opened was allowed), watching folders, what lies in the shared IPC
namespace (a segment can be attached by its number alone), and the scheduling of other processes.

The process that is about to become the program then tries for itself what must fail: list the root, bind a TCP port,
signal and read its watcher, make a socket. Each was possible a moment before, or the attempt says nothing. What it
found goes to the supervisor as one word `L name=refused …`; a name that is missing was not refused.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from . import landlock, seccomp, syscalls
from .arrivals import Spec

FILES, TCP, OTHERS, SOCKETS = "files", "tcp", "others", "sockets"
_DONE, _REFUSAL = "done", "refused"
_BY_PATH = {  # which argument of the call is the path; refused unless it is null
    "x86_64": {"utimensat": (280, 1)},
    "aarch64": {"utimensat": (88, 1)},
}
_OF_OTHERS = {"x86_64": {"sched_setaffinity": 203}, "aarch64": {"sched_setaffinity": 122}}
_REFUSED_EVERYWHERE = {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466}
_REFUSED = {
    "x86_64": {
        "truncate": 76, "chmod": 90, "chown": 92, "lchown": 94, "fchownat": 260, "fchmodat": 268, "setxattr": 188,
        "lsetxattr": 189, "removexattr": 197, "lremovexattr": 198, "utime": 132, "utimes": 235, "futimesat": 261,
        "inotify_add_watch": 254, "mq_open": 240, "mq_unlink": 241, "semget": 64, "semop": 65, "semctl": 66,
        "semtimedop": 220, "shmat": 30, "shmctl": 31, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "setpriority": 141,
        "sched_setparam": 142, "sched_setscheduler": 144, "ioprio_set": 251, "sched_setattr": 314,
    },
    "aarch64": {
        "truncate": 45, "fchownat": 54, "fchmodat": 53, "setxattr": 5, "lsetxattr": 6, "removexattr": 14,
        "lremovexattr": 15, "inotify_add_watch": 27, "mq_open": 180, "mq_unlink": 181, "semget": 190, "semctl": 191,
        "semtimedop": 192, "semop": 193, "shmctl": 195, "shmat": 196, "msgctl": 187, "msgrcv": 188, "msgsnd": 189,
        "setpriority": 140, "sched_setparam": 118, "sched_setscheduler": 119, "ioprio_set": 30, "sched_setattr": 274,
    },
}  # fmt: skip


def program() -> bytes:
    """The second filter."""
    machine = syscalls.MACHINE
    return seccomp.refusing(
        {*_REFUSED[machine].values(), *_REFUSED_EVERYWHERE.values()},
        of_others=_OF_OTHERS[machine].values(),
        by_path=dict(_BY_PATH[machine].values()),
    )


def enter(spec: Spec) -> bytes:
    """Restrict this process for ever; the word that says what it was refused afterwards."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    attempts: dict[str, Callable[[], object]] = {FILES: _list_root, TCP: _bind, OTHERS: _look_at_watcher}
    possible = [name for name, attempt in attempts.items() if _how(attempt) == _DONE]
    before_filter = _how(_make_sockets) == _DONE
    landlock.restrict(
        version=spec["landlock"],
        readable=[*filter(os.path.exists, spec["readable"]), "/proc/self"],
        writable=spec["writable"],
        devices=spec["devices"],
    )
    refused = [name for name in possible if _how(attempts[name]) == _REFUSAL]
    seccomp.install(program())
    seccomp.install(seccomp.assemble())
    if before_filter and _how(_make_sockets) == _REFUSAL:
        refused.append(SOCKETS)
    return b"L " + " ".join(f"{name}=refused" for name in refused).encode()


def _how(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except PermissionError:
        return _REFUSAL
    except OSError:  # no such device, no address: it says nothing about permission
        return ""
    return _DONE


def _list_root() -> None:
    os.listdir("/")


def _bind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.bind(("127.0.0.1", 0))


def _look_at_watcher() -> None:
    """Signal number 0 to the parent, and its environment: possible when either is."""
    with contextlib.suppress(PermissionError):
        os.kill(os.getppid(), 0)
        return
    with open(f"/proc/{os.getppid()}/environ", "rb") as file:
        file.read()


def _make_sockets() -> None:
    """Of every kind that leads somewhere: possible when one of them is."""
    kinds = [(family, kind) for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
             for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)]  # fmt: skip
    for family, kind in kinds:
        with contextlib.suppress(OSError):
            socket.socket(family, kind).close()
            return
    raise PermissionError
