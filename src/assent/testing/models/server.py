"""The server: HTTP/1.1 on a loopback port, one connection for each question."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from assent.testing.models.replies import KEY, Choose, Failing, Reply, Seen
from assent.testing.models.speech import Spoken, error_body, error_event, speak

BODY_BYTES_MAX = 64 * 1_048_576
HUGE_BYTES = 64 * 1_048_576
_SECRET = ("authorization", "x-api-key", "x-goog-api-key")


class ModelServer:
    """Says `replies` in their order (the last one again and again), or what a function chooses for each question.

    `key` is what every question must carry (empty: none is asked for). `seen` holds the questions, `hold` keeps answers
    back until it is set again.
    """

    def __init__(self, replies: Sequence[Reply] | Choose, *, key: str = KEY, port: int = 0) -> None:
        self._replies = replies
        self._key = key
        self._port = port
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self.seen: list[Seen] = []
        self.hold = asyncio.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        assert self._server is not None, "it was entered"
        self._server.close()
        for task in self._busy:
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._busy.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._busy.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verb, path, headers, body = await _request(reader)
        if verb == "GET":
            await _send(writer, 200, "application/json", [json.dumps(_listing(path)).encode()])
            return
        wire, model, stream = _which(path, body)
        if not wire:
            await _send(writer, 404, "application/json", [b'{"error":{"message":"no such address"}}'])
            return
        given = next((headers[name].removeprefix("Bearer ") for name in _SECRET if name in headers), "")
        shown = {name: value for name, value in headers.items() if name not in _SECRET}
        seen = Seen(
            wire=wire, model=model, path=path, stream=stream, authorised=given == self._key, body=body, headers=shown
        )
        number = len(self.seen)
        self.seen.append(seen)
        await self.hold.wait()
        if self._key and not seen.authorised:
            refusal = json.dumps(error_body(wire, 401, "the key is not accepted")).encode()
            await _send(writer, 401, "application/json", [refusal])
            return
        await self._say(writer, seen, self._reply(seen, number), number)

    def _reply(self, seen: Seen, number: int) -> Reply:
        if callable(self._replies):
            return self._replies(seen, number)
        return self._replies[min(number, len(self._replies) - 1)]

    async def _say(self, writer: asyncio.StreamWriter, seen: Seen, reply: Reply, number: int) -> None:
        failing = reply.failing or Failing()
        if failing.status:
            body = json.dumps(error_body(seen.wire, failing.status, failing.message)).encode()
            more = {"retry-after": failing.retry_after} if failing.retry_after else {}
            await _send(writer, failing.status, "application/json", [body], headers=more)
            return
        spoken = speak(seen, reply, number)
        match failing.way:
            case "hang":
                await asyncio.Event().wait()
            case "garbage":
                await _send(writer, 200, spoken.content_type, [b"\xff\xfe<html>no model here\n\n" * 9])
            case "wrong_type":
                await _send(writer, 200, "text/html", [b"<html><body>sign in first</body></html>"])
            case "cut" | "broken_json" | "error_event" | "drip" | "huge":
                await _broken(writer, seen, spoken, failing)
            case _:
                await _send(writer, 200, spoken.content_type, spoken.pieces)


async def _broken(writer: asyncio.StreamWriter, seen: Seen, spoken: Spoken, failing: Failing) -> None:
    """An answer that begins well."""
    data = b"".join(spoken.pieces)
    half = data[: len(data) // 2]
    match failing.way:
        case "cut":
            await _send(writer, 200, spoken.content_type, [half], ends=False)
        case "broken_json":
            await _send(writer, 200, spoken.content_type, [half, b"\n\n"])
        case "error_event":
            begun = spoken.pieces[: max(1, len(spoken.pieces) // 2)] if seen.stream else []
            await _send(writer, 200, spoken.content_type, [*begun, error_event(seen.wire, failing.message)])
        case "drip":
            await _send(writer, 200, spoken.content_type, [data[at : at + 1] for at in range(len(data))])
        case _:
            filler = b": " + b"x" * 65_533 + b"\n"
            await _send(writer, 200, spoken.content_type, [filler] * (HUGE_BYTES // len(filler)))


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    content_type: str,
    pieces: Sequence[bytes],
    *,
    headers: dict[str, str] | None = None,
    ends: bool = True,
) -> None:
    """Send an answer in chunks; without `ends` the last chunk never comes."""
    said = {"content-type": content_type, "transfer-encoding": "chunked", "connection": "close", **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    writer.write(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode())
    for piece in pieces:
        if piece:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
    if ends:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    verb, path, _ = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    if "chunked" in headers.get("transfer-encoding", ""):
        data = await _chunks(reader)
    else:
        data = await reader.readexactly(min(int(headers.get("content-length", "0")), BODY_BYTES_MAX))
    body = json.loads(data) if data else {}
    return verb, path, headers, body if isinstance(body, dict) else {}


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        data += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return data


def _which(path: str, body: dict[str, Any]) -> tuple[str, str, bool]:
    """The wire format, the model that is asked, and whether it is to answer bit by bit."""
    plain = path.partition("?")[0]
    model, stream = str(body.get("model", "")), bool(body.get("stream"))
    if plain.endswith("/v1/messages"):
        return "anthropic", model, stream
    if plain.endswith("/chat/completions"):
        return "openai-chat", model, stream
    if plain.endswith("/responses"):
        return "openai", model, stream
    if plain.endswith("/api/chat"):
        return "ollama", model, body.get("stream", True)
    if ":generateContent" in plain or ":streamGenerateContent" in plain:
        return "gemini", plain.rpartition("/")[2].partition(":")[0], ":stream" in plain
    return "", "", False


def _listing(path: str) -> dict[str, Any]:
    """Which models there are."""
    if path.startswith("/api/version"):
        return {"version": "0.0.0"}
    if path.startswith("/api/tags"):
        return {
            "models": [
                {"name": "some", "model": "some", "size": 1, "digest": "0", "modified_at": "2026-01-01T00:00:00Z"}
            ]
        }
    return {"object": "list", "data": [{"id": "some", "object": "model", "created": 1, "owned_by": "nobody"}]}
