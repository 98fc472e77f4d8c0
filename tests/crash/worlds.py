"""Starts the process that dies, and gives it a world that remembers: files, a loopback server, a journal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import assent

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(assent.__file__).resolve().parents[1]


@contextmanager
def child(folder: Path, **plan: Any) -> Iterator[subprocess.Popen[str]]:
    """The process, killed at the end of the block if it still lives."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCES), str(ROOT)])}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.child", json.dumps({"folder": str(folder), **plan})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def words(process: subprocess.Popen[str]) -> list[str]:
    """The next line it says, in words; none when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().split()


class Remembering:
    """A loopback server that counts what it was asked to do and keeps what was put there."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.kept: dict[str, bytes] = {}
        self.on_request: Callable[[], None] = lambda: None
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self._take("PUT")

            def do_POST(self) -> None:
                self._take("POST")

            def do_GET(self) -> None:
                body = world.kept.get(self.path)
                self._answer(404 if body is None else 200, body or b"")

            def _take(self, method: str) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                world.requests.append(method)
                world.kept[self.path] = body
                world.on_request()
                self._answer(200, b"taken")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing goes to the terminal."""

            def finish(self) -> None:
                try:
                    super().finish()
                except OSError:
                    self.close_connection = True  # the caller was killed

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/thing"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
