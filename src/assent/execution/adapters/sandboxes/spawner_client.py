"""The supervisor's side of the warm spawner: start it lazily, hand it requests, notice its death, start another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec

from assent.execution.adapters.sandboxes.gate import Gate, Word, settle
from assent.primitives.errors import Unavailable

START_WAIT_S = 10.0
# The folder that holds the `sandboxes` package goes last on the path: its neighbours must not shadow the library.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from sandboxes import {module}; {module}.main(sys.argv[2:])"


def python_command(module: str, *arguments: str) -> list[str]:
    """A small, isolated interpreter that runs one of this package's child-side modules."""
    if not sys.executable:
        raise Unavailable(
            "sandbox_failed", "this interpreter does not know its own path", hint="run Assent from a python"
        )
    folder = str(Path(__file__).resolve().parent.parent)
    return [sys.executable, "-I", "-S", "-B", "-c", _BOOT.format(module=module), folder, *arguments]


class Warm(msgspec.Struct, frozen=True, kw_only=True):
    """What a zygote has beyond a spawner: folders of further modules, and the modules it imports before all else."""

    folders: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, str]:
        """As the zygote is told."""
        return json.dumps(self.folders), json.dumps(self.imports)


class Spawner:
    """One running spawner process."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, uid: int, gid: int) -> None:
        self._process, self._control = process, control
        self.pid, self.uid, self.gid = process.pid, uid, gid
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, *, drop_to: int | None, warm: Warm | None = None) -> Spawner:
        """Start a spawner that gives up root for `drop_to` when that is set; with `warm` it is a zygote.

        Raises:
            Unavailable: it did not come up.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        user = "-" if drop_to is None else str(drop_to)
        module, more = ("spawner", ()) if warm is None else ("zygote", warm.arguments)
        command = python_command(module, str(theirs.fileno()), str(os.getpid()), user, user, *more)
        with theirs:
            process = await asyncio.to_thread(_launch, command, theirs.fileno())
        try:
            async with asyncio.timeout(START_WAIT_S):
                hello = (await asyncio.get_running_loop().sock_recv(ours, 256)).decode().split()
            return cls(process, ours, int(hello[1]), int(hello[2]))
        except asyncio.CancelledError:
            ours.close()
            process.kill()
            raise
        except (TimeoutError, OSError, IndexError) as error:
            ours.close()
            process.kill()
            complaint = await asyncio.to_thread(_last_line, process)
            raise Unavailable("sandbox_failed", f"the spawner did not start: {complaint}") from error

    async def request(self, word: bytes, fds: list[int]) -> None:
        """Hand over one request. The answer comes on the request's gate.

        Raises:
            Unavailable: the spawner is gone.
        """
        async with self._turn:
            while True:
                try:
                    socket.send_fds(self._control, [word], fds)
                except BlockingIOError:
                    await self._writable()
                except OSError as error:
                    raise Unavailable("sandbox_failed", f"the spawner is gone: {error.strerror}") from error
                else:
                    return

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    async def close(self) -> None:
        """Close the control socket, which ends the spawner, and collect it."""
        self._control.close()
        if self._process.stderr is not None:
            self._process.stderr.close()
        try:
            await asyncio.to_thread(self._process.wait, 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._control, partial(settle, ready))
        try:
            await ready
        finally:
            loop.remove_writer(self._control)


async def await_clone(gate: Gate) -> Word:
    """Wait for the spawner's `P pid`, which carries the pidfd.

    Raises:
        Unavailable: the clone failed or the spawner is gone.
    """
    word = await gate.word()
    if word.letter != "P":
        raise Unavailable("sandbox_failed", f"the sandbox was not cloned: {word.text or 'the spawner is gone'}")
    return word


def _launch(command: list[str], control: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, env={}, cwd="/", pass_fds=(control,), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def _last_line(process: subprocess.Popen[bytes]) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        lines = (process.communicate(timeout=2)[1] or b"").decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with status {process.returncode}"
    return "it hangs"
