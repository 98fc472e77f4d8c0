# ruff: noqa: ARG001, S606, T201, UP031 - all attacks take the same target, and it runs bare
"""The attacks of the self-test, tried from inside. Stand-alone: its text is handed to an interpreter in the sandbox.

It prints one JSON object: for each attack, what happened. `won` means that the attack worked as far as the attacker
can tell; the supervisor also looks from outside. Every attack is harmless where it succeeds (a value is written back
unchanged, the victim is ours), because the self-test also runs where nothing is confined.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

_ARM = platform.machine() == "aarch64"
_PTRACE, _UNSHARE, _MOUNT, _BPF, _KEYCTL = (117, 97, 40, 280, 219) if _ARM else (101, 272, 165, 321, 250)
_IO_URING_SETUP = 425
_CLONE_NEWUSER, _PTRACE_ATTACH, _TIOCSTI = 0x10000000, 16, 0x5412
_SECONDS = 0.2
ATTEMPTS_MAX = 400
_libc = ctypes.CDLL(None, use_errno=True)

Target = dict[str, Any]


def read_canary(target: Target) -> bool:
    """Read a file of the host that lies beside the workspace."""
    with open(target["canary"]) as file:
        return bool(file.read())


def write_canary(target: Target) -> bool:
    """Write to that file."""
    fd = os.open(target["canary"], os.O_WRONLY | os.O_APPEND)  # and never create it: /tmp may be the sandbox's own
    return os.write(fd, b"touched") > 0


def follow_link(target: Target) -> bool:
    """Read it through a link made in the workspace."""
    link = os.path.join(target["workspace"], "link")
    os.symlink(target["canary"], link)
    with open(link) as file:
        return bool(file.read())


def write_where_only_landlock_forbids(target: Target) -> bool:
    """/proc is mounted writable and this file is ours: nothing but Landlock is in the way."""
    with open("/proc/self/comm", "w") as file:
        file.write("renamed")
    return True


def connect_tcp(target: Target) -> bool:
    """Reach a listener on the host's loopback."""
    socket.create_connection(("127.0.0.1", target["tcp"]), _SECONDS).close()
    return True


def send_udp(target: Target) -> bool:
    """Send it a datagram, which asks nobody's leave."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return bool(one.sendto(b"hello", ("127.0.0.1", target["udp"])))


def connect_abstract(target: Target) -> bool:
    """Reach a unix socket without a path."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + target["abstract"])
    return True


def connect_path(target: Target) -> bool:
    """Reach a unix socket by its path."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(target["path_socket"])
    return True


def read_environment_of_victim(target: Target) -> bool:
    """Find the victim's marker in any process's environment."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError), open("/proc/%s/environ" % name, "rb") as file:
            if target["marker"].encode() in file.read():
                return True
    return False


def trace_victim(target: Target) -> bool:
    """Attach to the victim as a debugger."""
    return _raw(_PTRACE, _PTRACE_ATTACH, target["victim"], 0, 0)


def signal_victim(target: Target) -> bool:
    """Address the victim by its pid."""
    os.kill(target["victim"], 0)
    return b"sleep" in open("/proc/%d/cmdline" % target["victim"], "rb").read()


def nest_user_namespace(target: Target) -> bool:
    """Become root in a namespace of one's own, the door to much of the kernel."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if _libc.syscall(ctypes.c_long(_UNSHARE), ctypes.c_long(_CLONE_NEWUSER)) == 0 else 1)
    return os.waitpid(pid, 0)[1] == 0


def mount_something(target: Target) -> bool:
    """Mount a file system."""
    return _raw(_MOUNT, b"none", b"/tmp", b"tmpfs", 0, 0)


def set_up_io_uring(target: Target) -> bool:
    """Reach io_uring, which does calls past the filter."""
    return _raw(_IO_URING_SETUP, 1, ctypes.create_string_buffer(512))


def call_bpf(target: Target) -> bool:
    """Reach the kernel's programming interface."""
    return _raw(_BPF, 0, ctypes.create_string_buffer(128), 128)


def call_keyctl(target: Target) -> bool:
    """Reach the kernel's keyrings."""
    return _raw(_KEYCTL, 0, -3, 0)  # KEYCTL_GET_KEYRING_ID of the session


def inject_into_terminal(target: Target) -> bool:
    """Push a character into a shared terminal."""
    try:
        fcntl.ioctl(0, _TIOCSTI, b"x")
    except OSError as error:
        return error.errno != errno.EPERM  # "not a terminal" would mean that the filter let it through
    return True


def write_core_pattern(target: Target) -> bool:
    """Write the host-wide core pattern (the same value), a road to running code on the host."""
    with open("/proc/sys/kernel/core_pattern", "r+") as file:
        same = file.read()
        file.seek(0)
        file.write(same)
    return True


def make_set_user_id_file(target: Target) -> bool:
    """Leave a file that runs as its owner on the host."""
    path = os.path.join(target["workspace"], "set-id")
    with open(path, "w"):
        pass
    with contextlib.suppress(OSError):
        os.chmod(path, 0o4755)  # noqa: S103 - the attack
    with contextlib.suppress(OSError):
        os.close(os.open(path + "-2", os.O_CREAT | os.O_WRONLY, 0o6755))
    return any(os.path.exists(one) and os.stat(one).st_mode & 0o6000 for one in (path, path + "-2"))


def fork_bomb(target: Target) -> bool:
    """Fork until refused; more processes than the limit means it does not hold."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        while len(children) < ATTEMPTS_MAX:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(children) > int(target["processes_max"])


def memory_bomb(target: Target) -> bool:
    """Take twice the memory that is allowed."""
    try:
        return bool(bytearray(2 * target["memory_bytes_max"]))
    except MemoryError:
        return False


def leave_daemon(target: Target) -> bool:
    """A double-forked daemon in a session of its own that ignores SIGTERM and holds the output open."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execv(
                sys.executable, [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", target["marker"]]
            )
        os._exit(0)
    os.wait()
    return False  # only the look from outside can tell


def pass_the_broker(target: Target) -> bool:
    """Have the egress broker reach the listener, which it was not to reach."""
    with socket.create_connection(("127.0.0.1", 3128), 10) as one:
        one.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % target["tcp"])
        return b" 403 " not in one.recv(64)


ATTACKS = (
    read_canary, write_canary, follow_link, write_where_only_landlock_forbids, connect_tcp, send_udp, connect_abstract,
    connect_path, read_environment_of_victim, trace_victim, signal_victim, nest_user_namespace, mount_something,
    set_up_io_uring, call_bpf, call_keyctl, inject_into_terminal, write_core_pattern, make_set_user_id_file, fork_bomb,
    memory_bomb, leave_daemon,
)  # fmt: skip


# Tried once more where hosts may be reached: there another filter and another Landlock rule stand.
ATTACKS_WITH_HOSTS = (
    write_where_only_landlock_forbids, connect_tcp, send_udp, connect_abstract, connect_path, nest_user_namespace,
    mount_something, set_up_io_uring, call_bpf, call_keyctl, inject_into_terminal, make_set_user_id_file,
    pass_the_broker,
)  # fmt: skip


def _raw(number: int, *arguments: Any) -> bool:
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    if _libc.syscall(ctypes.c_long(number), *words) >= 0:
        return True
    # Any answer but "not permitted" comes from the call itself: it was reached.
    return ctypes.get_errno() not in (errno.EPERM, errno.EACCES, errno.ENOSYS)


def _tried(attack: Callable[[Target], bool], target: Target) -> dict[str, Any]:
    try:
        return {"won": attack(target), "said": ""}
    except BaseException as error:  # noqa: BLE001 - whatever stopped it is the answer
        return {"won": False, "said": "%s: %s" % (type(error).__name__, error)}


if __name__ == "__main__":
    _target = json.loads(sys.argv[1])
    _chosen = ATTACKS_WITH_HOSTS if _target.get("with_hosts") else ATTACKS
    print(json.dumps({attack.__name__: _tried(attack, _target) for attack in _chosen}))
