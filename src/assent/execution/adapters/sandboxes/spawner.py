"""The warm spawner: a small process that has done its imports, holds no secret, and clones itself into jails on
request.

Starting an interpreter to build a jail costs more than the jail, so the builder stays warm. It is started with an
empty environment, `-I -S`, one descriptor (its control socket) and, when Assent is root, gives up root for ever
before it reads its first request: no process that ever runs user code has been root. It is single-threaded, because
it clones.

One request is one SEQPACKET message, `run` or `hold`, with descriptors: for `run` the specification, the gate, the
standard streams and mounts (see `jail.py`); for `hold` only a gate: the child then just sits in a new user namespace,
whose owner the supervisor writes an id map for. The answer goes to the request's own gate (`P pid`, with the pidfd),
so nothing here keeps books. Children are reaped by the kernel (SIGCHLD ignored).

It ends when its control socket closes or the supervisor's process ends, whichever it sees first; every jail it made
then receives SIGKILL (parent-death signal) and takes its process namespace with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from . import jail, seccomp, syscalls

_MESSAGE_BYTES_MAX, _DESCRIPTORS_MAX = 16, 64
_DESCRIPTORS_OF = {b"run": 5, b"hold": 1}


def main(arguments: list[str]) -> None:
    """Serve until the supervisor is gone. `arguments`: control descriptor, supervisor pid, uid and gid (or `-`)."""
    control = socket.socket(fileno=int(arguments[0]))
    supervisor = os.pidfd_open(int(arguments[1]))
    if arguments[2] != "-":
        give_up_root(int(arguments[2]), int(arguments[3]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = seccomp.assemble()
    control.send(f"H {os.getuid()} {os.getgid()}".encode())
    gc.collect()
    gc.freeze()
    gc.disable()
    _serve(control, supervisor, program)


def give_up_root(uid: int, gid: int) -> None:
    """Become `uid` with nothing left of root; stay dumpable, or /proc/self/uid_map could not be written."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)


def _serve(control: socket.socket, supervisor: int, program: bytes) -> None:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(supervisor, select.POLLIN)
    while True:
        if any(fd == supervisor for fd, _ in poll.poll()):
            return
        word, fds, _flags, _address = socket.recv_fds(
            control, _MESSAGE_BYTES_MAX, _DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
        )
        if not word:
            return
        if len(fds) >= _DESCRIPTORS_OF.get(word, _DESCRIPTORS_MAX):  # fewer: we have none left, and closing says so
            _start(word, fds, (control.fileno(), supervisor), program)
        for fd in fds:
            os.close(fd)


def _start(word: bytes, fds: list[int], own: tuple[int, ...], program: bytes) -> None:
    gate = socket.socket(fileno=os.dup(fds[0 if word == b"hold" else 1]))
    try:
        pid, pidfd = syscalls.clone(jail.NAMESPACES if word == b"run" else syscalls.CLONE_NEWUSER)
    except OSError as error:
        with gate, contextlib.suppress(OSError):
            gate.send(f"F clone: {error}".encode())
        return
    if pid == 0:
        _live(word, fds, (*own, gate.detach()), program)
    with gate, contextlib.suppress(OSError):  # the supervisor may have given up; the child then sees its gate close
        socket.send_fds(gate, [f"P {pid}".encode()], [pidfd])
    os.close(pidfd)


def _live(word: bytes, fds: list[int], not_mine: tuple[int, ...], program: bytes) -> NoReturn:
    for fd in not_mine:
        os.close(fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if word == b"run":
        jail.live(fds, program)
    else:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        socket.socket(fileno=fds[0]).recv(1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
