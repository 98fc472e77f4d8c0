"""The release server of the demonstration, a process of its own: it stores what is PUT, answers GET, and counts.

    python -m assent.surfaces.demo.server

It listens on a free port of 127.0.0.1. Whoever started it speaks to it over its standard streams, one JSON object a
line, so that looking at the counts is not itself counted:

    ← {"port": 40123}
    → {"do": "hold", "path": "/a"}      keep back the answer to the next PUT of `/a`, after storing it
    → {"do": "await", "path": "/a", "within_s": 10}      ← {"caught": true}      a held-back client is waiting
    → {"do": "release"}                 drop the clients that wait, without an answer
    → {"do": "tell"}                    ← {"requests": [["PUT", "/a", 1]], "documents": {"/a": "sha256:…"}}

It ends when its standard input does, so it cannot outlive the process that started it.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

BODY_BYTES_MAX = 1_048_576
IDLE_S = 30


class Shelf:
    """What the server holds: documents, counts, and the paths whose answers are kept back."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._documents: dict[str, tuple[bytes, str]] = {}
        self._requests: Counter[tuple[str, str]] = Counter()
        self._held: set[str] = set()
        self._caught: set[str] = set()

    def get(self, path: str) -> tuple[bytes, str] | None:
        """The document at `path` and its media type."""
        with self._changed:
            self._requests["GET", path] += 1
            return self._documents.get(path)

    def put(self, path: str, body: bytes, kind: str) -> bool:
        """Store a document. Returns whether the client may be told; when its answer is held, waits until released."""
        with self._changed:
            self._requests["PUT", path] += 1
            self._documents[path] = (body, kind)
            if path not in self._held:
                return True
            self._caught.add(path)
            self._changed.notify_all()
            self._changed.wait_for(lambda: path not in self._held)
            return False

    def hold(self, path: str) -> dict[str, Any]:
        """Keep back the answers to PUTs of `path` from now on."""
        with self._changed:
            self._held.add(path)
        return {}

    def caught(self, path: str, within_s: float) -> dict[str, Any]:
        """Wait until a client waits for the held answer, at most `within_s` seconds; whether one does."""
        with self._changed:
            return {"caught": self._changed.wait_for(lambda: path in self._caught, timeout=within_s)}

    def release(self) -> dict[str, Any]:
        """Let go of every client that waits."""
        with self._changed:
            self._held.clear()
            self._changed.notify_all()
        return {}

    def tell(self) -> dict[str, Any]:
        """How often each method and path was asked for, and the digest of each document."""
        with self._changed:
            requests = [[method, path, count] for (method, path), count in sorted(self._requests.items())]
            digests = {
                path: "sha256:" + hashlib.sha256(body).hexdigest() for path, (body, _) in self._documents.items()
            }
        return {"requests": requests, "documents": digests}


class Server(ThreadingMixIn, TCPServer):
    """One thread a connection. Not `http.server.HTTPServer`: that one asks the name service for its own name."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.shelf = shelf


class Handler(BaseHTTPRequestHandler):
    """GET and PUT."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: Server

    def do_GET(self) -> None:
        """Answer with the document, or 404."""
        found = self.server.shelf.get(self.path)
        if found is None:
            self._answer(404, b"nothing is published here\n", "text/plain; charset=utf-8")
        else:
            self._answer(200, *found)

    def do_PUT(self) -> None:
        """Store the body, then answer 201; or drop the client when its answer was held."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self._answer(411, b"", "text/plain")
            return
        body = self.rfile.read(int(length))
        if self.server.shelf.put(self.path, body, self.headers.get("Content-Type", "application/octet-stream")):
            self._answer(201, b"published\n", "text/plain; charset=utf-8")
        else:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the standard library calls it so)
        """Say nothing: the counts are asked for."""

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def obey(shelf: Shelf, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order from the standard input."""
    match order:
        case {"do": "hold", "path": str(path)}:
            return shelf.hold(path)
        case {"do": "await", "path": str(path), "within_s": int() | float() as within_s}:
            return shelf.caught(path, within_s)
        case {"do": "release"}:
            return shelf.release()
        case {"do": "tell"}:
            return shelf.tell()
    return {"error": "this is not an order"}


def main() -> None:
    """Serve until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started this; then the input ends
    shelf = Shelf()
    with Server(shelf) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        _say({"port": server.server_address[1]})
        for line in sys.stdin:  # orders may wait, and the end of the input must not wait for them
            threading.Thread(
                target=lambda order: _say(obey(shelf, order)), args=(json.loads(line),), daemon=True
            ).start()
        shelf.release()
        server.shutdown()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
