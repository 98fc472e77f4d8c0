"""The pure rules of the http lane: URLs, redirects, headers, bodies, and what an ending is called."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.bodies import Unpacker, shown
from assent.execution.exchanges import judge_answer, judge_break, may_have_acted, next_method
from assent.execution.headers import after_redirect, check_fields, is_secret, on_the_wire
from assent.execution.outcomes import Ending
from assent.execution.urls import parse_url, redirect_target
from assent.primitives.errors import Malformed

URL_TEXT = st.text("htps:/.aA0[]@%?#\\ \t\0é-_~", max_size=40)


@given(st.one_of(URL_TEXT, URL_TEXT.map("http://a.test".__add__), URL_TEXT.map("https://".__add__)))
def test_url_is_refused_or_reads_the_same_when_written_out(text):
    try:
        url = parse_url(text)
    except Malformed as error:
        assert error.code in {"url_refused", "host_refused", "port_refused"}  # noqa: PT017 (either way is checked)
        return
    assert parse_url(url.text) == url
    assert url.target.startswith("/")
    assert url.text.isascii()
    assert url.text.isprintable()


@given(st.binary(max_size=40))
def test_redirect_leads_to_a_url_of_the_grammar_or_nowhere(location):
    start = parse_url("https://a.test/b/c?d")
    try:
        target = redirect_target(start, location)
    except Malformed:
        return
    assert target.scheme == "https"
    assert parse_url(target.text) == target


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        (b"/x", "http://a.test/x"), (b"x", "http://a.test/b/x"), (b"?q", "http://a.test/b/c?q"),
        (b"//b.test/x", "http://b.test/x"), (b"https://B.test:443/#f", "https://b.test/"),
        (b"../../x", "http://a.test/x"), ("/ü x|".encode(), "http://a.test/%C3%BC%20x%7C"), (b"", "http://a.test/b/c?d"),
    ],
)  # fmt: skip
def test_redirect_is_resolved_as_rfc_3986_says(location, leads_to):
    assert redirect_target(parse_url("http://a.test/b/c?d"), location).text == leads_to


def test_redirect_is_refused_when_it_leaves_tls():
    with pytest.raises(Malformed, match="from https to http"):
        redirect_target(parse_url("https://a.test/"), b"http://a.test/")


def test_url_messages_never_repeat_the_url():
    for url in ("http://user:s3cret@a.test/", "http://a.test/\0?token=s3cret", "nope://a.test/s3cret"):
        with pytest.raises(Malformed) as caught:
            parse_url(url)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("Authorization", True), ("Proxy-Authorization", True), ("Cookie", True), ("Set-Cookie2", True),
        ("X-API-Key", True), ("X-Auth-Token", True), ("X-Amz-Security-Token", True), ("X-Vault-Token", True),
        ("Client-Secret", True), ("X-Goog-Signature", True), ("X-Session-Id", True), ("PRIVATE-TOKEN", True),
        ("X-Subscription-Key", True), ("X-Auth", True), ("Authentication", True), ("Content-Type", False),
        ("Idempotency-Key", False), ("Content-Length", False), ("X-Request-Id", False), ("Accept", False),
    ],
)  # fmt: skip
def test_header_is_secret_when_its_name_says_that_it_may_carry_a_credential(name, secret):
    assert is_secret(name) is secret


def test_host_header_is_the_urls_and_comes_first():
    url = parse_url("http://[::1]:8080/")
    wire = on_the_wire(url, (("X-A", "b"),), method="GET", body_bytes=0, agent="t")
    assert wire[0] == (b"Host", b"[::1]:8080")
    assert [name for name, _ in wire].count(b"Host") == 1
    assert parse_url("https://a.test:443/").authority == "a.test"


def test_agent_is_the_callers_when_it_names_one():
    fields = check_fields([("user-agent", "mine"), ("accept-encoding", "identity")], idempotency_key="")
    wire = on_the_wire(parse_url("http://a.test/"), fields, method="GET", body_bytes=0, agent="lane")
    names = [name.lower() for name, _ in wire]
    assert names.count(b"user-agent") == names.count(b"accept-encoding") == 1
    assert (b"user-agent", b"mine") in wire


def test_idempotency_key_goes_along_only_when_the_request_stays_the_same():
    fields = check_fields([("Authorization", "x"), ("Content-Type", "t")], idempotency_key="k")
    kept = dict(after_redirect(fields, same_origin=True, keeps_body=True))
    changed = dict(after_redirect(fields, same_origin=True, keeps_body=False))
    elsewhere = dict(after_redirect(fields, same_origin=False, keeps_body=True))
    assert kept == {"Authorization": "x", "Content-Type": "t", "Idempotency-Key": "k"}
    assert changed == {"Authorization": "x"}
    assert elsewhere == {"Content-Type": "t", "Idempotency-Key": "k"}


@given(
    st.builds(lambda piece, times: piece * times, st.binary(max_size=99), st.integers(0, 4_000)),
    st.integers(1, 9_999),
    st.booleans(),
)
def test_body_is_the_same_however_it_is_cut_and_packed(body, step, packed):
    sent = (
        gzip.compress(body[: len(body) // 2], mtime=0) + gzip.compress(body[len(body) // 2 :], mtime=0)
        if packed
        else body
    )
    unpacker = Unpacker("gzip" if packed else "")
    pieces = [piece for at in range(0, len(sent), step) for piece in unpacker.unpack(sent[at : at + step])]
    assert b"".join(pieces) == body
    assert unpacker.complete
    assert all(0 < len(piece) <= 65_536 for piece in pieces)


@given(st.binary(max_size=2_000))
def test_unpacking_garbage_ends_in_a_value_error_or_an_incomplete_body(data):
    unpacker = Unpacker("gzip")
    try:
        list(unpacker.unpack(b"x" + data))
    except ValueError:
        return
    assert not unpacker.complete


@pytest.mark.parametrize(
    "charset", ["idna", "punycode", "utf-7", "unicode_escape", "rot13", "zlib", "utf-16", "x" * 99]
)
def test_charset_is_not_obeyed_when_it_is_not_one_of_the_plain_ones(charset):
    assert shown(b"abc", content_type=f"text/plain; charset={charset}") == {"base64": "YWJj"}


def test_method_after_a_redirect_is_what_rfc_9110_says():
    table = {(method, status): next_method(method, status) for method in ("GET", "HEAD", "POST", "PUT") for status in
             (301, 302, 303, 307, 308)}  # fmt: skip
    changed = {key for key, method in table.items() if method != key[0]}
    assert changed == {("POST", 301), ("POST", 302), ("POST", 303), ("PUT", 303)}
    assert {table[key] for key in changed} == {"GET"}


def test_a_redirect_that_keeps_the_method_has_done_nothing_yet():
    assert [may_have_acted("POST", status) for status in (301, 302, 303, 307, 308)] == [True, True, True, False, False]
    assert not any(may_have_acted("GET", status) for status in (301, 302, 303, 307, 308))


@pytest.mark.parametrize("status", [*range(400, 600), 700, 999])
def test_a_write_is_failed_only_when_the_server_itself_said_no(status):
    judged = judge_answer(method="POST", status=status, retry_after=False, acted=False)
    itself = status < 500 or status in {500, 501, 505, 506, 507, 508, 510, 511}
    assert judged.ending is (Ending.FAILED if itself else Ending.UNKNOWN)
    assert judge_answer(method="GET", status=status, retry_after=False, acted=False).ending is Ending.FAILED
    assert judge_answer(method="GET", status=status, retry_after=False, acted=True).ending is Ending.UNKNOWN


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PURGE"])
def test_a_broken_write_is_unknown_once_it_was_sent(method):
    def ending(*, sent: bool, status: int = 0, acted: bool = False) -> Ending:
        return judge_break(method=method, sent=sent, status=status, acted=acted)

    assert ending(sent=True) is Ending.UNKNOWN
    assert ending(sent=True, status=200) is Ending.UNKNOWN
    assert ending(sent=True, status=502) is Ending.UNKNOWN
    assert ending(sent=True, status=404) is Ending.FAILED
    assert ending(sent=False) is Ending.FAILED
    assert ending(sent=False, acted=True) is Ending.UNKNOWN
