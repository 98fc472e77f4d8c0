"""Models that do harm by mass: a million calls in one answer, over each wire, and garbage without an end.

What is taken of an answer is bounded by bytes, by values and by calls, whichever comes first. The figures are of what
was sent, held, recorded and asked for; none is a time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from assent.bootstrap.models import wire_of
from assent.operations.models import Endpoint, ModelOperation
from assent.operations.runs import steps
from assent.operations.runs.events import Decided, ModelFailed, Proposal, RunEvent
from assent.reasoning.interpretation import CALLS_MAX
from assent.testing.models import Failing, ModelServer, Reply
from tests.operations.agents_house import TENANT, agent, answered, house

pytestmark = pytest.mark.slow
MILLION = 1_000_000
THOUSANDS = 10_000
AT_ONCE = 500
HELD_BYTES_MAX = 128 * 1_048_576
RECORDED_BYTES_MAX = 32 * 1_048_576


# One proposal, and the end of an answer, as each wire spells them; `%d` is which proposal it is.
CALL = '{"path":"a","content":"x"}'
CHAT = (
    r'data: {"choices":[{"delta":{"tool_calls":[{"index":%%d,"id":"c","function":{"name":"write","arguments":%s}}]}}]}'
)
GEMINI = 'data: {"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"write","args":%s}}]}}]}'
OLLAMA = '{"message":{"content":"","tool_calls":[{"function":{"name":"write","arguments":%s}}]},"done":false}'
CALLS = {
    "openai-chat": ("text/event-stream", f"{CHAT % json.dumps(CALL)}\n\n", "data: [DONE]\n\n"),
    "gemini": ("text/event-stream", f"{GEMINI % CALL}\n\n", 'data: {"candidates":[{"finishReason":"STOP"}]}\n\n'),
    "ollama": ("application/x-ndjson", f"{OLLAMA % CALL}\n", '{"message":{"content":""},"done":true}\n'),
}


class Flood:
    """A provider that answers with so many calls, for as long as anybody listens, and is done with the next answer."""

    def __init__(self, wire: str, calls: int) -> None:
        self._kind, self._call, self._end = CALLS[wire]
        self._calls = calls
        self.sent: list[int] = []
        """How many calls were taken of each answer."""
        self.url = ""

    def _pieces(self) -> Iterator[bytes]:
        numbered = "%d" in self._call
        for first in range(0, self._calls, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            text = "".join(self._call % one for one in numbers) if numbered else self._call * AT_ONCE
            yield text.encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(one for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:"))
            await reader.readexactly(int(size.partition(b":")[2]))
            self.sent.append(0)
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {self._kind}\r\nconnection: close\r\n\r\n".encode())
            for piece in self._pieces():
                writer.write(piece)
                await writer.drain()
                self.sent[-1] += AT_ONCE
            writer.write(self._end.encode())
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Flood]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self


def asks(url: str, wire: str) -> ModelOperation:
    return ModelOperation(Endpoint(name="mass", url=url), wire=lambda: wire_of(wire))


def recorded_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())


def most_held_bytes() -> int:
    """The most memory that this process has held since its mark was set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(one.split()[1]) * 1024 for one in lines if one.startswith("VmHWM:"))


def set_mark_back() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize("wire", CALLS)
def test_million_calls_in_one_answer_are_cut_off_within_bounds_and_none_is_asked_for(
    wire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "ROUNDS_MAX", 1)

    async def body() -> None:
        writer = agent("write", models=("mass:some",))
        async with (
            Flood(wire, MILLION).open() as flood,
            house(tmp_path, writer, others=[asks(flood.url, wire)]) as node,
        ):
            set_mark_back()
            before = most_held_bytes()
            events: list[RunEvent] = []
            seen = await answered(node, "write", of=writer, events=events)
            held = most_held_bytes() - before
            assert held < HELD_BYTES_MAX
            assert (seen.state, seen.waits_for) == ("waiting", "provider model.mass")
            assert any("longer than" in one.message for one in events if isinstance(one, ModelFailed))
            (sent,) = flood.sent
            assert 0 < sent < MILLION
            assert recorded_bytes(tmp_path) < RECORDED_BYTES_MAX
            assert not [one for one in events if isinstance(one, Proposal)]
            assert not (tmp_path / "workspace" / "a").exists()
            assert (await node.runs.retell(TENANT, seen.id)).same
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())


@pytest.mark.parametrize("wire", CALLS)
def test_of_thousands_of_calls_in_one_answer_the_first_are_decided_and_the_others_are_never_looked_at(
    wire: str, tmp_path: Path
) -> None:
    async def body() -> None:
        writer = agent("write", models=("mass:some",), turns_max=1)
        async with (
            Flood(wire, THOUSANDS).open() as flood,
            house(tmp_path, writer, others=[asks(flood.url, wire)]) as node,
        ):
            events: list[RunEvent] = []
            seen = await answered(node, "write", of=writer, events=events)
            assert (seen.state, seen.failure.partition(":")[0]) == ("failed", "budget_exhausted")
            assert flood.sent == [THOUSANDS]
            assert len([one for one in events if isinstance(one, Decided)]) == CALLS_MAX
            effects = await node.gate._store.effects(TENANT, run=seen.id, limit=10 * THOUSANDS)
            assert len(effects) == 1 + CALLS_MAX
            assert recorded_bytes(tmp_path) < RECORDED_BYTES_MAX
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())


def test_model_that_only_babbles_is_asked_so_often_and_then_waited_for_and_what_it_said_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BACKOFF_MS", (0, 0))

    async def body() -> None:
        writer = agent("write", models=("mass:some",))
        async with (
            ModelServer([Reply(failing=Failing(way="garbage"))], key="") as server,
            house(tmp_path, writer, others=[asks(server.url, "anthropic")]) as node,
        ):
            seen = await answered(node, "write", of=writer)
            assert (seen.state, seen.waits_for) == ("waiting", "provider model.mass")
            assert len(server.seen) == steps.ROUNDS_MAX
            effects = await node.gate._store.effects(TENANT, run=seen.id, limit=99)
            assert [(one.state, one.code) for one in effects] == [("failed", "answer_cut")] * steps.ROUNDS_MAX
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())
