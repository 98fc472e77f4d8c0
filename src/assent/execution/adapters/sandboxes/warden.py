"""Process 1 of a sandbox: starts the program as process 2, reaps, watches the limits that rlimits cannot express,
reports.

A program that were process 1 itself would not feel its own signals (the kernel shields an init from them) and would
have to reap strangers' children. The warden is confined exactly as the program is, cannot be traced or read by it
(not dumpable, and the filter denies the calls), and the kernel does not let its own namespace kill it. When the
program ends the warden reports and ends; the kernel then kills whatever is left in the namespace, so nothing survives
an orderly end either.

SIGTERM to the warden means: ask everybody to stop. SIGKILL means: now; the supervisor needs nobody's help for that.
A real-time signal of `RELAYED` means: send that signal to the program's process group. The warden knows which that is
as long as it has not collected the program; from outside its number could belong to somebody else by now.
A gate that closes means that the supervisor is gone: everybody ends, also when the spawner, whose death would do the
same, hangs and does not die.

What no per-process limit bounds it looks at from time to time (`meter.py`), and ends the tree when a limit is passed.

Its report is one message: `E status user_us system_us maxrss_kb minor major voluntary involuntary limit looks processes
memory_bytes disk_bytes`, where `status` is the raw wait status of the program, `limit` is `memory`, `cpu`, `disk` or
`-`, and the last three are the most that was seen in so many looks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import termios
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from . import syscalls
from .arrivals import Spec, Streams, fail
from .meter import Meter

RELAYED = ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "KILL")
_RELAYS = {signal.SIGRTMIN + 1 + place: signal.Signals[f"SIG{name}"] for place, name in enumerate(RELAYED)}
_WATCHED = (signal.SIGCHLD, signal.SIGTERM, *_RELAYS)


def relay_of(name: str) -> int:
    """The signal that asks a warden to send `name` to the program's process group."""
    return signal.SIGRTMIN + 1 + RELAYED.index(name)


def relay(number: int, program: int) -> None:
    """Do what `relay_of` asks for, when `number` is one of those. `program` leads its group and is not collected."""
    if number in _RELAYS:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program, _RELAYS[number])


def split(spec: Spec, streams: Streams) -> NoReturn:
    """Fork: the child becomes the program behind the gate, this process its warden."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # before there is a program that could be faster than this process
    program = os.fork()
    if program == 0:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # or the supervisor could not read it at the gate
        become(spec, streams)
    for fd in (*held_by_program(spec, streams), *streams.mounts):
        _close(fd)
    watch(program, streams.gate, spec)


def held_by_program(spec: Spec, streams: Streams) -> list[int]:
    """The standard streams that the process above a program lets go of: not the terminal (see `terminals.py`)."""
    return streams.standard[1:] if spec.get("pty") else streams.standard


def become(spec: Spec, streams: Streams) -> NoReturn:
    """Wait at the gate, then turn into the program. Says `F` or `X` when that fails."""
    try:
        os.setsid()
        for target, fd in enumerate(streams.standard):
            os.dup2(fd, target)
        if spec.get("pty"):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        syscalls.close_on_exec_from(3)
        os.chdir(spec["cwd"])
        os.umask(0o022)
        _forget_signals()
        limit(spec["limits"])
        act = _prepared(spec, streams)
        streams.gate.send(b"R")
        if streams.gate.recv(16) != b"G":
            os._exit(125)
    except BaseException as error:  # noqa: BLE001 - the child of a fork must not run the parent's code
        fail(streams.gate, "program", error)
    act()


def _prepared(spec: Spec, streams: Streams) -> Callable[[], NoReturn]:
    """What the program is, ready to begin: another program, or the interpreter that this process already is."""
    if spec.get("interpreter"):
        from . import interpreter  # noqa: PLC0415 - a plain spawner never needs it; a zygote has it loaded

        return interpreter.prepared(spec, streams)
    return partial(_execute, spec, streams)


def _execute(spec: Spec, streams: Streams) -> NoReturn:
    try:
        streams.gate.send(b"X %d" % execute(spec["argv"], spec["env"]))
    finally:
        os._exit(127)


def limit(limits: dict[str, int]) -> None:
    """Set the resource limits of this process; inside the user namespace the process count is the sandbox's own."""
    for name, value in limits.items():
        number = getattr(resource, name)
        ceiling = resource.getrlimit(number)[1]  # the node may allow less than the order does
        held = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        above = held + 1 if name == "RLIMIT_CPU" and ceiling == resource.RLIM_INFINITY else held
        resource.setrlimit(number, (held, above))


def execute(argv: list[str], env: dict[str, str]) -> int:
    """execve, searching PATH as execvp does. Returns the error number that says most."""
    reason = 2  # ENOENT
    folders = [""] if "/" in argv[0] else [f"{folder}/" for folder in env.get("PATH", "").split(":") if folder]
    for folder in folders:
        try:
            os.execve(folder + argv[0], argv, env)  # noqa: S606 - this is the point
        except OSError as error:
            if error.errno not in (2, 20):  # neither ENOENT nor ENOTDIR: found, but could not be run
                reason = error.errno or reason
    return reason


def watch(program: int, gate: socket.socket, spec: Spec) -> NoReturn:
    """Reap and measure until the program ends, report, and end (which ends the namespace)."""
    tripped, meter = "-", Meter(spec, _others)
    supervisor = select.poll()
    supervisor.register(gate, 0)  # its end only: a waiting `G` is the program's
    while True:
        caught = signal.sigtimedwait(_WATCHED, meter.wait_s)
        if caught is not None and caught.si_signo == signal.SIGTERM:
            _signal_all(signal.SIGTERM)
        elif caught is not None:
            relay(caught.si_signo, program)
        ended = reap(program)
        if ended is not None:
            report(gate, *ended, tripped, meter)
        if meter.wait_s == 0:
            if supervisor.poll(0):
                os._exit(0)  # and the namespace with it
            found = meter.look()
            tripped = found if tripped == "-" else tripped
            if tripped != "-":
                _signal_all(signal.SIGKILL)


def report(gate: socket.socket, status: int, usage: resource.struct_rusage, tripped: str, meter: Meter) -> NoReturn:
    """Send the one `E` message and end."""
    times = (int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6))
    counts = (usage.ru_maxrss, usage.ru_minflt, usage.ru_majflt, usage.ru_nvcsw, usage.ru_nivcsw)
    seen = (meter.looks, meter.processes, meter.memory_bytes, meter.disk_bytes)
    try:
        gate.send(f"E {status} {' '.join(map(str, (*times, *counts, tripped, *seen)))}".encode())
    finally:
        os._exit(0)


def reap(program: int) -> tuple[int, resource.struct_rusage] | None:
    """Collect everything that has ended; the program's own status and usage when it has."""
    ended = None
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        if pid == program:
            ended = (status, usage)


def _others() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def _signal_all(number: int) -> None:
    try:
        os.kill(-1, number)  # everybody in the process namespace but process 1
    except ProcessLookupError:
        return


def _forget_signals() -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return
