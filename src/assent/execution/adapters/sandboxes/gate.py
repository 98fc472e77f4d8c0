"""The supervisor's end of a run's gate: one SEQPACKET socket on which builder, program and warden say a few fixed
words.

The kernel stamps every message with its sender's pid (SO_PASSCRED), translated into our process namespace; that is
how the supervisor knows which process is about to become the program, without believing anybody's word for it.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from functools import partial

import msgspec

_WORD_BYTES_MAX = 2048
_CREDENTIALS = struct.Struct("3i")
_CONTROL_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * array.array("i").itemsize)


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One message: its letter (empty when everybody has closed the gate), the rest, who sent it, descriptors."""

    letter: str
    text: str = ""
    pid: int = 0
    fds: tuple[int, ...] = ()

    @property
    def pid_told(self) -> int:
        """The pid that a `P` word names."""
        return int(self.text)


class Gate:
    """A gate and, until `opened`, the other end of it (`inner`, to be handed to the sandbox and then closed here)."""

    def __init__(self) -> None:
        self._socket, self.inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)

    def handed_over(self) -> None:
        """Close our copy of the inner end, so that the gate closes with its last holder inside."""
        self.inner.close()

    async def word(self) -> Word:
        """Wait for the next message."""
        while (word := self.word_now()) is None:
            await self._readable()
        return word

    def word_now(self) -> Word | None:
        """The next message if one is there."""
        try:
            data, control, _flags, _address = self._socket.recvmsg(
                _WORD_BYTES_MAX, _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except ConnectionError:
            return Word(letter="")
        pid, fds = _control(control)
        text = data.decode(errors="replace")
        return Word(letter=text[:1], text=text[2:], pid=pid, fds=fds)

    def say(self, word: bytes) -> None:
        """Send a word in; a gate that nobody holds any more swallows it."""
        try:
            self._socket.send(word)
        except (BrokenPipeError, ConnectionError, BlockingIOError):
            return

    def close(self) -> None:
        """Close both ends."""
        self._socket.close()
        self.inner.close()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._socket, partial(settle, ready))
        try:
            await ready
        finally:
            loop.remove_reader(self._socket)


def listener_of(word: Word | None) -> socket.socket | None:
    """The listening socket that came with an `N` word, ready for an event loop."""
    if word is None or len(word.fds) != 1:
        close_fds({"N": word} if word is not None else {})
        return None
    listener = socket.socket(fileno=word.fds[0])
    listener.setblocking(False)
    return listener


def close_fds(words: Mapping[str, Word]) -> None:
    """Close every descriptor that came with words that are of no use any more."""
    for word in words.values():
        for fd in word.fds:
            os.close(fd)


def settle(ready: asyncio.Future[None]) -> None:
    """Mark a wait as over; a descriptor may be reported ready more than once."""
    if not ready.done():
        ready.set_result(None)


def _control(messages: list[tuple[int, int, bytes]]) -> tuple[int, tuple[int, ...]]:
    pid, fds = 0, array.array("i")
    for level, kind, data in messages:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack_from(data)[0]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return pid, tuple(fds)
