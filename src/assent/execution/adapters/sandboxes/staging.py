"""The supervisor's side of the second stage: start it, and collect what it says until it waits at the gate."""

from __future__ import annotations

import asyncio
import fcntl
import marshal
import os
import subprocess
from collections.abc import Callable
from typing import Any

from assent.execution.adapters.sandboxes.gate import Gate, Word, close_fds, listener_of
from assent.execution.adapters.sandboxes.spawner_client import python_command
from assent.execution.adapters.sandboxes.streams import Streams, sealed_memory
from assent.primitives.errors import Unavailable

STAGE_WAIT_S = 20.0
_WORDS = ("L", "N", "R")


class Stage:
    """A started second stage, waiting at its gate.

    `said` is what it told of itself before (its `L` word), `listener` the socket it handed out (with its `N` word).
    """

    def __init__(self, process: subprocess.Popen[bytes], gate: Gate, words: dict[str, Word]) -> None:
        self.process, self.gate = process, gate
        self.program_pid = words["R"].pid
        self.said = words["L"].text if "L" in words else ""
        self.listener = listener_of(words.get("N"))


async def start_stage(
    mode: str,
    spec: dict[str, Any],
    streams: Streams,
    *,
    wrap: Callable[[list[str]], list[str]] = lambda command: command,
    pass_fds: tuple[int, ...] = (),
    user: tuple[int, int] | None = None,
    above: int = 0,
) -> Stage:
    """Start the stage, its command rewritten by `wrap`, and wait until the program is ready.

    The process is started from the event loop's own thread: a parent-death signal follows the thread that forked. It
    is `user`'s when that is given. No descriptor of the stage has a number below `above`.

    Raises:
        Unavailable: it failed to build; nothing of the order has run.
    """
    gate = Gate()
    memory = sealed_memory(marshal.dumps(spec))
    inner = [memory, gate.inner.fileno(), *streams.inner]
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in inner] if above else []
    inner = lifted or inner
    uid, gid = user or (None, None)
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - see above
            wrap(python_command("stage", mode, *map(str, inner))), env={}, cwd="/", pass_fds=(*inner, *pass_fds),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
            user=uid, group=gid, extra_groups=[] if user else None,
        )  # fmt: skip
    except OSError as error:
        gate.close()
        raise Unavailable("sandbox_failed", f"the sandbox could not be started: {error.strerror}") from error
    finally:
        for fd in (memory, *lifted):
            os.close(fd)
    gate.handed_over()
    streams.handed_over()
    try:
        return Stage(process, gate, await _ready(process, gate))
    except BaseException:
        gate.close()
        _discard(process)
        raise


def _discard(process: subprocess.Popen[bytes]) -> None:
    """End a stage that came to nothing, and leave neither a zombie nor a pipe. A kill is not waited for long."""
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


async def collect(process: subprocess.Popen[bytes]) -> str:
    """Reap an ended stage and return its last complaint."""
    _out, complaint = await asyncio.to_thread(process.communicate)
    lines = (complaint or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


async def _ready(process: subprocess.Popen[bytes], gate: Gate) -> dict[str, Word]:
    """The words of the stage by their letters, the last of which is `R`."""
    words: dict[str, Word] = {}
    try:
        async with asyncio.timeout(STAGE_WAIT_S):
            while "R" not in words:
                word = await _good(process, gate)
                words[word.letter] = word
    except TimeoutError as error:
        close_fds(words)
        raise Unavailable("sandbox_failed", f"the sandbox was not built within {STAGE_WAIT_S} s") from error
    except BaseException:
        close_fds(words)
        raise
    return words


async def _good(process: subprocess.Popen[bytes], gate: Gate) -> Word:
    word = await gate.word()
    if word.letter not in _WORDS:
        complaint = word.text or await collect(process)
        raise Unavailable("sandbox_failed", f"the sandbox was not built: {complaint or 'its builder is gone'}")
    return word
