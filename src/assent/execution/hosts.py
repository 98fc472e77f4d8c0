r"""Hosts in one canonical spelling, and the `host:port` allow-list. Pure.

Programs disagree about what a host string means, and every disagreement is a way round an allow-list: one parser sees
`localhost\0.allowed.test` as a name below `allowed.test`, the C resolver stops at the NUL; `0177.0.0.1`, `127.1` and
`2130706433` are names to one and loopback to another; full-width digits and dots become ASCII only in some. So there is
exactly one grammar, and what does not fit it has no meaning here at all:

- a name: ASCII labels of 1-63 letters, digits and inner hyphens, at most 253 characters, one trailing dot forgiven,
  case folded. Its last label is not a number (`7`, `0x7f`), as in the "ends in a number" rule of the WHATWG URL
  Standard. Names outside ASCII are written in their `xn--` form by the caller; nothing is translated here;
- an IPv4 address: four plain decimal numbers without leading zeros;
- an IPv6 address in brackets, without zone; compared by value, so `[::0001]` is `[::1]`.

An allow-list entry is `host:port`, matched exactly. `*.example.org:443` matches every name below `example.org`, at any
depth and never `example.org` itself; it needs two labels after the star, so that nobody lists all of `org`. An address
is matched only by an entry that is that same address: no name, wildcard or other spelling covers it.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from assent.primitives.errors import Malformed

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")
_NAME_CHARS_MAX = 253
_SHOWN_CHARS_MAX = 80


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host in its one spelling: a lower-case name, or an address without brackets."""

    kind: Literal["name", "ipv4", "ipv6"]
    text: str

    @property
    def is_address(self) -> bool:
        """Whether it is an address and not a name."""
        return self.kind != "name"

    @property
    def is_loopback(self) -> bool:
        """Whether it is, literally, this machine itself."""
        return (self.kind == "ipv4" and self.text.startswith("127.")) or (self.kind, self.text) == ("ipv6", "::1")

    @property
    def in_url(self) -> str:
        """The host as an authority spells it: IPv6 in brackets."""
        return f"[{self.text}]" if self.kind == "ipv6" else self.text


@functools.lru_cache(maxsize=1024)  # the same few hosts are read again and again; what is refused is not kept
def canonical_host(text: str) -> Host:
    """Read a host as it stands in an authority or an allow-list.

    Raises:
        Malformed: `text` is no host in the grammar above (code `host_refused`).
    """
    if not text.isascii():
        raise _refused(text, "is not ASCII", hint="write an international name in its `xn--` form")
    if text.startswith("[") or ":" in text:
        return _ipv6(text)
    lowered = text.lower()
    if _NUMBER.match(lowered.removesuffix(".").rpartition(".")[2]):
        return _ipv4(lowered)
    name = lowered.removesuffix(".")
    if len(name) > _NAME_CHARS_MAX or not _NAME.match(name):
        raise _refused(text, "is not a host name")
    return Host(kind="name", text=name)


def check_proxy(text: str) -> str:
    """Return `text`, a proxy's `host:port`, or nothing.

    Raises:
        Malformed: it is neither (`host_refused`, `port_refused`).
    """
    if text:
        split_authority(text, default_port=None)
    return text


def split_authority(text: str, *, default_port: int | None) -> tuple[Host, int]:
    """Read `host` or `host:port`; an address in IPv6 stands in brackets.

    Raises:
        Malformed: no host (`host_refused`), or no port from 1 to 65535 (`port_refused`).
    """
    host, colon, port = _at_port(text)
    if colon:
        return canonical_host(host), _port(port)
    if default_port is None:
        raise Malformed("port_refused", f"{_shown(text)} names no port", hint="write `host:port`")
    return canonical_host(host), default_port


class AllowList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hosts an order may reach: exact hosts, and the tails (`.example.org`) of wildcards, each with a port."""

    exact: frozenset[tuple[str, int]]
    below: frozenset[tuple[str, int]]

    def admits(self, host: Host, port: int) -> bool:
        """Whether `host:port` is listed. For an address that means: as this very address."""
        if (host.text, port) in self.exact:
            return True
        return not host.is_address and any(port == p and host.text.endswith(tail) for tail, p in self.below)

    def lists_address(self, address: str, port: int) -> bool:
        """Whether an entry is literally `address:port`; only this opens loopback, private and other special space."""
        return (address, port) in self.exact


def allow_list(entries: Iterable[str]) -> AllowList:
    """Read allow-list entries.

    Raises:
        Malformed: an entry is not `host:port`, or a wildcard is not `*.` and two or more labels
            (`allow_list_malformed`).
    """
    exact: set[tuple[str, int]] = set()
    below: set[tuple[str, int]] = set()
    for entry in entries:
        host, port, wild = _entry(entry)
        (below if wild else exact).add((f".{host.text}" if wild else host.text, port))
    return AllowList(exact=frozenset(exact), below=frozenset(below))


def in_common(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    """The entries, in their canonical spelling and in order, that admit exactly what both lists admit.

    Raises:
        Malformed: `allow_list_malformed`.
    """
    first, second = {_entry(entry) for entry in one}, {_entry(entry) for entry in other}
    both = {e for e in first if _covered(e, second)} | {e for e in second if _covered(e, first)}
    return tuple(sorted(f"{'*.' if wild else ''}{host.in_url}:{port}" for host, port, wild in both))


def _covered(entry: tuple[Host, int, bool], entries: Iterable[tuple[Host, int, bool]]) -> bool:
    """Whether what `entry` admits is all admitted by one of `entries`."""
    host, port, _ = entry
    for wider, its_port, wild in entries:
        below = wild and not host.is_address and host.text.endswith(f".{wider.text}")
        if entry == (wider, its_port, wild) or (port == its_port and below):
            return True
    return False


def _entry(entry: str) -> tuple[Host, int, bool]:
    wild = entry.startswith("*.")
    try:
        host, port = split_authority(entry.removeprefix("*."), default_port=None)
    except Malformed as error:
        hint = "entries look like `example.org:443`, `*.example.org:443` or `127.0.0.1:8080`"
        raise Malformed("allow_list_malformed", f"{_shown(entry)} is no allow-list entry", hint=hint) from error
    if wild and (host.is_address or "." not in host.text):
        hint = "write at least two labels after the star: `*.example.org:443`"
        raise Malformed("allow_list_malformed", f"the wildcard {_shown(entry)} is too wide", hint=hint)
    return host, port, wild


def _at_port(text: str) -> tuple[str, str, str]:
    if not text.startswith("["):
        return text.partition(":")
    inside, bracket, rest = text.partition("]")
    if rest and not rest.startswith(":"):
        raise _refused(text, "has text after the bracket")
    return inside + bracket, rest[:1], rest[1:]


def _port(text: str) -> int:
    if not _PORT.match(text) or int(text) > 65535:
        raise Malformed("port_refused", f"{_shown(text)} is not a port", hint="use a number from 1 to 65535")
    return int(text)


def _ipv4(text: str) -> Host:
    try:
        return Host(kind="ipv4", text=str(ipaddress.IPv4Address(text)))
    except ValueError as error:
        raise _refused(text, "is a number, not an address", hint="write an IPv4 address as four decimals") from error


def _ipv6(text: str) -> Host:
    if not (text.startswith("[") and text.endswith("]")) or "%" in text:
        raise _refused(text, "is not an address", hint="write an IPv6 address in brackets, without a zone")
    try:
        return Host(kind="ipv6", text=str(ipaddress.IPv6Address(text[1:-1])))
    except ValueError as error:
        raise _refused(text, "is not an address") from error


def _refused(text: str, why: str, *, hint: str = "") -> Malformed:
    return Malformed("host_refused", f"{_shown(text)} {why}", hint=hint)


def _shown(text: str) -> str:
    return f"`{ascii(text[:_SHOWN_CHARS_MAX])[1:-1]}`"
