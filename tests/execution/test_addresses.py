"""The address table: nothing that leads inside counts as public, whatever it is wrapped in."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.addresses import embedded_ipv4, judge

INSIDE = (
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255",
)  # fmt: skip

WRAPPERS = {
    "mapped": "::ffff:{hex}",
    "translated": "::ffff:0:{hex}",
    "nat64": "64:ff9b::{hex}",
    "compatible": "::{hex}",
    "isatap": "2a00:1450:4001:80b:0:5efe:{hex}",
    "isatap-global-bit": "2a00:1450:4001:80b:200:5efe:{hex}",
}


def wrapped(address: str, shape: str) -> str:
    value = int(ipaddress.IPv4Address(address))
    return shape.format(hex=f"{value >> 16:x}:{value & 0xFFFF:x}")


@pytest.mark.parametrize("address", INSIDE)
def test_address_is_not_public_when_it_is_in_special_space(address):
    verdict = judge(address)
    assert not verdict.public
    assert verdict.reason


@pytest.mark.parametrize("address", INSIDE)
@pytest.mark.parametrize("shape", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_address_is_not_public_when_a_special_one_hides_in_it(address, shape):
    assert not judge(wrapped(address, shape)).public


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("2002:7f00:1::", "loopback (127.0.0.1) inside 6to4"),
        ("2001:0:a00:1::", "private (10.0.0.1) inside protocol assignments"),
        ("2001:0:808:808:0:0:80ff:fffe", "loopback (127.0.0.1) inside protocol assignments"),
        ("::ffff:169.254.169.254", "cloud metadata (169.254.169.254) inside IPv4-mapped"),
        ("64:ff9b::7f00:1", "loopback (127.0.0.1) inside NAT64"),
        ("64:ff9b:1::1", "local NAT64"),
        ("::7f00:1", "loopback (127.0.0.1) inside IPv4-compatible"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("100::1", "discard"),
        ("2001:db8::1", "documentation"),
        ("2002:808:808::", "6to4"),
        ("3fff::1", "documentation"),
        ("5f00::1", "segment routing"),
        ("fc00::1", "unique local"),
        ("fd00:ec2::254", "cloud metadata"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("4000::1", "not given out by IANA"),
        ("::ffff:0:808:808", "IPv4-translated"),
        ("fe80::1%eth0", "scoped to a link"),
        ("2a00:1450::1%eth0", "scoped to a link"),
        ("127.1", "not an address"),
        ("localhost", "not an address"),
        ("", "not an address"),
    ],
)
def test_judge_says_why_when_an_address_is_not_public(address, reason):
    verdict = judge(address)
    assert (verdict.public, verdict.reason) == (False, reason)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.0.1.1",
     "198.17.255.255", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8",
     "64:ff9b::808:808"],
)  # fmt: skip
def test_address_is_public_when_it_lies_just_outside_special_space(address):
    assert judge(address).public


@given(st.ip_addresses(v=4))
def test_wrapped_address_is_public_only_if_the_inner_one_is(address):
    text = str(address)
    for name in ("mapped", "nat64"):
        assert judge(wrapped(text, WRAPPERS[name])).public == judge(text).public
    for name in ("translated", "compatible"):
        assert not judge(wrapped(text, WRAPPERS[name])).public


@given(st.ip_addresses(v=4))
def test_public_ipv4_address_is_one_the_standard_library_calls_global(address):
    if judge(str(address)).public:
        assert address.is_global


@given(st.ip_addresses(v=6))
def test_public_ipv6_address_is_given_out_or_carries_a_public_ipv4_address(address):
    assert isinstance(address, ipaddress.IPv6Address)
    if judge(str(address)).public and address not in ipaddress.IPv6Network("2000::/3"):
        assert [judge(str(inner)).public for inner in embedded_ipv4(address)] == [True]
