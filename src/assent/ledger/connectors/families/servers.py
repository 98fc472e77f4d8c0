"""Which server the calls of a description fall on: one address, fixed when it is admitted. Pure.

A description may name any server, also ones that only this machine can reach. So what it names is taken only when it is
one whole address in public space; a template, a relative address without an origin, an address in private, loopback or
link-local space must be named by the person who admits it. Addresses at which machines learn their credentials are
refused whoever names them.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin

from assent.execution.addresses import judge
from assent.execution.urls import Url, parse_url
from assent.ledger.connectors.families.names import told
from assent.primitives.canonical import Json
from assent.primitives.errors import Malformed

_METADATA = ("metadata.google.internal", "metadata.goog", "metadata", "instance-data")
_HINT = "name the server with --server https://…"


def base_url(servers: Json, *, chosen: str, fetched_from: str = "") -> str:
    """The base URL of all calls, without a slash at its end.

    Raises:
        Malformed: `server_refused`.
    """
    if chosen:
        return check_server(chosen, by_person=True)
    listed = [one.get("url") for one in servers if isinstance(one, dict)] if isinstance(servers, list) else []
    named = next((url for url in listed if isinstance(url, str)), "/")
    if "{" in named:
        raise _refused(f"the server {told(named)!a} is a template", hint=_HINT)
    if "://" not in named:
        if not fetched_from:
            raise _refused("the description names no whole server address", hint=_HINT)
        found = urljoin(fetched_from, named)
        # Where it came from is an origin that a person named; `//elsewhere/` is another one.
        same = parse_url(found).origin == parse_url(fetched_from).origin
        return check_server(found, by_person=same)
    return check_server(named, by_person=False)


def check_server(text: str, *, by_person: bool) -> str:
    """The URL in its one spelling, when calls may fall on it.

    Raises:
        Malformed: `server_refused`.
    """
    try:
        url = parse_url(text.rstrip("/"))
    except Malformed as malformed:
        raise _refused(f"the server is refused: {malformed.message}", hint=malformed.hint or _HINT) from malformed
    path = url.target.rstrip("/")
    if "?" in path or "#" in text or any(part in (".", "..") for part in path.split("/")):
        raise _refused("the server's address has a query, a fragment or a path that climbs", hint=_HINT)
    _check_reach(url, by_person=by_person)
    return f"{url.scheme}://{url.authority}{path}"


def _check_reach(url: Url, *, by_person: bool) -> None:
    host = url.host.text
    verdict = judge(host) if url.host.is_address else None
    local = host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    if host in _METADATA or (verdict and not verdict.public and _is_metadata(host, verdict.reason)):
        raise _refused(f"`{host}` is an address at which machines learn their credentials")
    if not by_person and (local or (verdict is not None and not verdict.public)):
        why = verdict.reason if verdict else "local"
        raise _refused(f"the description names the server `{host}` ({why}), which only this machine may reach",
                       hint="if it is meant, name it yourself with --server")  # fmt: skip


def _is_metadata(host: str, reason: str) -> bool:
    return "metadata" in reason or ipaddress.ip_address(host).is_link_local


def _refused(message: str, *, hint: str = "") -> Malformed:
    return Malformed("server_refused", message, hint=hint)
