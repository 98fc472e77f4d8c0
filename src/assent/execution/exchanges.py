"""How an HTTP exchange ended, judged from what is known about it. Pure.

The question is always: may the caller take it that nothing happened? FAILED says yes, UNKNOWN says nobody knows, and a
wrong FAILED makes somebody send an order twice.

- Before the request is on its way: FAILED.
- GET, HEAD and OPTIONS change nothing, so whatever breaks: FAILED. Every other method, PUT and DELETE included, is
  UNKNOWN once a byte was sent and no whole answer came back, unless the status line already said 4xx: that is a no.
- A whole answer settles it: below 400 SUCCEEDED; 4xx and 5xx FAILED, the server itself says so. What a server did
  before it failed with 500 is its own knowledge; the message says that.
- Except an answer that comes from a gateway and not from the server. 502 and 504 mean that the gateway lost the server
  after handing the request on; proxies in wide use also say 503 for that (and 52x). So for methods that change things
  these are UNKNOWN. A 503 with `Retry-After` is the refusal that RFC 9110 section 15.6.4 describes: FAILED.
- A redirect with 301, 302 or 303 after a method that changes things usually *is* its success. Whatever fails further
  along the way, the first request was carried out or may have been: UNKNOWN. 307 and 308 have done nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from assent.execution.attestations import Attestation, Known, Property
from assent.execution.headers import SAFE_METHODS
from assent.execution.outcomes import Ending, Evidence, Outcome

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD = frozenset({307, 308})
_SERVERS_OWN_5XX = frozenset({500, 501, 505, 506, 507, 508, 510, 511})


class Judgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it ended, the stable code, the sentence for people, and the name of the limit that ended it, if one did."""

    ending: Ending
    code: str
    message: str = ""
    limit: str = ""


class Hop(msgspec.Struct, kw_only=True):
    """What is known about one hop, written down as it becomes known. The only mutable value here: a notebook page."""

    method: str
    scheme: str
    host: str
    port: int
    attempt: int = 1
    proxy: str = ""
    verdict: str = "not reached"
    resolved: list[str] = []
    address: str = ""
    reused: bool = False
    tls_peer_sha256: str = ""
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


def reached(mechanism: str, hops: Iterable[Hop]) -> Attestation:
    """What is known of an exchange's reach: no foreign code ran, and these are the addresses that were dialled."""
    dialled = ", ".join(dict.fromkeys(hop.address for hop in hops if hop.address)) or "none"
    properties = {
        "egress": Property(value="allow-list by name and address, content not inspected", known=Known.OBSERVED),
        "addresses": Property(value=dialled, known=Known.OBSERVED),
    }
    return Attestation(mechanism=mechanism, properties=properties, builtin=True)


def concluded(judgement: Judgement, *, value: dict[str, Any], evidence: Evidence) -> Outcome:
    """The outcome that a judgement is."""
    return Outcome(
        ending=judgement.ending, code=judgement.code, message=judgement.message, value=value, evidence=evidence
    )


def judge_answer(*, method: str, status: int, retry_after: bool, acted: bool) -> Judgement:
    """Judge a whole answer. `acted`: an earlier hop, already answered, may have changed something."""
    if status < 400:
        return Judgement(ending=Ending.SUCCEEDED, code="ok")
    ending, said = Ending.FAILED, f"the server answered {status}"
    if method not in SAFE_METHODS and _from_a_gateway(status, retry_after=retry_after):
        ending = Ending.UNKNOWN
        said = f"a gateway answered {status}: the server behind it may have carried out the request"
    elif method not in SAFE_METHODS and status >= 500:
        said += "; what it did before it failed is not known here"
    if acted:
        ending, said = Ending.UNKNOWN, f"{said}; an earlier hop may already have taken effect"
    return Judgement(ending=ending, code="http_status", message=said)


def judge_break(*, method: str, sent: bool, status: int, acted: bool) -> Ending:
    """Judge an exchange without a whole answer. `status` is 0 while no status line has come."""
    harmless = not sent or method in SAFE_METHODS or 400 <= status < 500
    return Ending.FAILED if harmless and not acted else Ending.UNKNOWN


def next_method(method: str, status: int) -> str:
    """The method after a redirect (RFC 9110 section 15.4): 303 makes it GET, 301 and 302 do so for POST."""
    if status in _KEEPS_METHOD or method in {"GET", "HEAD"}:
        return method
    return "GET" if status == 303 or method == "POST" else method


def may_have_acted(method: str, status: int) -> bool:
    """Whether a hop that was answered with this redirect may have changed something."""
    return method not in SAFE_METHODS and status not in _KEEPS_METHOD


def _from_a_gateway(status: int, *, retry_after: bool) -> bool:
    return status >= 500 and status not in _SERVERS_OWN_5XX and not (status == 503 and retry_after)
