"""Every wire format, asked through the real http lane at the server that plays all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from assent.bootstrap.models import wire_of
from assent.bootstrap.system import SystemClock
from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.secrets import SecretDrivers
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Credential, HttpOrder, Limits
from assent.execution.outcomes import Outcome
from assent.ledger.operations import reading_of
from assent.operations.models import Endpoint, ModelOperation
from assent.reasoning.messages import Delta, Message, ModelRequest, Text, Tool
from assent.testing.models import ModelServer, Reply
from assent.testing.models.replies import KEY

WIRES = ("anthropic", "openai", "openai-chat", "gemini", "ollama")
LOOK = Tool(name="look", description="look", schema={"type": "object", "properties": {"at": {"type": "string"}}})


def question(*words: str, **more: Any) -> ModelRequest:
    """A question in words, which take turns."""
    roles = ("user", "assistant")
    said = tuple(Message(role=roles[n % 2], parts=(Text(text=word),)) for n, word in enumerate(words or ("hi",)))  # type: ignore[arg-type]
    return ModelRequest(**{"model": "some", "messages": said, "tools": (LOOK,), **more})


def ask(
    wire: str, request: ModelRequest, *replies: Reply, key: str = KEY, wall_ms: int = 10_000
) -> tuple[Outcome, Sequence[Delta], ModelServer]:
    """Ask once; the outcome as it would be settled, what was shown while it came, and the server."""

    async def whole() -> tuple[Outcome, Sequence[Delta], ModelServer]:
        async with ModelServer(replies) as server:
            return *await asked_at(server, wire, request, key=key, wall_ms=wall_ms), server

    return asyncio.run(whole())


async def asked_at(
    server: ModelServer, wire: str, request: ModelRequest, *, key: str = KEY, wall_ms: int = 10_000
) -> tuple[Outcome, Sequence[Delta]]:
    """Ask a server that is there."""
    codec = wire_of(wire)
    said = codec.request(request)
    header, prefix = codec.credential
    order = HttpOrder(
        method="POST",
        url=server.url + said.path,
        hosts=(server.url.removeprefix("http://"),),
        headers=said.headers,
        body=said.body,
        redirects_max=0,
        reads=True,
        shown_bytes_max=32 * 1_048_576,
        credentials=(Credential(header=header, handle="env:THE_KEY", prefix=prefix),),
        limits=Limits(wall_ms=wall_ms, output_bytes_max=32 * 1_048_576),
    )
    lane = HttpLane(clock=SystemClock(), secrets=SecretDrivers(environment={"THE_KEY": key}))
    live, shown = codec.decoder(content_type=codec.streamed), list[Delta]()
    outcome = await lane.carry(
        order, floor=ConfinementClass.LOCAL_WEAK, on_event=lambda event: shown.extend(live.feed(event.data))
    )
    await lane.close()
    operation = ModelOperation(Endpoint(name="x", url=server.url), wire=lambda: codec)
    return reading_of(operation)(outcome), shown
