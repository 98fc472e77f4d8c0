"""What reasoning needs from outside itself: one codec for each wire format of a model provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from assent.primitives.errors import Malformed
from assent.reasoning.failures import FailureKind, Fault
from assent.reasoning.messages import Completion, Delta, ModelRequest


class WireRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP request that a question becomes: always a POST. `path` begins with `/` and is put behind the endpoint's
    address; the credential is not here and is added by the lane."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class BrokenAnswer(Malformed):
    """An answer that cannot be used. `kind` says what may follow: an answer can break off for every reason for which
    it can be refused at once."""

    def __init__(self, code: str, message: str, *, kind: FailureKind = FailureKind.ADAPTER_UNAVAILABLE) -> None:
        super().__init__(code, message)
        self.kind = kind


class Decoder(Protocol):
    """Reads one answer as its bytes come, whatever pieces they come in. Bounded; one decoder for one answer."""

    def feed(self, data: bytes) -> list[Delta]:
        """Take some bytes of the body; what can be shown already. Never raises: what is wrong is told by `close`."""
        ...

    def close(self) -> Completion:
        """The whole answer.

        Raises:
            BrokenAnswer: `answer_cut` (the stream ended before it said so), `answer_malformed` (it is not what this
                wire format says), `answer_error` (the answer itself tells of an error).
        """
        ...


class Wire(Protocol):
    """One wire format. Pure: values to bytes, bytes to values."""

    name: str
    credential: tuple[str, str]
    """The header an API key goes into, and what stands before it (`("authorization", "Bearer ")`)."""
    streamed: str
    """The content type of an answer that comes bit by bit."""

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question.

        Raises:
            Malformed: `request_unspeakable`: it holds something that this format cannot say.
        """
        ...

    def decoder(self, *, content_type: str) -> Decoder:
        """A decoder for a successful answer of this content type (`text/event-stream; …`, `application/json`, …)."""
        ...

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an answer with an error status means."""
        ...
