"""A trip: one try of an order on its way through its hops, and how each way off the road is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from assent.execution import exchanges, headers, retries
from assent.execution.exchanges import Hop, Judgement
from assent.execution.orders import Credential, HttpOrder
from assent.execution.outcomes import Ending
from assent.execution.secrets import Secret
from assent.execution.urls import Url, parse_url, redirect_target
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed, Refused, Unavailable

if TYPE_CHECKING:
    import httpcore2

    from assent.execution.adapters.wires.wire import Wire

OnHead = Callable[[int, dict[str, str]], None]
_LIMIT_OF = {"too_much": "output_bytes_max", "head_too_long": "head_bytes"}
_OWN_CODES = frozenset({"upload_changed", "artefact_failed"})


class Trip:
    """One try on its way: the request of the current hop, what has come back, and what has been seen.

    `sent` tells whether a byte of the current hop's request may have left, `acted` whether an earlier hop, or an
    earlier try, may have changed something. `put_off` is set when the server said "later" and there is a later.
    """

    url: Url

    def __init__(self, number: int, *, acted: bool, on_head: OnHead | None = None) -> None:
        self.number = number
        self._on_head = on_head
        self.method = ""
        self._reads = False
        self.fields: headers.Fields = ()
        self.has_body = True
        self.hops: list[Hop] = []
        self.acted = acted
        self.sent = False
        self.put_off = False
        self._forget_answer()

    def _forget_answer(self) -> None:
        self.status = 0
        self.answer_fields: list[tuple[bytes, bytes]] = []

    def prepare(self, order: HttpOrder) -> None:
        """Check the order's own words and make them the first request.

        Raises:
            Malformed: `method_refused`, `header_refused`, `url_refused`, `host_refused`, `port_refused`,
                `order_malformed`.
        """
        self.method = headers.check_method(order.method)
        self._reads = order.reads
        self.fields = headers.check_fields(order.headers, idempotency_key=order.idempotency_key)
        self.url = parse_url(order.url)
        if order.upload is not None and order.body:
            raise Malformed("order_malformed", "the order has a body and a file to send", hint="give one of them")
        if not 0 <= order.retries_max <= retries.RETRIES_MAX:
            raise Malformed("order_malformed", f"`retries_max` is not 0 to {retries.RETRIES_MAX}")
        if order.retries_max and not retries.may_repeat(self.method, idempotency_key=order.idempotency_key):
            message = f"a {self.method} that is sent again may happen again"
            raise Malformed("order_malformed", message, hint="leave out `retries_max`, or give an idempotency key")

    def sign(self, credential: Credential, secret: Secret) -> None:
        """Put a secret into a header of the requests to this origin.

        Raises:
            Refused: `credential_in_the_clear`: it would go over the network as it is.
            Malformed: `header_refused`: the header is none that credentials travel in, or is there already.
        """
        if self.url.scheme == "http" and not self.url.host.is_loopback:
            raise Refused(
                "credential_in_the_clear", f"`{credential.handle}` would go to `{self.url.host.text}` unencrypted",
                hint="use https",
            )  # fmt: skip
        name = credential.header.lower()
        if not headers.is_secret(name) or any(given.lower() == name for given, _ in self.fields):
            raise Malformed("header_refused", f"the header `{name[:80]!a}` cannot carry this credential")
        signed = (*self.fields, (name, credential.prefix + secret.expose()))
        self.fields = headers.check_fields(signed, idempotency_key="")

    @property
    def _judged(self) -> str:
        """The method by which an ending is judged: a request that changes nothing is as harmless as a GET."""
        return "GET" if self._reads else self.method

    def next_hop(self) -> Hop:
        """Open the page for the hop that begins."""
        url = self.url
        hop = Hop(method=self.method, scheme=url.scheme, host=url.host.text, port=url.port, attempt=self.number)
        self.hops.append(hop)
        self.sent = False
        return hop

    def credentials(self) -> Digest:
        """A digest over the secret headers, so that connections are shared only under the same credentials."""
        secret = [(name.lower(), value) for name, value in self.fields if headers.is_secret(name)]
        return digest(msgspec.json.encode(secret))

    def note_head(self, response: httpcore2.Response) -> None:
        """Take down status and headers.

        Raises:
            Unavailable: this is no answer to use (`cut_short`, `head_too_long`).
        """
        self._forget_answer()
        self.status = self.hops[-1].status = response.status
        self.answer_fields = response.headers
        if response.status < 200:
            raise Unavailable("cut_short", f"the server switched protocols unasked ({response.status})")
        if len(response.headers) > headers.FIELDS_MAX:
            raise Unavailable("head_too_long", f"the answer has more than {headers.FIELDS_MAX} headers")
        if response.extensions.get("http_version") not in {b"HTTP/1.1", b"HTTP/1.0"}:
            raise Unavailable("cut_short", "the answer is of another version of HTTP than was spoken")
        names = {name.lower() for name, _ in response.headers}
        if {b"content-length", b"transfer-encoding"} <= names:  # two programs on the way may cut it differently
            raise Unavailable("cut_short", "the answer says its length in two ways")
        if self._on_head is not None:
            self._on_head(self.status, headers.shown_fields(self.answer_fields))

    def leave(self, wire: Wire) -> None:
        """Take over what the connection counted, before it is given back."""
        self.sent = wire.sent
        self.hops[-1].bytes_in, self.hops[-1].bytes_out = wire.counted()

    def follow(self, location: bytes, *, redirects_max: int) -> None:
        """Make the redirect's target the next request.

        Raises:
            Refused: it leads nowhere the lane goes, or there were too many (`redirect_refused`).
        """
        self.acted = self.acted or exchanges.may_have_acted(self._judged, self.status)
        if len(self.hops) > redirects_max:
            raise Refused("redirect_refused", f"more than {redirects_max} redirects", hint="raise `redirects_max`")
        try:
            target = redirect_target(self.url, location)
        except Refused as error:
            raise Refused("redirect_refused", error.message, hint=error.hint) from error
        method = exchanges.next_method(self.method, self.status)
        kept = method == self.method
        self.fields = headers.after_redirect(self.fields, same_origin=target.origin == self.url.origin, keeps_body=kept)
        self.has_body = self.has_body and kept
        self.method, self.url = method, target

    def answered(self) -> Judgement:
        """A whole answer came."""
        retry_after = headers.field(self.answer_fields, b"retry-after") is not None
        return exchanges.judge_answer(
            method=self._judged, status=self.status, retry_after=retry_after, acted=self.acted
        )

    def refused(self, error: Refused) -> Judgement:
        """The answer was no before a byte of this hop was sent."""
        ending = exchanges.judge_break(method=self._judged, sent=False, status=0, acted=self.acted)
        code = error.code
        if len(self.hops) > 1 and code in {"host_refused", "address_refused"}:
            code = "redirect_refused"
        if self.hops and not self.hops[-1].status:
            self.hops[-1].verdict = error.code
        limit = "redirects_max" if code == "redirect_refused" and error.hint == "raise `redirects_max`" else ""
        return Judgement(ending=ending, code=code, message=str(error), limit=limit)

    def unavailable(self, error: Unavailable) -> Judgement:
        """Nobody there, or something broke on the way."""
        if error.code in _OWN_CODES:
            return self.broken(error.code, str(error))
        if not self.sent:
            self.hops[-1].verdict = "unreachable"
            ending = exchanges.judge_break(method=self._judged, sent=False, status=0, acted=self.acted)
            return Judgement(ending=ending, code="unreachable", message=str(error))
        limit = _LIMIT_OF.get(error.code, "")
        judgement = self.broken("output_limit" if limit else "cut_short", str(error), limit=limit)
        if judgement.code == "cut_short" and judgement.ending is Ending.UNKNOWN:
            return msgspec.structs.replace(judgement, code="no_answer")
        return judgement

    def broken(self, code: str, message: str, *, limit: str = "") -> Judgement:
        """It ended without a whole answer, maybe after the request was sent."""
        ending = exchanges.judge_break(method=self._judged, sent=self.sent, status=self.status, acted=self.acted)
        if self.sent and ending is Ending.UNKNOWN:
            message += "; the request may have been carried out"
        return Judgement(ending=ending, code=code, message=message, limit=limit)
