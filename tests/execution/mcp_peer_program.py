"""A hostile MCP server: behaves as its first argument says. It runs in the sandbox, with the standard library alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
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
    def __init__(self) -> None:
        self.called = 0
        self.version = "2025-11-25"

    def serve(self) -> None:
        while (call := listen()) is not None:
            if "id" in call and "method" in call:
                self.answer(call)

    def answer(self, call: Any) -> None:
        match call["method"]:
            case "initialize":
                result: Any = {"protocolVersion": self.version, "capabilities": {"tools": {}}, "serverInfo": {}}
            case "tools/list":
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


SERVERS: dict[str, Callable[[], Server]] = {"well": Server}


if __name__ == "__main__":
    SERVERS[MODE]().serve()
