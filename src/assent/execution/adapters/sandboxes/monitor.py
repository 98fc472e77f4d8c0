"""Between a sandbox's streams and the guest in it: starts the machine, and carries frames (see `guest.py`).

It runs as the program of an ordinary namespaced sandbox, with the virtual machine's monitor as its child, so both are
confined as any program is. Through two named pipes it tells the supervisor what the guest said of itself, and waits for
the word to go on; the order lies in a file beside them. It ends as the guest's program ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from typing import Any, NoReturn

HEAD = struct.Struct(">cI")
PIECE_BYTES, FRAME_BYTES_MAX = 32_768, 1_048_576
HELLO, GO, ORDER = "hello", "go", "order.json"


def main(arguments: list[str]) -> NoReturn:
    """`arguments`: the control folder."""
    folder = arguments[0]
    with open(os.path.join(folder, ORDER), encoding="utf-8") as file:
        told = json.load(file)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    command = [word.replace("{port}", str(theirs.fileno())) for word in told["machine"]]
    with theirs:
        machine = subprocess.Popen(
            command, env={}, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
    _say_hello(folder, ours, machine)
    with open(os.path.join(folder, GO), "rb", buffering=0) as file:
        if file.read(1) != b"G":
            os._exit(125)
    _say(ours, b"o", json.dumps(told["order"]).encode())
    _end(_carry(ours))


def _say_hello(folder: str, port: socket.socket, machine: subprocess.Popen[bytes]) -> None:
    """What the guest said first, or the monitor's complaint when it said nothing."""
    kind, text = _hear(port)
    if kind != b"h":
        complaint = machine.stderr.read(2000) if machine.stderr is not None else b""
        text = json.dumps({"failed": complaint.decode(errors="replace").strip() or "the guest ended"}).encode()
    with open(os.path.join(folder, HELLO), "wb", buffering=0) as file:
        file.write(text + b"\n")
    if kind != b"h":
        os._exit(125)


def _carry(port: socket.socket) -> dict[str, Any]:
    """Input in, output out, until the guest says how it ended; `{}` when it is gone without a word."""
    poll = select.poll()
    poll.register(port, select.POLLIN)
    poll.register(0, select.POLLIN)
    while True:
        for fd, _events in poll.poll():
            if fd == 0:
                piece = os.read(0, PIECE_BYTES)
                _say(port, b"i" if piece else b"e", piece)
                if not piece:
                    poll.unregister(0)
                continue
            kind, text = _hear(port)
            if kind in (b"1", b"2"):
                _write(int(kind), text)
            elif kind == b"x":
                ended: dict[str, Any] = json.loads(text)
                return ended
            elif not kind:
                return {}


def _end(ended: dict[str, Any]) -> NoReturn:
    """End as the program did."""
    if "failed" in ended:
        _write(2, f"the guest could not carry the order: {ended['failed']}\n".encode())
        os._exit(125)
    code = os.waitstatus_to_exitcode(ended["status"]) if ended else -signal.SIGTERM
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(max(code, 0))


def _write(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text) :]


def _say(port: socket.socket, kind: bytes, text: bytes) -> None:
    try:
        port.sendall(HEAD.pack(kind, len(text)) + text)
    except OSError:
        return  # it is gone, which the next `_hear` says


def _hear(port: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(port, HEAD.size)
    if len(head) < HEAD.size:
        return b"", b""
    kind, length = HEAD.unpack(head)
    if length > FRAME_BYTES_MAX:  # a guest that was taken over may say anything
        return b"", b""
    return kind, _exactly(port, length)


def _exactly(port: socket.socket, count: int) -> bytes:
    held = b""
    while len(held) < count:
        try:
            piece = port.recv(count - len(held))
        except OSError:
            break
        if not piece:
            break
        held += piece
    return held


if __name__ == "__main__":
    main(sys.argv[1:])
