"""HTTP: get, head, put, post, delete. One exchange with one URL, in the reading of the lane that will dial it.

What policy judges must be what is carried. So the URL is read here by the lane's own strict grammar and goes into the
order in its canonical spelling; headers that say something else than the call does (another method, another path, a
proxy's word about who asks) are refused; and only reads follow redirects: a write falls on the URL that was judged or
nowhere. Headers by which credentials travel are refused as well, because arguments are recorded and credentials never.

A call may be tried again (`retries`) only where a second request is the first one over: reads, and by their meaning PUT
and DELETE. A POST never says so, and is never sent twice.

What a later `http.get` of the same URL says about a call whose outcome is unknown. It supposes that the server answers
with what was put, and for what is gone with 404 or 410:

| call   | happened                | not happened | unclear                                               |
|--------|-------------------------|--------------|-------------------------------------------------------|
| put    | 200 with the very bytes | 404, 410     | other bytes: old, newer, or the server's own spelling |
| delete | 404, 410                | 200          | anything else: an error page tells of no resource     |
| post   | never                   | never        | always: the URL that was posted to does not change    |
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Literal

from assent.execution.attestations import ConfinementClass
from assent.execution.headers import check_fields, is_secret
from assent.execution.obligations import Obligations
from assent.execution.orders import HttpOrder
from assent.execution.retries import RETRIES_MAX
from assent.execution.urls import Url, parse_url
from assent.ledger.connectors.paths import escaped
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.errors import Malformed

WEAKEST = ConfinementClass.LOCAL_WEAK  # nothing but Assent's own code runs in the http lane
URL_BYTES_MAX = 8_192
BODY_BYTES_MAX = 1_048_576
BODY_BASE64_BYTES_MAX = 16_777_216
CONTENT_TYPE_BYTES_MAX = 256
READ_REDIRECTS_MAX = 3
READ_RETRIES = 2

Method = Literal["GET", "HEAD", "PUT", "POST", "DELETE"]
Fields = tuple[tuple[str, str], ...]
Reading = Callable[[dict[str, Any], dict[str, Any]], Judgement]

_STEERING = frozenset(
    {"x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url", "x-real-ip",
     "forwarded"}
)  # fmt: skip
_GONE = (404, 410)


class HttpOperation:
    """One method of the http lane. `reading` judges the value of an `http.get`, given the call's arguments."""

    def __init__(self, contract: OperationContract, *, method: Method, reading: Reading | None = None) -> None:
        self.contract = contract
        self._method: Method = method
        self._reading = reading

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The method, the canonical `host:port` and the size of the body."""
        given = self._given(arguments)
        url = parse_url(given["url"])
        request_fields(given, key="")
        retries_of(given)
        self._check_body(given)
        return Facts(host=host_port(url), method=self._method, payload_bytes=len(_body(given)))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,  # noqa: ARG002 (the protocol's)
        obligations: Obligations,
        key: str,
    ) -> HttpOrder:
        """The order for the http lane. `key` goes out with every method but the reads.

        Raises:
            Malformed: `url_refused`, `host_refused`, `port_refused`, `header_refused`, `arguments_invalid`.
        """
        given = self._given(arguments)
        self._check_body(given)
        reads = self.contract.effect is EffectClass.READ
        sent_key = "" if reads else key
        return HttpOrder(
            method=self._method,
            url=parse_url(given["url"]).text,
            hosts=obligations.hosts,
            headers=request_fields(given, key=sent_key),
            body=_body(given),
            redirects_max=READ_REDIRECTS_MAX if reads else 0,
            retries_max=retries_of(given),
            idempotency_key=sent_key,
            limits=obligations.limits,
        )

    def observation(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """The same URL for `http.get`, with the headers that do not speak of a body or set a condition."""
        if self._reading is None:
            return None
        given = self._given(arguments)
        kept = {n: v for n, v in given["headers"].items() if not n.lower().startswith(("content-", "if-", "range"))}
        return {"url": given["url"], "headers": kept}

    def judge(self, arguments: dict[str, Any], observed_code: str, observed: dict[str, Any]) -> Judgement:
        """See the table at the top of this module."""
        if self._reading is None or observed_code not in ("ok", "http_status"):
            return Judgement.UNCLEAR
        return self._reading(self._given(arguments), observed)

    def _check_body(self, given: dict[str, Any]) -> None:
        if self._method == "PUT" and not {"body", "body_base64"} & given.keys():
            raise Malformed(
                "arguments_invalid", "`body` is missing, and `body_base64` as well", hint="give one of them"
            )

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return read_arguments(self.contract, arguments)


def host_port(url: Url) -> str:
    """The host and port as allow-lists write them: `example.org:443`, `[::1]:8080`."""
    return f"{url.host.in_url}:{url.port}"


def retries_of(given: dict[str, Any]) -> int:
    """How many further tries were asked for.

    Raises:
        Malformed: `arguments_invalid`, it is no such number.
    """
    retries: int = given.get("retries", 0)
    if not 0 <= retries <= RETRIES_MAX:
        raise Malformed("arguments_invalid", f"`retries` is not 0 to {RETRIES_MAX}")
    return retries


def _body(given: dict[str, Any]) -> bytes:
    """The bytes to send.

    Raises:
        Malformed: `arguments_invalid`: `body` and `body_base64` are both given, or the latter is not base64.
    """
    if "body_base64" not in given:
        body: str = given.get("body", "")
        return body.encode()
    if given.get("body"):
        raise Malformed("arguments_invalid", "`body` and `body_base64` are both given", hint="give one of them")
    try:
        data = base64.b64decode(given["body_base64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("arguments_invalid", "`body_base64` is not base64") from error
    return data


def request_fields(given: dict[str, Any], *, key: str) -> Fields:
    """The headers in one order, however they were written.

    Raises:
        Malformed: `header_refused`.
    """
    headers: dict[str, str] = given["headers"]
    if len({name.lower() for name in headers}) < len(headers):
        raise _refused("a header is given twice")
    for name in headers:
        _check_name(name.lower(), typed="content_type" in given)
    typed = (("content-type", given["content_type"]),) if "content_type" in given else ()
    fields = (*typed, *sorted((name.lower(), value) for name, value in headers.items()))
    check_fields(fields, idempotency_key=key)
    return fields


def _check_name(name: str, *, typed: bool) -> None:
    shown = f"`{escaped(name)}`"
    if name == "content-type" and typed:
        raise _refused(f"the header {shown} has its own argument", hint="use `content_type`")
    if name == "idempotency-key":
        raise _refused(f"the header {shown} is not an argument", hint="give the call itself an idempotency key")
    if name in _STEERING or name.startswith("x-forwarded-"):
        raise _refused(f"the header {shown} can turn the call into another one than policy judges")
    if is_secret(name):
        raise _refused(
            f"the header {shown} may carry a credential, and arguments are recorded",
            hint="bind a credential to the operation instead of writing it into a call",
        )


def _refused(message: str, *, hint: str = "") -> Malformed:
    return Malformed("header_refused", message, hint=hint)


def _put(given: dict[str, Any], seen: dict[str, Any]) -> Judgement:
    status = seen.get("status")
    if status in _GONE:
        return Judgement.NOT_HAPPENED
    same = status == 200 and _is_body(seen.get("body"), _body(given))
    return Judgement.HAPPENED if same else Judgement.UNCLEAR


def _deleted(_: dict[str, Any], seen: dict[str, Any]) -> Judgement:
    status = seen.get("status")
    if status in _GONE:
        return Judgement.HAPPENED
    return Judgement.NOT_HAPPENED if status == 200 else Judgement.UNCLEAR


def _is_body(shown: object, sent: bytes) -> bool:
    """Whether a body, as the lane shows it (a text, or `{"base64": …}`), is `sent`."""
    if isinstance(shown, str):
        return shown.encode(errors="surrogatepass") == sent
    packed = shown.get("base64") if isinstance(shown, dict) else None
    try:
        return isinstance(packed, str) and base64.b64decode(packed, validate=True) == sent
    except (binascii.Error, ValueError):
        return False


URL = Argument(
    name="url",
    kind="text",
    help="the absolute http or https URL",
    required=True,
    authority=True,
    bytes_max=URL_BYTES_MAX,
)
HEADERS = Argument(
    name="headers", kind="map", help="request headers, without credentials", default={}, authority=True, bytes_max=8_192
)
TYPE = Argument(
    name="content_type",
    kind="text",
    help="the media type of the body",
    default="text/plain; charset=utf-8",
    bytes_max=CONTENT_TYPE_BYTES_MAX,
)


_READ_RETRIES = Argument(
    name="retries",
    kind="integer",
    help="how often it is tried again when nobody answers or the server says later",
    default=READ_RETRIES,
)
_WRITE_RETRIES = Argument(
    name="retries",
    kind="integer",
    help="how often it may be sent again; each time is as good as once",
    default=0,
)
_BINARY = Argument(
    name="body_base64", kind="text", help="bytes to send instead of a text, in base64", bytes_max=BODY_BASE64_BYTES_MAX
)


def _sent(text: str, *, needed: bool) -> Argument:
    return Argument(name="body", kind="text", help=text, default=None if needed else "", bytes_max=BODY_BYTES_MAX)


GET = HttpOperation(
    OperationContract(
        name="http.get",
        summary="fetch what is at a URL",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(URL, HEADERS, _READ_RETRIES),
        floor=WEAKEST,
        hosts="url",
    ),
    method="GET",
)

HEAD = HttpOperation(
    OperationContract(
        name="http.head",
        summary="fetch the status and headers of what is at a URL",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(URL, HEADERS, _READ_RETRIES),
        floor=WEAKEST,
        hosts="url",
    ),
    method="HEAD",
)

PUT = HttpOperation(
    OperationContract(
        name="http.put",
        summary="put a body at a URL, in place of what was there",
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NATURAL,
        arguments=(
            URL,
            _sent("the whole new content, sent as UTF-8; or give `body_base64`", needed=True),
            _BINARY,
            TYPE,
            HEADERS,
            _WRITE_RETRIES,
        ),
        floor=WEAKEST,
        hosts="url",
        observer="http.get",
    ),
    method="PUT",
    reading=_put,
)

POST = HttpOperation(
    OperationContract(
        name="http.post",
        summary="send a body to a URL, which does with it what it does",
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NONE,
        arguments=(URL, _sent("the body, sent as UTF-8", needed=False), _BINARY, TYPE, HEADERS),
        floor=WEAKEST,
        hosts="url",
    ),
    method="POST",
)

DELETE = HttpOperation(
    OperationContract(
        name="http.delete",
        summary="delete what is at a URL",
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NATURAL,
        arguments=(URL, HEADERS, _WRITE_RETRIES),
        floor=WEAKEST,
        hosts="url",
        observer="http.get",
    ),
    method="DELETE",
    reading=_deleted,
)

HTTP = (GET, HEAD, PUT, POST, DELETE)
