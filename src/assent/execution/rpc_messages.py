"""JSON-RPC 2.0 messages, written and strictly read. Pure.

The reader takes nothing on trust: the text must have one meaning (no repeated keys, no NaN, no number that is not
exact, at most 64 levels, see `primitives.canonical`), `jsonrpc` must say "2.0", an answer has a result or an error and
not both, an error has a whole number and a text. What is read is one of three things: an answer, a request of the
peer's own, or a notification.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from assent.primitives.canonical import Json, canonical, parse
from assent.primitives.errors import Malformed

METHOD_NOT_FOUND = -32601
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
BATCH_MAX = 1_000
METHOD_CHARACTERS_MAX = 256

Id: TypeAlias = "int | str | None"


class RpcError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The error of an answer. `data` is whatever the peer adds."""

    code: int
    message: str
    data: Any = None


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: `result`, unless there is an `error`. `id` is None where the peer could not read what it answers."""

    id: Id
    result: Any = None
    error: RpcError | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request by the peer, which waits for our answer."""

    id: Id
    method: str
    params: Any = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A notification by the peer."""

    method: str
    params: Any = None


Message = Answered | Asked | Told


def read(data: bytes, *, bytes_max: int) -> tuple[Message, ...]:
    """The messages of one frame: one, or those of a batch.

    Raises:
        Malformed: `message_malformed`.
    """
    try:
        value = parse(data, bytes_max=bytes_max)
    except Malformed as error:
        raise _broken(error.message) from error
    if isinstance(value, list):
        if not 0 < len(value) <= BATCH_MAX:
            raise _broken(f"a batch of {len(value)} messages")
        return tuple(_message(one) for one in value)
    return (_message(value),)


def request(id_: int, method: str, params: Json = None) -> bytes:
    """A request. `params` are an object or an array; None: none."""
    return canonical({**_call(method, params), "id": id_})


def notification(method: str, params: Json = None) -> bytes:
    """A notification."""
    return canonical(_call(method, params))


def reply(id_: Id, result: Json) -> bytes:
    """An answer to a request of the peer's."""
    return canonical({"jsonrpc": "2.0", "id": id_, "result": result})


def refusal(id_: Id, code: int, message: str) -> bytes:
    """An answer with an error to a request of the peer's."""
    return canonical({"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": message}})


def batch(messages: tuple[bytes, ...]) -> bytes:
    """Several messages as one."""
    return b"[" + b",".join(messages) + b"]"


def read_params(text: str) -> Json:
    """The parameters of a call as an order carries them; empty: None.

    Raises:
        Malformed: `order_malformed`, they are no JSON object or array.
    """
    if not text:
        return None
    try:
        value = parse(text.encode())
    except (Malformed, UnicodeEncodeError) as error:
        raise Malformed("order_malformed", f"the parameters cannot be read: {error}") from error
    if not isinstance(value, dict | list):
        raise Malformed("order_malformed", "the parameters are neither an object nor an array")
    return value


def _call(method: str, params: Json) -> dict[str, Json]:
    return {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})}


def _message(value: Json) -> Message:
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise _broken('it does not say `"jsonrpc": "2.0"`')
    id_ = value.get("id")
    if id_ is not None and type(id_) is not int and not isinstance(id_, str):
        raise _broken("its id is neither a whole number nor a text")
    if "method" in value:
        return _call_of_peer(value, id_)
    if ("result" in value) == ("error" in value) or "id" not in value:
        raise _broken("it is no request, and no answer with an id and either a result or an error")
    if "result" in value:
        return Answered(id=id_, result=value["result"])
    return Answered(id=id_, error=_error(value["error"]))


def _call_of_peer(value: dict[str, Json], id_: Id) -> Asked | Told:
    method, params = value["method"], value.get("params")
    if not isinstance(method, str) or len(method) > METHOD_CHARACTERS_MAX:
        raise _broken("its method is no text, or too long")
    if not isinstance(params, dict | list | None):
        raise _broken("its parameters are neither an object nor an array")
    if "id" in value:
        return Asked(id=id_, method=method, params=params)
    return Told(method=method, params=params)


def _error(value: Json) -> RpcError:
    code, message = (value.get("code"), value.get("message")) if isinstance(value, dict) else (None, None)
    if not isinstance(value, dict) or type(code) is not int or not isinstance(message, str):
        raise _broken("its error has no number and text")
    return RpcError(code=code, message=message, data=value.get("data"))


def _broken(message: str) -> Malformed:
    return Malformed("message_malformed", f"a message of the peer is no JSON-RPC 2.0: {message}")
