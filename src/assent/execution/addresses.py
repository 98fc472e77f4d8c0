"""Which addresses a name may resolve to: the table of special space, and the IPv4 addresses hidden in IPv6. Pure.

`ipaddress.is_private` and `is_global` answer another question: on CPython 3.11 they call `::7f00:1` (loopback in the
old IPv4-compatible form), `2002:7f00:1::` (6to4 of loopback) and `64:ff9b:1::1` (local NAT64) global. So the table is
written out here, from the IANA special-purpose registries, plus the addresses at which clouds serve credentials. Two
rules make it hold for what the table does not name:

- IPv6 is an allow-list: only 2000::/3, the space IANA has given out, is public at all, apart from the two forms that
  carry a public IPv4 address and are in daily use: `::ffff:a.b.c.d` and NAT64 `64:ff9b::a.b.c.d`;
- an IPv4 address inside an IPv6 one is judged as well, and a bad one condemns the whole. Decoded: mapped, translated
  (SIIT), NAT64, IPv4-compatible, 6to4, Teredo (server and client) and ISATAP.

Out of reach: a NAT64 gateway with its own prefix inside 2000::/3 (RFC 6052) looks like any other public address. Such a
gateway must itself refuse private targets.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

_SPECIAL_IPV4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(text), reason)
    for text, reason in (
        ("168.63.129.16/32", "cloud metadata"),
        ("100.100.100.200/32", "cloud metadata"),
        ("192.0.0.192/32", "cloud metadata"),
        ("169.254.169.254/32", "cloud metadata"),
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared carrier space"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_SPECIAL_IPV6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(text), reason)
    for text, reason in (
        ("fd00:ec2::254/128", "cloud metadata"),
        ("fd20:ce::254/128", "cloud metadata"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

_GIVEN_OUT = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_LAST_32_BITS = (_MAPPED, _NAT64, IPv6Network("::/96"), IPv6Network("::ffff:0:0:0/96"))
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_32_BITS = 0xFFFF_FFFF


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether an address is public, and if not, which space it is in (`loopback`, `private inside mapped …`)."""

    address: str
    public: bool
    reason: str = ""


def judge(text: str) -> Verdict:
    """Judge one address in its text form, as a resolver answers it. What is no address is not public."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return Verdict(address=text, public=False, reason="not an address")
    reason = _reason(address)
    return Verdict(address=str(address), public=not reason, reason=reason)


def embedded_ipv4(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Every IPv4 address that `address` carries inside, by any of the known encodings."""
    bits = int(address)
    found: list[int] = []
    if any(address in network for network in _LAST_32_BITS) and bits > 1:
        found.append(bits & _32_BITS)
    if address in _SIX_TO_FOUR:
        found.append(bits >> 80 & _32_BITS)
    if address in _TEREDO:
        found += [bits >> 64 & _32_BITS, ~bits & _32_BITS]
    if bits >> 32 & _32_BITS in _ISATAP:
        found.append(bits & _32_BITS)
    return tuple(IPv4Address(value) for value in found)


def _reason(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return next((reason for network, reason in _SPECIAL_IPV4 if address in network), "")
    if address.scope_id is not None:
        return "scoped to a link"
    for inner in embedded_ipv4(address):
        if reason := _reason(inner):
            return f"{reason} ({inner}) inside {_carrier(address)}"
    return _carrier(address) if address not in _MAPPED and address not in _NAT64 else ""


def _carrier(address: IPv6Address) -> str:
    if address in _MAPPED:
        return "IPv4-mapped"
    if address in _NAT64:
        return "NAT64"
    for network, reason in _SPECIAL_IPV6:
        if address in network:
            return reason
    return "" if address in _GIVEN_OUT else "not given out by IANA"
