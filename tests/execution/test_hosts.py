"""The host grammar and the allow-list: one spelling per host, and nothing matches that is not listed."""

from __future__ import annotations

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.hosts import Host, allow_list, canonical_host, split_authority
from assent.primitives.errors import Malformed

LDH = string.ascii_lowercase + string.digits + "-"
labels = st.text(LDH, min_size=1, max_size=20).filter(lambda t: not (t.startswith("-") or t.endswith("-")))
words = st.text(string.ascii_lowercase, min_size=1, max_size=12)
names = st.builds(lambda front, last: ".".join([*front, last]), st.lists(labels, max_size=4), words)
ports = st.integers(1, 65535)


@given(names)
def test_host_is_its_own_canonical_form_when_it_is_a_lower_case_name(name):
    assert canonical_host(name) == Host(kind="name", text=name)


@given(names, st.booleans())
def test_host_loses_case_and_one_trailing_dot_when_read(name, dotted):
    assert canonical_host(name.upper() + ("." if dotted else "")).text == name


@given(st.text(max_size=40))
def test_host_is_refused_or_plain_ascii_when_the_text_is_arbitrary(text):
    try:
        host = canonical_host(text)
    except Malformed:
        return
    assert set(host.text) <= set(LDH + ".:")
    assert canonical_host(host.in_url) == host


@given(names, st.sampled_from("\0\r\n\t @#%/\\_?&;,|<>\"'`{}^~$!*()+=\x7f"), st.data())
def test_host_is_refused_when_any_foreign_character_stands_in_it(name, foreign, data):
    at = data.draw(st.integers(0, len(name)))
    with pytest.raises(Malformed):
        canonical_host(name[:at] + foreign + name[at:])


@given(names, st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), st.data())
def test_host_is_refused_when_any_character_is_not_ascii(name, foreign, data):
    at = data.draw(st.integers(0, len(name)))
    with pytest.raises(Malformed):
        canonical_host(name[:at] + foreign + name[at:])


@given(st.ip_addresses(v=4))
def test_ipv4_address_is_read_when_written_as_four_decimals(address):
    assert canonical_host(str(address)) == Host(kind="ipv4", text=str(address))


@given(st.ip_addresses(v=6))
def test_ipv6_address_is_the_same_host_when_compressed_or_spelled_out(address):
    assert isinstance(address, ipaddress.IPv6Address)
    assert canonical_host(f"[{address}]") == canonical_host(f"[{address.exploded.upper()}]")


@pytest.mark.parametrize(
    "text",
    [
        "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "127.0.0.01", "1.2.3.4.5", "256.0.0.1",
        "0x7f.1", "a.7", "a.0x7f", "a.0x", "::1", "[::1", "::1]", "[::1%lo]", "[127.0.0.1]", "[]", "", ".", "a..b",
        ".a", "a..", "-a", "a-", "a_b", "a b", "localhost\0.allowed.test", "%31%32%37.0.0.1",
        "\uff11\uff12\uff17.0.0.1", "\u24db\u006fcalhost", "a\u3002b", "\u0430pple.test", "\u212aelvin",
        "x" * 64, ".".join(["x" * 60] * 5),
    ],
)  # fmt: skip
def test_host_is_refused_when_parsers_could_disagree_about_it(text):
    with pytest.raises(Malformed) as caught:
        canonical_host(text)
    assert caught.value.code == "host_refused"
    assert "\0" not in caught.value.message


@pytest.mark.parametrize("port", ["0", "65536", "99999", "-1", "+80", "080", "8 0", "", "\uff18\uff10", "80a", "1e3"])
def test_port_is_refused_when_it_is_not_a_plain_number_in_range(port):
    with pytest.raises(Malformed) as caught:
        split_authority(f"a.test:{port}", default_port=80)
    assert caught.value.code == "port_refused"


def test_authority_takes_the_default_port_when_it_names_none():
    assert split_authority("A.test", default_port=443) == (Host(kind="name", text="a.test"), 443)
    assert split_authority("[::1]", default_port=80) == (Host(kind="ipv6", text="::1"), 80)
    assert split_authority("[::1]:81", default_port=80)[1] == 81


@pytest.mark.parametrize("text", ["[::1]x", "[::1]x:80", "a.test:80:81", "user@a.test:80"])
def test_authority_is_refused_when_something_else_stands_in_it(text):
    with pytest.raises(Malformed):
        split_authority(text, default_port=80)


@given(names, ports, names, ports)
def test_allow_list_admits_a_host_exactly_when_host_and_port_are_listed(listed, port, asked, asked_port):
    allowed = allow_list([f"{listed}:{port}"])
    assert allowed.admits(canonical_host(listed), port)
    assert allowed.admits(canonical_host(asked), asked_port) == ((listed, port) == (asked, asked_port))


@given(names, labels)
def test_wildcard_admits_names_below_and_never_the_name_itself(name, label):
    base = f"{name}.test"
    allowed = allow_list([f"*.{base}:443"])
    assert allowed.admits(canonical_host(f"{label}.{base}"), 443)
    assert allowed.admits(canonical_host(f"{label}.deep.{base}"), 443)
    assert not allowed.admits(canonical_host(base), 443)
    assert not allowed.admits(canonical_host(f"{label}.{base}"), 80)
    assert not allowed.admits(canonical_host(f"x{base}"), 443)
    assert not allowed.admits(canonical_host(f"{label}.{base}.evil.test"), 443)


def test_wildcard_admits_no_address_when_its_tail_looks_like_one():
    allowed = allow_list(["*.example.org:80", "10.0.0.1:80"])
    assert allowed.admits(canonical_host("10.0.0.1"), 80)
    assert not allowed.admits(canonical_host("10.0.0.2"), 80)
    assert not allowed.admits(canonical_host("[::ffff:10.0.0.1]"), 80)
    assert allowed.lists_address("10.0.0.1", 80)
    assert not allowed.lists_address("10.0.0.1", 81)


@pytest.mark.parametrize(
    "entry",
    ["a.test", "a.test:", "a.test:0", "*:443", "*.org:443", "*.1.2.3.4:80", "*.[::1]:80", "a.*.test:80", "**.a.test:80",
     "http://a.test:80", "a.test:80/", "", ":80", "*.*.test:80", "a.test:443,b.test:443", "::1:80"],
)  # fmt: skip
def test_allow_list_is_refused_when_an_entry_is_not_exactly_host_and_port(entry):
    with pytest.raises(Malformed) as caught:
        allow_list(["fine.test:443", entry])
    assert caught.value.code == "allow_list_malformed"
