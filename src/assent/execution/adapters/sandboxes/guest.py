"""The guest's side of a virtual machine: says who it is, waits for the order, runs it, and hands its streams over.

Stand-alone: its text is handed to an interpreter inside the guest, as the guest's process 1. It speaks frames over one
port (a byte that says what, four bytes of length, the bytes): `h` hello, `o` order, `i` input and `e` its end, `1` and
`2` output, `t` the wish that everybody stop, `x` the end. The program is an ordinary user of the guest, with limits, no
new privileges, a session of its own, and nothing inherited; when it ends the guest is switched off, and with it
everything else in there.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from typing import Any

HEAD = struct.Struct(">cI")
PIECE_BYTES = 32_768
PORT_WAIT_S = 30.0
_POWER_OFF, _REBOOT_MAGIC, _REBOOT_MAGIC_2 = 0x4321FEDC, 0xFEE1DEAD, 672274793
_REBOOT, _NO_NEW_PRIVS = (169 if os.uname().machine == "x86_64" else 142), 38
_libc = ctypes.CDLL(None, use_errno=True)


def main(nonce: str) -> None:
    """Serve one order and switch the machine off."""
    port = os.open(_port(), os.O_RDWR)
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    say(port, b"h", json.dumps({"nonce": nonce, "boot": boot, "release": os.uname().release}).encode())
    kind, text = hear(port)
    try:
        if kind == b"o":
            say(port, b"x", json.dumps(carried(port, json.loads(text))).encode())
            hear(port)  # the other side has it, and goes: then nothing is lost in the switching off
    finally:
        _libc.syscall(_REBOOT, _REBOOT_MAGIC, _REBOOT_MAGIC_2, _POWER_OFF, 0)


def carried(port: int, order: dict[str, Any]) -> dict[str, Any]:
    """How the order ended, or why it could not be carried."""
    try:
        share(order)
        ended = run(port, order)
        os.sync()  # into the host's files, before it is told
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody outside waits for it
        return {"failed": f"{type(error).__name__}: {error}"}
    return ended


def _port() -> str:
    """The one port of the machine; its device appears some time after the driver, under a number of the kernel's."""
    until = time.monotonic() + PORT_WAIT_S
    while time.monotonic() < until:
        for name in os.listdir("/dev"):
            if name.startswith("vport"):
                return f"/dev/{name}"
        time.sleep(0.02)
    raise FileNotFoundError("no virtio port")


def share(order: dict[str, Any]) -> None:
    """The workspace, which the monitor shares on its own, over its place in the shared root."""
    options = b"trans=virtio,version=9p2000.L,cache=mmap,msize=262144"
    flags = 0 if order["writable"] else 1
    os.makedirs(order["workspace"], exist_ok=True)  # below /tmp it is hidden by the guest's own
    if _libc.mount(b"workspace", os.fsencode(order["workspace"]), b"9p", flags, options) != 0:
        raise OSError(ctypes.get_errno(), "the workspace cannot be mounted")
    os.makedirs(order["home"], 0o700, exist_ok=True)
    os.chown(order["home"], order["uid"], order["uid"])


def say(port: int, kind: bytes, text: bytes) -> None:
    """One frame."""
    left = HEAD.pack(kind, len(text)) + text
    while left:
        left = left[os.write(port, left) :]


def hear(port: int) -> tuple[bytes, bytes]:
    """The next frame; `(b"", b"")` when the other side is gone."""
    head = _exactly(port, HEAD.size)
    if len(head) < HEAD.size:
        return b"", b""
    kind, length = HEAD.unpack(head)
    return kind, _exactly(port, length)


def run(port: int, order: dict[str, Any]) -> dict[str, Any]:
    """Run the program of an order to its end, its streams over the port."""
    inside = [os.pipe() for _ in range(3)]
    program = os.fork()
    if program == 0:
        become(order, [inside[0][0], inside[1][1], inside[2][1]])
    for fd in (inside[0][0], inside[1][1], inside[2][1]):
        os.close(fd)
    sources = {inside[1][0]: b"1", inside[2][0]: b"2"}
    status, usage = serve(port, program, inside[0][1], sources)
    return {"status": status, "user_us": int(usage.ru_utime * 1e6), "system_us": int(usage.ru_stime * 1e6)}


def serve(port: int, program: int, feed: int, sources: dict[int, bytes]) -> tuple[int, resource.struct_rusage]:
    """Carry input in and output out until the program has ended and its pipes are empty."""
    poll = select.poll()
    for fd in (port, *sources):
        poll.register(fd, select.POLLIN)
    ended = None
    while True:
        quiet = True
        for fd, _events in poll.poll(50):
            if fd == port:
                feed = _obey(*hear(port), program=program, feed=feed)
                continue
            piece = os.read(fd, PIECE_BYTES)
            if piece:
                quiet = False
                say(port, sources[fd], piece)
            else:
                poll.unregister(fd)
        if ended is not None and quiet:
            return ended
        ended = _reaped(program) or ended


def become(order: dict[str, Any], streams: list[int]) -> None:
    """Turn into the program. Never returns."""
    try:
        os.setsid()
        for target, fd in enumerate(streams):
            os.dup2(fd, target)
        os.closerange(3, 256)
        for name, value in order["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        os.chdir(order["cwd"])
        os.setgroups([])
        os.setresgid(order["uid"], order["uid"], order["uid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
        _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.umask(0o022)
        for number in (signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - this is the point
    except OSError as error:
        os.write(2, f"cannot be run: {error}\n".encode())
    finally:
        os._exit(127)


def _obey(kind: bytes, text: bytes, *, program: int, feed: int) -> int:
    if kind == b"i" and feed >= 0:
        try:
            os.write(feed, text)
        except OSError:
            kind = b"e"
    if kind == b"e" and feed >= 0:
        os.close(feed)
        feed = -1
    if kind == b"t":
        os.killpg(program, signal.SIGTERM)
    return feed


def _reaped(program: int) -> tuple[int, resource.struct_rusage] | None:
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


def _exactly(port: int, count: int) -> bytes:
    held = b""
    while len(held) < count:
        piece = os.read(port, count - len(held))
        if not piece:
            break
        held += piece
    return held


if __name__ == "__main__":
    main(sys.argv[1])
