"""The release server as the demonstration handles it: started, asked, and ended whatever happens."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from assent.surfaces.demo.promises import PromiseBroken

START_S = 15
ANSWER_S = 5
CAUGHT_S = 15
END_S = 3


class Site:
    """A running release server."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.host = f"127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def url(self, path: str) -> str:
        """The URL of a path on it."""
        return f"http://{self.host}{path}"

    async def count(self, method: str, path: str) -> int:
        """How often the server was asked for this."""
        told = await self._ask({"do": "tell"})
        return sum(count for name, place, count in told["requests"] if (name, place) == (method, path))

    async def document(self, path: str) -> str:
        """The digest of what is stored at a path, or an empty string."""
        told = await self._ask({"do": "tell"})
        digest: str = told["documents"].get(path, "")
        return digest

    async def hold(self, path: str) -> None:
        """Keep back the answer to the next PUT of `path`."""
        await self._ask({"do": "hold", "path": path})

    async def caught(self, path: str) -> bool:
        """Wait until the held PUT of `path` was received and stored; whether it was."""
        told = await self._ask({"do": "await", "path": path, "within_s": CAUGHT_S}, within_s=CAUGHT_S + ANSWER_S)
        return bool(told["caught"])

    async def release(self) -> None:
        """Let go of the clients that wait."""
        await self._ask({"do": "release"})

    async def _ask(self, order: dict[str, Any], *, within_s: float = ANSWER_S) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        return await _line(self._process, within_s)


@asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    """Run a release server for the length of the block.

    Raises:
        PromiseBroken: it does not start.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "assent.surfaces.demo.server",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield Site(process, (await _line(process, START_S))["port"])
    finally:
        await _end(process)


async def _line(process: asyncio.subprocess.Process, within_s: float) -> dict[str, Any]:
    """The next line that the server says."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(within_s):
            line = await process.stdout.readline()
    except TimeoutError:
        raise PromiseBroken("an answer from the release server", found=f"none within {within_s} s") from None
    if not line:
        raise PromiseBroken("the release server to keep running", found="that it ended")
    told: dict[str, Any] = msgspec.json.decode(line)
    return told


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the server by ending its input, and kill it when that is not enough or nobody has the time to wait."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
