"""The program of an interpreter's sandbox is this interpreter itself: instead of execve at GO it runs what it is sent.

It was warm before (see `zygote.py`): its imports are done, and what it holds is what every call starts with. It lives
in the finished jail as process 2 and speaks with the supervisor over one socket (`frames.py`), which arrives as its
standard input and is moved out of the way. One call at a time; after a call marked `last` it ends as a Python program
does (threads are waited for, `atexit` runs, files are flushed), after any other it waits for the next and keeps the
namespace.

The caller's code runs in this very process and may break anything here: delete builtins, replace this module's
functions, forge frames. What is put back after every call (builtins, tracing, recursion limit, streams, the interrupt
handler) is a courtesy to honest code. The guarantees are the supervisor's: it believes nothing but a frame with the
nonce of the call, and everything an interpreter can say is about its own session alone.

SIGINT raises KeyboardInterrupt in the caller's code, and does nothing while none runs.
"""

from __future__ import annotations

import _thread  # noqa: PLC2701 - a thread that `threading` does not count among the caller's
import ast
import atexit
import builtins
import contextlib
import fcntl
import gc
import inspect
import json
import linecache
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import GeneratorType, ModuleType
from typing import Any, NoReturn

from . import faults, frames, syscalls, values
from .arrivals import Spec, Streams

SOURCE_NAME = "<call "
ITEM_BYTES_MAX = frames.PIECE_BYTES_MAX - 64
BEAT_S = 0.2
_CHANNEL_FIRST_FD = 10
_RECURSION_MAX = 1_000
_INLINE_BYTES_MAX = 32_768
_execute, _evaluate = exec, eval  # noqa: S307 - there are no such builtins when the caller has deleted them
_TASKS_FIELD = 17  # of /proc/PID/stat, counted from what follows the name
_MANY = 1_000_000
_UNSPEAKABLE = 70  # exit status: the socket is gone


def prepared(spec: Spec, streams: Streams) -> Callable[[], NoReturn]:
    """Make this process a plain interpreter with one channel; what is returned serves it. Nothing of anybody's runs."""
    channel, beats = _settle(spec, streams)
    interpreter = Interpreter(channel)

    def live() -> NoReturn:
        try:
            streams.gate.close()
            interpreter.serve(beats)
        finally:
            os._exit(_UNSPEAKABLE)

    return live


def _settle(spec: Spec, streams: Streams) -> tuple[socket.socket, int]:
    """Streams, environment and modules as a program expects them; every other descriptor is closed."""
    beats = fcntl.fcntl(streams.mounts[-1], fcntl.F_DUPFD_CLOEXEC, _CHANNEL_FIRST_FD) if spec["beats"] else -1
    channel = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _CHANNEL_FIRST_FD)
    kept = sorted(fd for fd in (channel, beats, streams.gate.fileno()) if fd >= 0)
    for first, last in zip([3, *(fd + 1 for fd in kept)], [*(fd - 1 for fd in kept), 0xFFFFFFFF], strict=True):
        if first <= last:
            syscalls.call("close_range", first, last, 0)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    os.environ.clear()
    os.environ.update(spec["env"])
    _hide_ourselves(spec["cwd"])
    _start_chance_anew()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as in any Python program: an OSError instead
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    gc.enable()
    return socket.socket(fileno=channel), beats


def _hide_ourselves(folder: str) -> None:
    """The caller's modules come from the library, the environment and its own folder, in that order."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [*(path for path in sys.path if path != own), folder]
    package = __name__.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    sys.argv[:] = [""]


def _start_chance_anew() -> None:
    """Every call is a copy of one process: without this all would draw the same numbers."""
    random.seed()
    numeric = sys.modules.get("numpy.random")
    if numeric is not None:
        numeric.seed()


class Interpreter:
    """Serves calls until the socket closes."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pid = os.getpid()
        self._running = False
        self._count = 0
        self._buffer = bytearray()
        self._main = ModuleType("__main__")
        self._main.__dict__["__builtins__"] = builtins
        self._plain = _Plain()
        self._own_tasks = 1
        self._stat = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)  # open: there may be no descriptors left
        signal.signal(signal.SIGINT, self._interrupt)

    def serve(self, beats: int) -> NoReturn:
        """Answer frames until there are no more, and count in `beats` meanwhile, unless that is -1."""
        if beats >= 0:
            os.pwrite(beats, (1).to_bytes(8, "little"), 0)  # now: the thread may come too late to show that it lives
            _thread.start_new_thread(_beat, (beats,))
            self._own_tasks = 2
        while True:
            frame = self._receive()
            if frame is None:
                os._exit(0)
            if frame.kind == frames.PING:
                self._send(frames.PONG, frame.nonce, _json({"tasks": self._foreign_tasks()}))
                continue
            self._call(json.loads(frame.payload), frame.nonce)

    def _call(self, call: dict[str, Any], nonce: bytes) -> None:
        self._count += 1
        if self._count == 1:
            os.environ.update(call["env"])
        sys.modules["__main__"] = self._main
        end: dict[str, Any] = {"items": 0}
        result, status = b"null", 1
        try:
            self._running = True
            try:
                result = self._result(call, nonce, end)
                status = 0
            finally:  # before anything is looked up: there may be no `SystemExit` to compare with
                self._running = False
                self._plain.put_back(self._interrupt)
        except SystemExit as leaving:
            status = end["exit"] = _exit_status(leaving)
        except values.TooLarge:
            end["too_large"] = True
        except BaseException as error:  # noqa: BLE001 - whatever the caller's code raises is its result
            end["exception"] = faults.told(error, own=(SOURCE_NAME, call["workspace"]))
            del error
        if os.getpid() != self._pid:
            os._exit(status)  # a fork of the caller's came this far: it has nothing to say here
        self._flush()
        end["tasks"] = self._foreign_tasks()
        self._send_end(nonce, end, result)
        if call["last"]:
            self._leave(status)

    def _result(self, call: dict[str, Any], nonce: bytes, end: dict[str, Any]) -> bytes:
        for name in call["preload"]:
            __import__(name)
        value = self._evaluate(call)
        self._plain.put_back(self._interrupt)
        if inspect.iscoroutine(value):
            import asyncio  # noqa: PLC0415 - only for those who need it; warm in most images

            value = asyncio.run(value)
        if isinstance(value, GeneratorType):
            value = self._stream(value, nonce, end, reprs=call["reprs"])
        self._plain.put_back(self._interrupt)
        return values.Describer(bytes_max=call["result_bytes_max"], reprs=call["reprs"]).text(value)

    def _evaluate(self, call: dict[str, Any]) -> Any:
        """Run the source; its last expression's value, or what the function returns."""
        space = self._main.__dict__
        name = f"{SOURCE_NAME}{self._count}>"
        source: str = call["source"]
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        tree = ast.parse(source, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not call["function"]:
            last = tree.body[-1]
            del tree.body[-1]
        if not call["function"]:
            space["arguments"] = call["arguments"]
        body = compile(tree, name, "exec", dont_inherit=True)
        value = compile(ast.Expression(last.value), name, "eval", dont_inherit=True) if last is not None else None
        _execute(body, space)
        if value is not None:
            return _evaluate(value, space)
        self._plain.put_back(self._interrupt)
        return _found(space, call["function"])(**call["arguments"]) if call["function"] else None

    def _stream(self, items: Iterator[Any], nonce: bytes, end: dict[str, Any], *, reprs: bool) -> Any:
        """Send each item as it comes; what a generator returns at last is the result."""
        while True:
            try:
                item = next(items)
            except StopIteration as over:
                return over.value
            try:
                text = values.Describer(bytes_max=ITEM_BYTES_MAX, reprs=reprs).text(item)
            except values.TooLarge:
                text = b'{"$cut":"bytes"}'
            end["items"] += 1
            self._send(frames.ITEM, nonce, text)

    def _interrupt(self, _number: int, _frame: Any) -> None:
        if self._running:
            raise KeyboardInterrupt

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()

    def _foreign_tasks(self) -> int:
        """Threads that the caller's code has left running."""
        try:
            fields = os.pread(self._stat, 1_024, 0).rpartition(b")")[2].split()
        except OSError:
            return _MANY  # it cannot be told any more, so nobody may take it for none
        return max(0, int(fields[_TASKS_FIELD]) - self._own_tasks)

    def _leave(self, status: int) -> NoReturn:
        """End as a program does."""
        try:
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - what the interpreter itself calls
            atexit._run_exitfuncs()  # noqa: SLF001
            self._main.__dict__.clear()
            gc.collect()
            self._flush()
        finally:
            os._exit(status)

    # The socket

    def _send_end(self, nonce: bytes, end: dict[str, Any], result: bytes) -> None:
        if len(result) > _INLINE_BYTES_MAX:
            for start in range(0, len(result), frames.PIECE_BYTES_MAX):
                self._send(frames.PIECE, nonce, result[start : start + frames.PIECE_BYTES_MAX])
            result = b""
        head = _json(end)
        self._send(frames.END, nonce, b"%d:%b%b" % (len(head), head, result))

    def _send(self, kind: bytes, nonce: bytes, payload: bytes) -> None:
        try:
            self._channel.sendall(frames.packed(kind, nonce, payload))
        except OSError:
            os._exit(_UNSPEAKABLE)

    def _receive(self) -> frames.Frame | None:
        while True:
            frame = frames.taken(self._buffer, payload_bytes_max=frames.PAYLOAD_BYTES_MAX)
            if frame is not None:
                return frame
            try:
                piece = self._channel.recv(frames.PIECE_BYTES_MAX)
            except OSError:
                os._exit(_UNSPEAKABLE)
            if not piece:
                return None
            self._buffer += piece


class _Plain:
    """What honest code may have bent and expects straight again in the next call."""

    def __init__(self) -> None:
        self._builtins = dict(builtins.__dict__)
        self._space = builtins.__dict__
        sys.stdout = sys.__stdout__ = _writer(1)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _writer(2)  # type: ignore[misc]
        self._streams = (sys.stdout, sys.stderr)

    def put_back(self, interrupt: Any) -> None:
        self._space.update(self._builtins)  # first: until then no builtin may be there
        sys.settrace(None)
        sys.setprofile(None)
        threading.settrace(None)
        sys.setrecursionlimit(_RECURSION_MAX)
        sys.stdout, sys.stderr = self._streams
        signal.signal(signal.SIGINT, interrupt)


def _writer(fd: int) -> Any:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _found(space: dict[str, Any], name: str) -> Any:
    if name not in space:
        raise NameError(f"name '{name}' is not defined")
    return space[name]


def _exit_status(leaving: SystemExit) -> int:
    """As the interpreter would end: nothing is 0, a number itself, anything else is printed and 1."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{leaving.code}\n")
    return 1


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode("ascii")


def _beat(fd: int, write: Any = os.pwrite, sleep: Any = time.sleep) -> NoReturn:
    """Count in a place the supervisor reads: it stops while the interpreter lock is held, and when the process does."""
    count = 1
    while True:
        count += 1
        write(fd, count.to_bytes(8, "little"), 0)
        sleep(BEAT_S)
