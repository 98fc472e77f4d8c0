"""What the server is to say: replies, and ways to fail. Values, and their JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

Stop: TypeAlias = Literal["", "end", "cut", "refused", "filtered"]
Way: TypeAlias = Literal[
    "",
    "cut",  # the connection is closed in the middle of the body
    "garbage",  # the body is no JSON
    "broken_json",  # the body, or the event in its middle, is JSON that breaks off
    "broken_arguments",  # the arguments of the first call break off
    "wrong_type",  # the right body under the content type of a web page
    "error_event",  # in the middle of a stream the provider's own error
    "hang",  # nothing ever comes
    "drip",  # one byte at a time
    "huge",  # more than anybody wants
]
KEY = "key-of-the-model-server"


class Called(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call that the model proposes."""

    name: str
    arguments: dict[str, Any] = {}


class Failing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A failure instead of an answer, or in the middle of one. `status` is an error status (0: the answer begins well),
    `retry_after` the header of this name, `message` the provider's words."""

    status: int = 0
    way: Way = ""
    retry_after: str = ""
    message: str = "it is too much just now"


class Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer. Tokens are what the provider says it counted; `cached` were read from its cache."""

    text: str = ""
    calls: tuple[Called, ...] = ()
    thinking: str = ""
    stop: Stop = ""
    input_tokens: int = 11
    output_tokens: int = 7
    cached: int = 0
    failing: Failing | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A question as the server saw it. `authorised`: it had the key."""

    wire: str
    model: str
    path: str
    stream: bool
    authorised: bool
    body: dict[str, Any]
    headers: dict[str, str]


Choose: TypeAlias = Callable[[Seen, int], Reply]


def read_replies(data: bytes) -> tuple[Reply, ...]:
    """Replies from JSON: a list of objects with the fields of `Reply`. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(data, type=tuple[Reply, ...])
