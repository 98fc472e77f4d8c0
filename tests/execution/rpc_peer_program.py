"""A JSON-RPC peer that behaves as its first argument says. It runs in the sandbox, with the standard library alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODE = sys.argv[1]
HEADED = "headed" in sys.argv
COUNT = sys.argv[3] if len(sys.argv) > 3 else ""
_in, _out = sys.stdin.buffer, sys.stdout.buffer


def put(text: str) -> None:
    data = text.encode()
    _out.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data) if HEADED else data + b"\n")
    _out.flush()


def say(value: Any) -> None:
    put(json.dumps(value))


def listen() -> Any:
    if not HEADED:
        line = _in.readline()
        return json.loads(line) if line else None
    length = 0
    while header := _in.readline().strip():
        length = int(header.split(b":")[1])
    return json.loads(_in.read(length)) if length else None


def answer(call: Any) -> Any:
    method, params = call["method"], call.get("params")
    if method == "fail":
        return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": "no", "data": {"why": 1}}}
    results = {"echo": params, "pid": os.getpid(), "add": sum(params) if isinstance(params, list) else None}
    return {"jsonrpc": "2.0", "id": call["id"], "result": results.get(method)}


def well() -> None:
    print("listening", file=sys.stderr, flush=True)
    while (call := listen()) is not None:
        if isinstance(call, list):
            say([answer(one) for one in reversed(call) if "id" in one])
        elif "id" in call:
            say(answer(call))
        else:
            log(call)


def log(call: Any) -> None:
    with Path("told.txt").open("a", encoding="utf-8") as file:
        file.write(json.dumps(call) + "\n")


def flood(line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        while True:
            _out.write(line)


def daemon() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("python3", ["python3", "-I", "-S", "-c", "import time; time.sleep(600)", COUNT])
        os._exit(0)
    os.wait()


def ok(id_: Any, result: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "result": result}


def put_deep(id_: Any) -> None:
    put(f'{{"jsonrpc":"2.0","id":{id_},"result":' + "[" * 100_000 + "]" * 100_000 + "}")


def sleep() -> None:
    time.sleep(600)


def never() -> None:
    log(listen())
    sleep()


def half() -> None:
    _out.write(b'{"jsonrpc":"2.0","id":1,"resu')
    _out.flush()
    os._exit(3)


def ask_and_answer(id_: Any) -> None:
    say({**NOTE, "id": "mine"})
    say(ok(id_, listen()))


def noisy(id_: Any) -> None:
    put("Server ready!")
    say(ok(id_))


def twice(id_: Any, again: Any) -> None:
    say(ok(id_))
    say(ok(again, 2))


def shout(id_: Any) -> None:
    """Two megabytes beside the protocol, and then the answer."""
    for _ in range(2_000):
        sys.stderr.write("x" * 999 + "\n")
    say(ok(id_))


def loud_and_never() -> None:
    print("here", file=sys.stderr, flush=True)
    sleep()


def stubborn() -> None:
    daemon()
    sleep()


NOTE = {"jsonrpc": "2.0", "method": "tick", "params": {}}
UNREADABLE = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "parse error"}}
DEEDS: dict[str, Callable[[Any, Any], object]] = {
    "endless-line": lambda _call, _id: flood(b'{"x":"' + b"x" * 65_536),
    "garbage": lambda _call, _id: flood(bytes(range(1, 255)) * 200),
    "huge-length": lambda _call, _id: _out.write(b"Content-Length: 99999999999\r\n\r\n{}"),
    "negative-length": lambda _call, _id: _out.write(b"Content-Length: -5\r\n\r\n{}"),
    "two-lengths": lambda _call, _id: _out.write(b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}"),
    "wrong-id": lambda _call, id_: say(ok(id_ + 41)),
    "text-id": lambda _call, id_: say(ok(str(id_))),
    "no-id": lambda _call, _id: say(ok(None)),
    "eager": lambda _call, _id: None,
    "next": lambda _call, id_: twice(id_, id_ + 1),
    "unreadable": lambda _call, _id: say(UNREADABLE),
    "twice": lambda _call, id_: twice(id_, id_),
    "never": lambda _call, _id: never(),
    "half": lambda _call, _id: half(),
    "deep": lambda _call, id_: put_deep(id_),
    "nan": lambda _call, id_: put(f'{{"jsonrpc":"2.0","id":{id_},"result":NaN}}'),
    "two-keys": lambda _call, id_: put(f'{{"jsonrpc":"2.0","id":{id_},"result":1,"result":2}}'),
    "notes": lambda _call, _id: flood(json.dumps(NOTE).encode() + b"\n"),
    "asks": lambda _call, _id: flood(json.dumps({**NOTE, "id": 1}).encode() + b"\n"),
    "large": lambda _call, id_: put(json.dumps(ok(id_, "x" * int(COUNT)))),
    "short-batch": lambda call, _id: say([ok(one["id"]) for one in call[:-1]]),
    "stubborn": lambda _call, _id: stubborn(),
    "asks-and-answers": lambda _call, id_: ask_and_answer(id_),
    "shout": lambda _call, id_: shout(id_),
    "loud-and-never": lambda _call, _id: loud_and_never(),
    "noisy": lambda _call, id_: noisy(id_),
}


def hostile(mode: str) -> None:
    if mode == "eager":
        say(ok(1))
        say(ok(2))
    call = listen()
    DEEDS[mode](call, None if isinstance(call, list) else call["id"])
    _out.flush()
    while listen() is not None:
        pass


with Path("begun.txt").open("a", encoding="utf-8") as begun:
    begun.write("x")
with contextlib.suppress(BrokenPipeError):
    well() if MODE == "well" else hostile(MODE)
