"""URLs an order may name, read by one strict grammar, and where a redirect leads. Pure.

This is the only URL parser between an order and the socket: what it returns is what is dialled, so there is no second
reading that could differ. It takes absolute `http` and `https` URLs of RFC 3986 in ASCII, without user information. The
path and query are sent as they stand.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Literal

import msgspec

from assent.execution.hosts import Host, split_authority
from assent.primitives.errors import Malformed

_PORTS: dict[str, int] = {"http": 80, "https": 443}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?\Z")
_TARGET = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*\Z")
_LOCATION_SAFE = "%:/?#[]@!$&'()*+,;=-._~"
_URL_CHARS_MAX = 8192


class Url(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL taken apart; `target` is the path and query as the request line carries them."""

    scheme: Literal["http", "https"]
    host: Host
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: the origin of RFC 6454."""
        return self.scheme, self.host.text, self.port

    @property
    def authority(self) -> str:
        """The `Host` header: the port is left out where it is the scheme's own."""
        return self.host.in_url if self.port == _PORTS[self.scheme] else f"{self.host.in_url}:{self.port}"

    @property
    def text(self) -> str:
        """The whole URL in its one spelling."""
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(text: str) -> Url:
    """Read an absolute URL.

    Raises:
        Malformed: it is not one in this grammar (`url_refused`), or its host or port is not (`host_refused`,
            `port_refused`). Messages never repeat the URL, which may carry a secret.
    """
    found = _URL.match(text) if len(text) <= _URL_CHARS_MAX else None
    if found is None:
        raise _refused("the URL is not an absolute URL of at most 8192 characters")
    scheme = found["scheme"].lower()
    if scheme not in _PORTS:
        raise _refused(f"the scheme `{scheme[:20]}` is not carried", hint="use http or https")
    if "@" in found["authority"]:
        raise _refused("the URL carries user information", hint="send credentials in a header")
    if not _TARGET.match(found["target"]):
        raise _refused("the path or query has characters outside RFC 3986", hint="percent-encode them")
    host, port = split_authority(found["authority"], default_port=_PORTS[scheme])
    return Url(scheme="https" if scheme == "https" else "http", host=host, port=port, target=_rooted(found["target"]))


def parse_websocket_url(text: str) -> Url:
    """Read an absolute `ws` or `wss` URL (RFC 6455 section 3), as the http or https URL of its opening handshake.

    Raises:
        Malformed: as `parse_url`.
    """
    scheme, colon, rest = text.partition(":")
    carried = {"ws": "http", "wss": "https"}.get(scheme.lower())
    if carried is None:
        raise _refused(f"the scheme `{ascii(scheme[:20])[1:-1]}` is not carried", hint="use ws or wss")
    return parse_url(f"{carried}{colon}{rest}")


def redirect_target(url: Url, location: bytes) -> Url:
    """Where `location`, the raw header value, leads from `url`. Characters real servers leave bare are encoded first.

    Raises:
        Malformed: it leads to no URL in the grammar, or from https to http.
    """
    reference = urllib.parse.quote(location.strip(b" \t"), safe=_LOCATION_SAFE)
    try:
        joined = urllib.parse.urljoin(url.text, reference)
    except ValueError as error:
        raise _refused("the redirect's location cannot be read") from error
    target = parse_url(joined)
    if url.scheme == "https" and target.scheme == "http":
        raise _refused("the redirect leads from https to http")
    return target


def _rooted(target: str) -> str:
    return target if target.startswith("/") else f"/{target}"


def _refused(message: str, *, hint: str = "") -> Malformed:
    return Malformed("url_refused", message, hint=hint)
