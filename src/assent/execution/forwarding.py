"""What a program may ask of a forward proxy: `CONNECT`, and HTTP/1.1 requests with an absolute URL. Pure.

One reading, strict (RFC 9112): what two parsers could read differently is refused, not repaired. So: lines end with
CRLF and hold no other control character; one `Host`, the same as in the request line; `Content-Length` once and
without `Transfer-Encoding`; `Transfer-Encoding` is `chunked` and nothing else; the target is read by the grammar of
`hosts` and `urls`, so there is no user information and no second spelling of an address; and what `Connection` names
is dropped on the way, except that it cannot name what frames the message.

The way to the server is rewritten: origin form, one `Host`, nothing that was meant for the proxy. The answer is not
read at all.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from assent.execution.hosts import Host, split_authority
from assent.execution.urls import parse_url
from assent.primitives.errors import Malformed

FIELDS_MAX = 100
_REQUEST_LINE = re.compile(r"([A-Z]{1,20}) ([\x21-\x7e]{1,8192}) HTTP/1\.([01])\Z")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)\Z")
_LENGTH = re.compile(r"[0-9]{1,15}\Z")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,12}\Z")
_FRAMING = frozenset({"host", "content-length", "transfer-encoding"})
_FOR_THE_PROXY = _FRAMING | {
    "connection", "proxy-connection", "proxy-authorization", "proxy-authenticate", "keep-alive", "te", "upgrade",
}  # fmt: skip
_NOTHING: frozenset[str] = frozenset()
_TRAILER_BYTES_MAX = 8192


class _Fields(NamedTuple):
    """The header fields in their order, and the values of each name in lower case."""

    lines: list[tuple[str, str, str]]  # lower-case name, name, value
    values: dict[str, list[str]]

    def of(self, name: str) -> list[str]:
        return self.values.get(name, _NONE)


_NONE: list[str] = []


class ForwardRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request, read: where it goes and how long its body is. `head` is what the server is sent, if not a tunnel."""

    method: str
    host: Host
    port: int
    head: bytes = b""
    body: Literal["none", "length", "chunked"] = "none"
    length: int = 0

    @property
    def tunnel(self) -> bool:
        """Whether a tunnel is wanted, through which the program then says what it likes."""
        return self.method == "CONNECT"


def parse_forward(head: bytes) -> ForwardRequest:
    """Read a request's head, up to and without the empty line.

    Raises:
        Malformed: it is no request in the grammar above (`request_refused`), or its target is none (`host_refused`,
            `port_refused`, `url_refused`).
    """
    first, *rest = head.decode("latin-1").split("\r\n")
    found = _REQUEST_LINE.match(first)
    if found is None:
        raise _refused("the first line is no request line of HTTP/1.0 or 1.1")
    fields = _fields(rest)
    method, target, minor = found[1], found[2], int(found[3])
    if method == "CONNECT":
        return _tunnel(target, fields)
    return _forward(method, target, minor, fields)


class ChunkedBody:
    """Follows a chunked body (RFC 9112, section 7.1) as it passes, to know where it ends."""

    def __init__(self) -> None:
        self._left = 0  # of the data of this chunk, its CRLF included
        self._line = bytearray()
        self._trailer_bytes = -1  # not negative once the last chunk has begun
        self.done = False

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` still belong to the body.

        Raises:
            Malformed: this is not chunked (`request_refused`).
        """
        at = 0
        while at < len(data) and not self.done:
            if self._left > 2:
                step = min(self._left - 2, len(data) - at)
                self._left -= step
                at += step
            else:
                at = self._framing(data, at)
        return at

    def _framing(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1 or len(data)
        self._line += data[at:end]
        if self._left == 2 and not b"\r\n".startswith(self._line):
            raise _refused("a chunk is longer than it says")
        if len(self._line) > _TRAILER_BYTES_MAX:
            raise _refused("a line of the chunked body is too long")
        if self._line.endswith(b"\n"):
            line = bytes(self._line)
            self._line.clear()
            self._one_line(line)
        return end

    def _one_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise _refused("the chunked body has a bare line feed")
        if self._left == 2:  # the end of a chunk's data
            self._left = 0
        elif self._trailer_bytes >= 0:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _TRAILER_BYTES_MAX:
                raise _refused("the chunked body's trailer is too long")
            self.done = line == b"\r\n"
        elif _CHUNK_SIZE.match(line[:-2]):
            size = int(line[:-2], 16)
            self._left = size + 2 if size else 0
            self._trailer_bytes = -1 if size else 0
        else:
            raise _refused("a chunk has no plain size")


def _tunnel(target: str, fields: _Fields) -> ForwardRequest:
    host, port = split_authority(target, default_port=None)
    _check_host(fields, host, port, default_port=port, required=False)
    if _body(fields) not in {("none", 0), ("length", 0)}:
        raise _refused("`CONNECT` has a body")
    return ForwardRequest(method="CONNECT", host=host, port=port)


def _forward(method: str, target: str, minor: int, fields: _Fields) -> ForwardRequest:
    if target.startswith("/") or target == "*":
        raise _refused("this is a proxy: the target must be an absolute URL")
    url = parse_url(target)
    if url.scheme != "http":
        raise _refused("a proxy is asked for https with `CONNECT`")
    _check_host(fields, url.host, url.port, default_port=80, required=minor == 1)
    body, length = _body(fields)
    if body == "chunked" and minor == 0:
        raise _refused("HTTP/1.0 has no `Transfer-Encoding`")
    connection = fields.of("connection")
    named = {word.strip().lower() for word in ",".join(connection).split(",")} if connection else _NOTHING
    if named & _FRAMING:
        raise _refused("`Connection` names a field that frames the message")
    closes = minor == 0 or "close" in named
    dropped = _FOR_THE_PROXY | named if named else _FOR_THE_PROXY
    passed = [(name, value) for lower, name, value in fields.lines if lower not in dropped]
    passed += [("Content-Length", str(length))] if body == "length" else []
    passed += [("Transfer-Encoding", "chunked")] if body == "chunked" else []
    passed += [("Connection", "close")] if closes else []
    lines = "".join([f"{name}: {value}\r\n" for name, value in passed])
    text = f"{method} {url.target} HTTP/1.{minor}\r\nHost: {url.authority}\r\n{lines}\r\n"
    head = text.encode("latin-1")
    return ForwardRequest(method=method, host=url.host, port=url.port, head=head, body=body, length=length)


def _fields(lines: list[str]) -> _Fields:
    if len(lines) > FIELDS_MAX:
        raise _refused(f"more than {FIELDS_MAX} header fields")
    fields = _Fields([], {})
    for line in lines:
        found = _FIELD.match(line)
        if found is None:
            raise _refused("a header field is malformed")
        name, value = found[1], found[2].strip(" \t")
        lower = name.lower()
        fields.lines.append((lower, name, value))
        fields.values.setdefault(lower, []).append(value)
    return fields


def _check_host(fields: _Fields, host: Host, port: int, *, default_port: int, required: bool) -> None:
    said = fields.of("host")
    if len(said) > 1 or (required and not said):
        raise _refused("there is not exactly one `Host`")
    if not said or said[0] == f"{host.in_url}:{port}" or (port == default_port and said[0] == host.in_url):
        return  # none where none is needed, or the canonical spelling of the very host, which is the usual one
    if split_authority(said[0], default_port=default_port) != (host, port):
        raise _refused("`Host` and the request line name different hosts")


def _body(fields: _Fields) -> tuple[Literal["none", "length", "chunked"], int]:
    lengths, codings = fields.of("content-length"), fields.of("transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise _refused("the length of the body is given more than once")
    if codings:
        if codings[0].lower() != "chunked":
            raise _refused("the only transfer coding is `chunked`")
        return "chunked", 0
    if not lengths:
        return "none", 0
    if not _LENGTH.match(lengths[0]):
        raise _refused("`Content-Length` is not a plain number")
    return "length", int(lengths[0])


def _refused(message: str) -> Malformed:
    return Malformed("request_refused", message, hint="send one plain HTTP/1.1 request through the proxy")
