"""A hostile MCP server: behaves as its first argument says. It runs in the sandbox, with the standard library alone."""

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
MORE = sys.argv[2] if len(sys.argv) > 2 else ""


def say(value: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **value}) + "\n")
    sys.stdout.flush()


def listen() -> Any:
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def tool(name: str, about: str = "A tool.", **more: Any) -> dict[str, Any]:
    return {"name": name, "description": about, "inputSchema": {"type": "object"}, **more}


def text(words: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}]}


class Server:
    """One that behaves; the others differ in one thing each."""

    version = "2025-11-25"

    def __init__(self) -> None:
        self.called = self.listed = 0

    def serve(self) -> None:
        while (call := listen()) is not None:
            if "id" in call and "method" in call:
                self.answer(call)
            else:
                self.told(call)

    def told(self, call: Any) -> None:
        with Path("told.txt").open("a", encoding="utf-8") as file:
            file.write(json.dumps(call) + "\n")

    def answer(self, call: Any) -> None:
        match call["method"]:
            case "initialize":
                self.told(call)
                result: Any = {"protocolVersion": self.version, "capabilities": {"tools": {}}, "serverInfo": {}}
            case "tools/list":
                self.listed += 1
                result = self.listing(call.get("params") or {})
            case "tools/call":
                self.called += 1
                result = self.result(call)
            case _:
                result = {}
        say({"id": call["id"], "result": result})

    def listing(self, params: Any) -> Any:
        return {"tools": [tool("do")]}

    def result(self, call: Any) -> Any:
        return text(f"call {self.called}")


class Drift(Server):
    """Redefines its tool after the first call, and says so."""

    def listing(self, params: Any) -> Any:
        return {"tools": [tool("do", "A tool." if self.called == 0 else "Another tool.")]}

    def answer(self, call: Any) -> None:
        if call["method"] == "tools/call":  # said first: what comes after an answer may come after the next question
            say({"method": "notifications/tools/list_changed"})
        super().answer(call)


class Pages(Server):
    """Five tools on five pages."""

    def listing(self, params: Any) -> Any:
        page = int(params.get("cursor", "0"))
        return {"tools": [tool(f"do{page}")], **({"nextCursor": str(page + 1)} if page < 4 else {})}


class EndlessPages(Server):
    def listing(self, params: Any) -> Any:
        return {"tools": [], "nextCursor": "again"}


class ManyTools(Server):
    """100,000 tools, a hundred on each page."""

    def listing(self, params: Any) -> Any:
        page = int(params.get("cursor", "0"))
        tools = [tool(f"do{page * 100 + number}") for number in range(100)]
        return {"tools": tools, "nextCursor": str(page + 1) if page < 999 else None}


class OnePage(Server):
    """100,000 tools on one page."""

    def listing(self, params: Any) -> Any:
        return {"tools": [tool(f"do{number}") for number in range(100_000)]}


class SameName(Server):
    def listing(self, params: Any) -> Any:
        return {"tools": [tool("do"), tool("do", "Something else.")]}


class NoList(Server):
    def listing(self, params: Any) -> Any:
        return {"tools": "many"}


class OldVersion(Server):
    version = "1999-01-01"


class FirstVersion(Server):
    version = "2024-11-05"


class Asks(Server):
    """Asks for everything a client may offer, and gives back what it was answered."""

    def result(self, call: Any) -> Any:
        answers = []
        for method in ("ping", "sampling/createMessage", "roots/list", "elicitation/create"):
            say({"id": method, "method": method, "params": {}})
            answers.append(listen())
        return {**text("asked"), "structuredContent": {"answers": answers}}


class Result(Server):
    """Gives back its second argument."""

    def result(self, call: Any) -> Any:
        return json.loads(MORE)


class Huge(Server):
    """A result of 100 MB."""

    def result(self, call: Any) -> Any:
        piece = "x" * 1_000_000
        begin = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": text("@")})
        sys.stdout.write(begin.partition("@")[0])
        with contextlib.suppress(BrokenPipeError):
            for _ in range(100):
                sys.stdout.write(piece)
        return {}


class EndlessLine(Server):
    def result(self, call: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):
            while True:
                sys.stdout.write("{" + "x" * 65_536)


class Notes(Server):
    """Floods notifications instead of an answer."""

    def result(self, call: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):
            while True:
                say({"method": "notifications/message", "params": {"level": "info", "data": "x" * 100}})


class Never(Server):
    def result(self, call: Any) -> Any:
        self.told(call)
        self.told(listen())
        time.sleep(600)


class Stubborn(Server):
    """Ignores SIGTERM and the end of its input, and leaves a daemon."""

    def result(self, call: Any) -> Any:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("python3", ["python3", "-I", "-S", "-c", "import time; time.sleep(600)", MORE])
            os._exit(0)
        os.wait()
        say({"id": call["id"], "result": text("left one")})
        time.sleep(600)


class Half(Server):
    """Ends in the middle of its answer."""

    def result(self, call: Any) -> Any:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": {}})[:-6])
        sys.stdout.flush()
        os._exit(3)


class Twice(Server):
    """Answers each call twice."""

    def answer(self, call: Any) -> None:
        if call["method"] != "tools/call":
            super().answer(call)
            return
        self.called += 1
        answers = (
            {"jsonrpc": "2.0", "id": call["id"], "result": one} for one in (self.result(call), text("once more"))
        )
        sys.stdout.write(
            "".join(json.dumps(one) + "\n" for one in answers)
        )  # at once: both are there for the next call
        sys.stdout.flush()


class Floods(Server):
    """Tells of its progress 6,000 times, which is more than a megabyte, before it answers."""

    def result(self, call: Any) -> Any:
        token = call["params"]["_meta"]["progressToken"]
        for number in range(6_000):
            params = {"progressToken": token, "progress": number, "message": "x" * 200}
            say({"method": "notifications/progress", "params": params})
        return text("done")


class Endless(Server):
    """Tells of its progress once, and never answers."""

    def result(self, call: Any) -> Any:
        say({"method": "notifications/progress",
             "params": {"progressToken": call["params"]["_meta"]["progressToken"], "progress": 1}})  # fmt: skip
        time.sleep(600)


class Dies(Server):
    """Ends after each call."""

    def answer(self, call: Any) -> None:
        super().answer(call)
        if call["method"] == "tools/call":
            sys.exit(0)


SERVERS: dict[str, Callable[[], Server]] = {
    "well": Server, "drift": Drift, "pages": Pages, "endless-pages": EndlessPages, "many-tools": ManyTools,
    "one-page": OnePage, "same-name": SameName, "no-list": NoList, "old-version": OldVersion,
    "first-version": FirstVersion, "asks": Asks, "result": Result, "huge": Huge, "endless-line": EndlessLine,
    "notes": Notes, "never": Never, "stubborn": Stubborn, "dies": Dies, "half": Half, "twice": Twice,
    "floods": Floods, "endless": Endless,
}  # fmt: skip


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        SERVERS[MODE]().serve()
