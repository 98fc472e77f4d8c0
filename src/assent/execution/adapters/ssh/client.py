"""One connection by the system's `ssh`, and the frames on it.

The client takes no configuration of the user's, asks nobody anything, uses no agent and forwards nothing. It believes
one file of host keys and offers one identity. What runs on the far side is our supervisor, sent as the command itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

SSH = "/usr/bin/ssh"
CONNECT_S = 10
HELLO_S = 20.0
ALIVE_S, ALIVE_COUNT = 5, 3
BEAT_S = 5.0
CLOSE_S = 3.0
STDERR_BYTES_MAX = 4_096
FRAME_BYTES_MAX = 2_097_152
READ_AHEAD_BYTES = 262_144
_HEADER = struct.Struct(">cI")
_FAR = "assent.execution.adapters.ssh.far"
_MODULES = ("tree", "wire", "program", "supervisor")  # each may import those before it
_LOADER = f"""
import sys, types
for name, text in {{sources!r}}.items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
sys.modules["{_FAR}.supervisor"].main()
"""

# What the client says when it gives up, the reason for people, and what to do.
_COMPLAINTS: tuple[tuple[str, str, str], ...] = (
    (
        "IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known: it may be another machine",
        "find out why, then put the new key in `known_hosts`",
    ),
    (
        "Host key verification failed",
        "its host key is not known",
        "put its public host key in the target's `known_hosts`, from a source you trust",
    ),
    ("Permission denied", "it does not accept the identity", "add the public key to `authorized_keys` there"),
    ("Load key", "the identity cannot be used", "check the file, its format and its permissions"),
    ("UNPROTECTED PRIVATE KEY", "others may read the identity", "run `chmod 600` on it"),
    ("Connection refused", "nothing listens at its address", "check host and port, and that its sshd runs"),
    ("timed out", "it does not answer", "check host and port, and the network between"),
    ("Could not resolve", "its name cannot be resolved", "check `host`"),
    ("No route", "there is no way to it", "check the network"),
    ("not found", "there is no `python3` there", "install Python 3.9 or newer there"),
    ("Unknown command", "there is no `python3` there", "install Python 3.9 or newer there"),
)


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How a host is reached: `identity` and `known_hosts` are absolute paths here, `workspace` one there."""

    host: str
    port: int
    user: str
    identity: str
    known_hosts: str
    workspace: str


class Unusable(Exception):
    """The host cannot be used, and why."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


class Lost(Exception):
    """The connection is gone."""


def arguments(access: Access) -> list[str]:
    """The client's argument vector."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _quoted(access.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentityFile": _quoted(access.identity),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "EscapeChar": "none",
        "RequestTTY": "no",
        "LogLevel": "ERROR",
        "ConnectTimeout": str(CONNECT_S),
        "ServerAliveInterval": str(ALIVE_S),
        "ServerAliveCountMax": str(ALIVE_COUNT),
    }
    chosen = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return [SSH, "-F", "none", *chosen, "-p", str(access.port), "-l", access.user, "--", access.host, command()]


@cache
def command() -> str:
    """What runs there: the sources of `far`, small enough for a command line and quoted for any usual shell."""
    folder = Path(__file__).with_name("far")
    sources = {f"{_FAR}.{name}": (folder / f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
    packed = base64.b64encode(zlib.compress(_LOADER.format(sources=sources).encode(), 9)).decode("ascii")
    return f"python3 -I -c 'import base64,zlib;exec(zlib.decompress(base64.b64decode(\"{packed}\")))'"


class Link:
    """A connection whose far side has said what it is (`hello`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout
        self._complaints = bytearray()
        self._complaining = asyncio.ensure_future(self._listen())  # noqa: TID251 (`close` awaits it)
        self.hello: dict[str, Any] = {}

    @classmethod
    async def open(cls, access: Access) -> Link:
        """Connect, verify the host, start the supervisor there and hear what it is.

        Raises:
            Unusable: it cannot be, and why.
        """
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments(access), stdin=pipe, stdout=pipe, stderr=pipe, limit=READ_AHEAD_BYTES,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise Unusable("there is no SSH client here", "install the package openssh-client") from None
        link = cls(process)
        try:
            async with asyncio.timeout(HELLO_S):
                link.hello = await link.expect(b"H")
            link.check_hello()
        except TimeoutError:
            await link.close()
            raise Unusable("it does not answer", "check host and port, and the network between") from None
        except Lost:
            await link.close()
            raise Unusable(*link.complaint()) from None
        except BaseException:
            await link.close()
            raise
        return link

    def check_hello(self) -> None:
        """Raises Unusable when the far host is of another kind than the supervisor needs."""
        if self.hello.get("version") != 1 or self.hello.get("system") != "Linux" or not self.hello.get("proc"):
            told = " ".join(str(self.hello.get(name, "?"))[:40] for name in ("system", "release"))
            raise Unusable(f"it runs `{told}`, and only Linux with /proc is known", "use another host")

    async def read(self) -> tuple[bytes, bytes]:
        """The next frame. Raises Lost."""
        try:
            letter, size = _HEADER.unpack(await self._out.readexactly(_HEADER.size))
            if size > FRAME_BYTES_MAX:
                raise Lost
            return letter, await self._out.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Lost from error

    async def expect(self, letter: bytes) -> Any:
        """The next frame, which must be JSON under `letter`. Raises Lost."""
        came, payload = await self.read()
        if came != letter:
            raise Lost
        return _decoded(payload)

    async def send(self, letter: bytes, payload: bytes = b"") -> None:
        """Send one frame; waits while the connection is full. Raises Lost."""
        try:
            self._in.write(_HEADER.pack(letter, len(payload)) + payload)
            await self._in.drain()
        except OSError as error:
            raise Lost from error

    def complaint(self) -> tuple[str, str]:
        """Why the client gave up: the reason, and what to do."""
        told = self._complaints.decode(errors="replace")
        for part, reason, fix in _COMPLAINTS:
            if part in told:
                return reason, fix
        last = "".join(c for c in (told.strip().splitlines() or ["it ended without a word"])[-1] if c.isprintable())
        return f"the connection ended: {last[:200]}", "try the same host, port and identity with `ssh` by hand"

    async def close(self) -> None:
        """End the connection and wait for the client's end; the far side kills what still runs there. Idempotent."""
        self._in.close()
        self._out_of_the_way()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._process.wait()
        except TimeoutError:
            if self._process.returncode is None:  # `Process.kill` would reap it under the event loop's watcher
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        await asyncio.wait([self._complaining])
        self._transport.close()

    @property
    def _transport(self) -> asyncio.SubprocessTransport:
        """The event loop's own handle, which `Process` does not offer."""
        found: asyncio.SubprocessTransport = self._process._transport  # type: ignore[attr-defined]  # noqa: SLF001
        return found

    def _out_of_the_way(self) -> None:
        """Whatever still comes is not read any more: a full pipe must not keep the client from ending."""
        out = self._transport.get_pipe_transport(1)
        if out is not None:
            out.close()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(STDERR_BYTES_MAX):
            self._complaints += piece
            del self._complaints[:-STDERR_BYTES_MAX]


def decoded(payload: bytes) -> Any:
    """JSON from the far side. Raises Lost when it is none."""
    return _decoded(payload)


def _decoded(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError as error:
        raise Lost from error


def _quoted(path: str) -> str:
    """A path as the client's options take it: in quotes, with `%` doubled. The settings let no quote in."""
    return '"' + path.replace("%", "%%") + '"'
