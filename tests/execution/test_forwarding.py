"""What a program may ask of the broker, read by one grammar: whatever comes, it is read one way or refused."""

from __future__ import annotations

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from assent.execution.forwarding import ChunkedBody, ForwardRequest, parse_forward
from assent.primitives.errors import Malformed

HOSTS = st.sampled_from(
    ["allowed.test", "a.allowed.test:8080", "127.0.0.1:80", "[::1]:80", "127.1", "A.Test.", "x@y", ""]
)
NAMES = st.sampled_from(["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "X-A", "Upgrade", "X A"])
VALUES = st.one_of(
    HOSTS,
    st.sampled_from(["0", "5", "-1", "chunked", "close", "x-a, content-length", "\r", " x "]),
    st.text(max_size=8),
)
HEADS = st.builds(
    lambda method, scheme, host, path, version, fields: "\r\n".join(
        [f"{method} {scheme}{host}{path} {version}", *(f"{name}: {value}" for name, value in fields)]
    ).encode("utf-8", "surrogatepass"),
    st.sampled_from(["GET", "POST", "CONNECT", "get", "G T"]),
    st.sampled_from(["http://", "https://", ""]),
    HOSTS,
    st.sampled_from(["", "/", "/a?b", "/ ", "//x", "*"]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2"]),
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
)


@given(st.one_of(HEADS, st.binary(max_size=200)))
@example(b"GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\nX-A: 1")
def test_head_is_read_one_way_or_refused_whatever_it_is(head: bytes):
    read = _read(head)
    if isinstance(read, str):
        assert read in {"request_refused", "host_refused", "port_refused", "url_refused"}
    elif not read.tunnel:
        _check_rewritten(read)


def _read(head: bytes) -> ForwardRequest | str:
    try:
        return parse_forward(head)
    except Malformed as error:
        return error.code


def _check_rewritten(request: ForwardRequest) -> None:
    first, *rest = request.head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _version = first.split(" ")
    assert method == request.method
    assert target.startswith("/")
    names = [line.partition(":")[0].lower() for line in rest]
    assert names.count("host") == 1
    assert names[0] == "host"
    assert rest[0] in {f"Host: {request.host.in_url}", f"Host: {request.host.in_url}:{request.port}"}
    assert names.count("content-length") == (request.body == "length")
    assert names.count("transfer-encoding") == (request.body == "chunked")
    assert not {"upgrade", "proxy-authorization", "proxy-connection", "te", "keep-alive"} & set(names)
    assert request.head.count(b"\r\n\r\n") == 1


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5).map(
    lambda pieces: b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
)


@given(body=CHUNKS, after=st.binary(max_size=20), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_chunked_body_ends_at_the_same_place_however_it_is_cut(body: bytes, after: bytes, cuts: list[int]):
    whole, at, used = body + after, 0, 0
    follower = ChunkedBody()
    for cut in [*sorted(cuts), len(whole)]:
        piece, at = whole[at : max(at, cut)], max(at, cut)
        taken = follower.feed(piece)
        used += taken
        assert taken == len(piece) or follower.done
    assert (follower.done, used) == (True, len(body))


@given(body=st.binary(max_size=100), cut=st.integers(0, 100))
def test_chunked_body_is_followed_or_refused_the_same_however_it_is_cut(body: bytes, cut: int):
    assert _followed([body]) == _followed([body[:cut], body[cut:]])


def _followed(pieces: list[bytes]) -> int | None:
    follower, used = ChunkedBody(), 0
    with contextlib.suppress(Malformed):
        for piece in pieces:
            used += follower.feed(piece)
        return used
    return None
