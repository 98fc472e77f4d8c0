"""The second stage: a cold interpreter that finishes a sandbox somebody else began, and then watches over it.

Under bubblewrap and in a container it starts as process 1 inside the finished root, adds what those do not give
(Landlock, the filter, limits) and goes on exactly as our own jail does (`jailed`). Where there are no namespaces it
stays outside and watches: it is the subreaper of all that the program starts, so a daemon that leaves its session still
ends up as its child, and it ends only when no descendant is left. It ends them by stopping and killing to a fixpoint,
since a fork may always run away from one pass. It looks at what the tree uses as the warden does (`meter.py`), and at
its end removes the scratch folder, also when the supervisor is long gone.

The supervisor cannot kill by namespace there: it asks (SIGUSR1, or by closing the gate). In `fenced` mode the program
cannot reach the watcher: Landlock keeps signals and tracing within the program's own domain. In `weak` mode a program
of the same user could kill it; that is one of the reasons why that class is called weak.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from typing import NoReturn

from . import doorway, fence, jail, kernels, seccomp, spawner, syscalls, warden
from .arrivals import Spec, Streams, fail
from .meter import Meter

_FIXPOINT_PASSES_MAX = 1000
_BLOCK_BYTES, _ENTRIES_MIN = 512, 4096


def main(arguments: list[str]) -> None:
    """`arguments`: the mode (`jailed`, `fenced`, `weak`), then the descriptors of specification, gate and streams."""
    streams = Streams([int(one) for one in arguments[1:6]])
    try:
        for fd in (*streams.standard, streams.gate.fileno()):
            os.set_inheritable(fd, False)
        spec = streams.spec()
        if arguments[0] == "jailed":
            for path, mode in spec.get("homes_inside", ()):
                os.mkdir(path, mode)
            if "kernel" in spec:
                streams.gate.send(kernels.word())
            doorway.open_doorway(spec, streams)
            jail.restrict(spec, seccomp.assemble())
            warden.split(spec, streams)
        if spec["drop_to"] is not None:
            spawner.give_up_root(*spec["drop_to"])
        _split_outside(spec, streams, fenced=arguments[0] == "fenced")
    except BaseException as error:  # noqa: BLE001 - the supervisor is told, whatever it is
        fail(streams.gate, "stage", error)


def _split_outside(spec: Spec, streams: Streams, *, fenced: bool) -> NoReturn:
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    watcher = os.getpid()
    program = os.fork()
    if program == 0:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != watcher:
            os._exit(125)
        if fenced:
            _fence(spec, streams)
        warden.become(spec, streams)
    for fd in warden.held_by_program(spec, streams):
        os.close(fd)
    _watch(program, streams.gate, spec)


def _fence(spec: Spec, streams: Streams) -> None:
    try:
        streams.gate.send(fence.enter(spec))
    except BaseException as error:  # noqa: BLE001 - the child of a fork must not run the parent's code
        fail(streams.gate, "fence", error)


def _watch(program: int, gate: socket.socket, spec: Spec) -> NoReturn:
    waking, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1, *map(warden.relay_of, warden.RELAYED)):
        signal.signal(number, lambda _number, _frame: None)
    poll = select.poll()
    poll.register(waking, select.POLLIN)
    poll.register(gate, 0)  # its end only: a waiting `G` is the program's
    tripped, meter = "-", Meter(spec, lambda: [str(pid) for pid in _descendants()])
    while True:
        ended = warden.reap(program)
        if ended is not None:
            _kill_all()
            _remove(spec.get("scratch", ""))
            warden.report(gate, *ended, tripped, meter)
        if meter.wait_s == 0:
            found = _look(spec, meter)
            tripped = found if tripped == "-" else tripped
        for fd, _events in poll.poll(meter.wait_s * 1000):
            asked = os.read(waking, 512) if fd == waking else b""
            _pass_on(asked, program)
            if fd == gate.fileno():  # the supervisor is gone
                poll.unregister(gate)
            if fd == gate.fileno() or signal.SIGUSR1 in asked:
                _kill_all()


def _look(spec: Spec, meter: Meter) -> str:
    """Measure the tree; once it went over a limit, it is ended."""
    tripped = meter.look()
    if tripped == "-" and "scratch" in spec and _overflows(spec["scratch"], spec["scratch_bytes_max"]):
        tripped = "disk"
    if tripped != "-":
        _kill_all()
    return tripped


def _pass_on(asked: bytes, program: int) -> None:
    if signal.SIGTERM in asked:
        _signal_descendants(signal.SIGTERM)
    for number in asked:
        warden.relay(number, program)


def _overflows(folder: str, bytes_max: int) -> bool:
    """Whether the scratch folder holds more than it may, in bytes or in files (a private /tmp would have no more)."""
    held_bytes, entries = 0, 0
    for above, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        for name in files:
            with contextlib.suppress(OSError):
                held_bytes += os.lstat(os.path.join(above, name)).st_blocks * _BLOCK_BYTES
        if held_bytes > bytes_max or entries > max(_ENTRIES_MIN, bytes_max // 1024):
            return True
    return False


def _remove(folder: str) -> None:
    """Everything in the scratch folder and the folder itself; what the program made unreadable is left behind."""
    if not folder:
        return
    for above, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            path = os.path.join(above, name)
            with contextlib.suppress(OSError):
                (os.rmdir if name in folders and not os.path.islink(path) else os.unlink)(path)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _kill_all() -> None:
    """Stop, then kill, everything below this process until a pass finds nothing alive."""
    for _ in range(_FIXPOINT_PASSES_MAX):
        if _signal_descendants(signal.SIGSTOP) == 0:
            return
        _signal_descendants(signal.SIGKILL)
        time.sleep(0.001)


def _signal_descendants(number: int) -> int:
    found = _descendants()
    for pid in found:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return len(found)


def _descendants() -> list[int]:
    """Every living process below this one, by the parent links of /proc."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            state, parent = _state(name)
            if state != b"Z":
                parents[int(name)] = parent
    below, found = {os.getpid()}, []
    while grown := [pid for pid, parent in parents.items() if parent in below and pid not in below]:
        below.update(grown)
        found += grown
    return found


def _state(pid: str) -> tuple[bytes, int]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return b"Z", 0
    return fields[0], int(fields[1])


if __name__ == "__main__":
    main(sys.argv[1:])
