"""What a request may carry in its first lines, which headers are secret, and what of an answer is shown. Pure.

Headers that frame the message or steer the connection belong to the lane: `Host` above all, because a request to a
listed host with another host's name in it reaches that other host through a shared front (domain fronting).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from assent.execution.urls import Url
from assent.primitives.errors import Malformed

Fields = tuple[tuple[str, str], ...]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FIELDS_MAX = 100
FIELDS_BYTES_MAX = 65_536
_SHOWN_BYTES_MAX = 32_768

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")
_VALUE = re.compile(r"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?\Z|\Z")
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
_METHODS_NEVER = frozenset({"CONNECT", "TRACE"})
_OWNED = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect",
     "proxy-authorization", "proxy-connection", "http2-settings"}
)  # fmt: skip
_SECRET = re.compile(r"authori[sz]ation|cookie|token|secret|key|password|credential|session|signature|-auth\b|^auth")
_BODY_FIELDS = frozenset({"content-type", "content-encoding", "content-language", "content-location", "digest"})


def check_method(method: str) -> str:
    """Return `method` in upper case.

    Raises:
        Malformed: it is no token, or opens a tunnel or echoes credentials (`method_refused`).
    """
    upper = method.upper()
    if not _TOKEN.match(method) or upper in _METHODS_NEVER:
        raise Malformed("method_refused", f"the method `{ascii(method[:40])[1:-1]}` is not carried")
    return upper


def check_fields(fields: Sequence[tuple[str, str]], *, idempotency_key: str) -> Fields:
    """Return the caller's headers, with `Idempotency-Key` added when there is a key.

    Raises:
        Malformed: a name or value is outside RFC 9110, belongs to the lane, or they are too many (`header_refused`).
    """
    for name, value in fields:
        _check_field(name, value)
    checked = tuple(fields) + _key_field(fields, idempotency_key)
    if len(checked) > FIELDS_MAX or sum(len(n) + len(v) for n, v in checked) > FIELDS_BYTES_MAX:
        raise _refused("the request has too many headers, or they are too long")
    return checked


def is_secret(name: str) -> bool:
    """Whether a header of this name may carry a credential: its value goes into no record and to no other origin."""
    return _SECRET.search(name.lower()) is not None and name.lower() != "idempotency-key"


def after_redirect(fields: Fields, *, same_origin: bool, keeps_body: bool) -> Fields:
    """The headers that go on to the next hop (RFC 9110 section 15.4)."""
    gone = frozenset() if keeps_body else _BODY_FIELDS | {"idempotency-key"}
    return tuple((n, v) for n, v in fields if n.lower() not in gone and (same_origin or not is_secret(n)))


def on_the_wire(url: Url, fields: Fields, *, method: str, body_bytes: int, agent: str) -> list[tuple[bytes, bytes]]:
    """The whole header block of one request: the caller's headers and the lane's own."""
    given = {name.lower() for name, _ in fields}
    defaults = (("User-Agent", agent), ("Accept", "*/*"), ("Accept-Encoding", "gzip"))
    wire = [("Host", url.authority), *fields, *((n, v) for n, v in defaults if n.lower() not in given)]
    if body_bytes or method in {"POST", "PUT", "PATCH"}:
        wire.append(("Content-Length", str(body_bytes)))
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in wire]


def field(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of a header of an answer."""
    return next((value for key, value in fields if key.lower() == name), None)


def shown_fields(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """An answer's headers for the caller: lower-case names, repeated values joined by a comma, at most 32 KiB.

    `set-cookie` is left out: a session handed out by a server is a credential, and nothing here keeps cookies.
    """
    shown: dict[str, str] = {}
    size = 0
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        size += len(name) + len(value)
        if size > _SHOWN_BYTES_MAX:
            break
        if name != "set-cookie":
            shown[name] = f"{shown[name]}, {value}" if name in shown else value
    return shown


def _check_field(name: str, value: str) -> None:
    if not _TOKEN.match(name):
        raise _refused(f"`{ascii(name[:40])[1:-1]}` is not a header name")
    if name.lower() in _OWNED:
        raise _refused(f"the header `{name.lower()}` belongs to the lane", hint="leave it out")
    if not _VALUE.match(value):
        raise _refused(f"the value of `{name}` has characters a header cannot carry")


def _key_field(fields: Sequence[tuple[str, str]], key: str) -> Fields:
    if not key:
        return ()
    if not _KEY.match(key) or any(name.lower() == "idempotency-key" for name, _ in fields):
        raise _refused("the idempotency key is given twice or is not 1-255 visible ASCII characters")
    return (("Idempotency-Key", key),)


def _refused(message: str, *, hint: str = "") -> Malformed:
    return Malformed("header_refused", message, hint=hint)
