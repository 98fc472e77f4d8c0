"""A broker on a listening socket of the test's own, and a program that talks to it in raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Self

from assent.execution.adapters.dialing import Dialer
from assent.execution.adapters.egress import Broker, EgressLimits
from assent.execution.hosts import allow_list
from tests.execution.sites import RealClock, pinned

WAIT_S = 10


class Brokered:
    """A running broker. `say` is one connection of the program: what is sent, and all that comes back until the end."""

    def __init__(self, *hosts: str, resolver=None, limits: EgressLimits | None = None, backlog: int = 128) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.hosts = hosts
        self._limits = limits
        self._dialer = Dialer(resolver=resolver or pinned(allowed_test=["127.0.0.1"]))

    async def __aenter__(self) -> Self:
        self.broker = Broker(
            self._listener, allowed=allow_list(self.hosts), dialer=self._dialer, clock=RealClock(), limits=self._limits
        )
        self.task = asyncio.ensure_future(self.broker.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.broker.finish()
        await asyncio.wait([self.task], timeout=WAIT_S)
        assert self.task.done()

    @property
    def facts(self):
        return self.broker.facts()

    @property
    def contact(self):
        """The one contact of the record."""
        (only,) = self.facts["connections"]
        return only

    async def settled(self) -> None:
        """Wait until every allowed connection has ended."""
        async with asyncio.timeout(WAIT_S):
            while any(one["verdict"] == "allowed" and not one["ended"] for one in self.facts["connections"]):  # noqa: ASYNC110
                await asyncio.sleep(0.005)  # the record tells nobody that it changed

    async def connect(self) -> Program:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return Program(reader, writer)

    async def say(self, *pieces: bytes, half_close: bool = False) -> bytes:
        async with asyncio.timeout(WAIT_S), await self.connect() as program:
            for piece in pieces:
                await program.send(piece)
            if half_close:
                program.writer.write_eof()
            return await program.rest()


class Program:
    """One connection of the program."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def head(self) -> bytes:
        """One head of an answer, its empty line included."""
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> bytes:
        """One answer with a `Content-Length`: its body."""
        head = await self.head()
        (length,) = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        return await self.reader.readexactly(int(length.split(b":")[1]))

    async def rest(self) -> bytes:
        """Everything until the end, however it comes; `RESET` is added when the end was one."""
        came = b""
        with contextlib.suppress(asyncio.IncompleteReadError):
            try:
                while data := await self.reader.read(65_536):
                    came += data
            except ConnectionError:
                came += b"RESET"
        return came


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


def listed(port: int, *more: str) -> Sequence[str]:
    """`allowed.test` at `port`, with its address named so that loopback may stand in for the world."""
    return (f"allowed.test:{port}", f"127.0.0.1:{port}", *more)
