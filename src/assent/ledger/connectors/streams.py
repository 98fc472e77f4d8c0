"""Streams over HTTP: server-sent events, WebSockets, and a file of the workspace on its way to a URL.

They belong to the http connector, because what matters to policy is the same: which host, and whether it is told
something. So one list of hosts governs them all, and what may read from a host may also listen to it.

| call   | lane      | effect       |                                                                         |
|--------|-----------|--------------|-------------------------------------------------------------------------|
| events | sse       | read         | listens; nothing is sent but the request                                |
| listen | websocket | read         | listens; no message is ever sent                                        |
| talk   | websocket | irreversible | sends messages; what has been said cannot be called back, nor said again |
| upload | http      | irreversible | PUTs a file: as often as it is sent, the same is there                   |

A call that listens ends well after `seconds`, which stay below the wall limit of the decision: nine tenths of it at
most, so that there is time to say goodbye.
"""

from __future__ import annotations

from typing import Any

from assent.execution.obligations import Obligations
from assent.execution.orders import HttpOrder, Message, SseOrder, Upload, WebSocketOrder
from assent.execution.urls import Url, parse_url, parse_websocket_url
from assent.ledger.connectors.http import HEADERS, TYPE, URL, WEAKEST, host_port, request_fields, retries_of
from assent.ledger.connectors.paths import PATH_BYTES_MAX, inside, locate, workspace_of
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.errors import Malformed

COUNT_MAX = 10_000
SECONDS_MAX = 86_400
SECONDS = 10
MESSAGE_BYTES_MAX = 65_536


class _Stream:
    """What the operations here have in common: nobody can look afterwards how they went."""

    def __init__(self, contract: OperationContract) -> None:
        self.contract = contract

    def observation(self, arguments: dict[str, Any]) -> dict[str, Any] | None:  # noqa: ARG002 (the protocol's)
        """There is nothing to look at."""
        return None

    def judge(self, arguments: dict[str, Any], observed_code: str, observed: dict[str, Any]) -> Judgement:  # noqa: ARG002 (the protocol's)
        """Nothing can be told."""
        return Judgement.UNCLEAR

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return read_arguments(self.contract, arguments)


class EventsOperation(_Stream):
    """Listen to server-sent events."""

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The canonical `host:port`. Raises Malformed."""
        given = self._given(arguments)
        request_fields(given, key="")
        _counts(given)
        return Facts(host=host_port(parse_url(given["url"])), method="GET")

    def plan(self, arguments: dict[str, Any], place: Place, obligations: Obligations, key: str) -> SseOrder:  # noqa: ARG002 (the protocol's)
        """The order for the sse lane. Raises Malformed."""
        given = self._given(arguments)
        _counts(given)
        return SseOrder(
            url=parse_url(given["url"]).text,
            hosts=obligations.hosts,
            headers=request_fields(given, key=""),
            last_event_id=given["last_event_id"],
            reconnects_max=given["reconnects"],
            events_max=given["events"],
            listen_ms=_listen_ms(given, obligations),
            limits=obligations.limits,
        )


class WebSocketOperation(_Stream):
    """Listen to a WebSocket, or talk over one."""

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The canonical `host:port`, and the bytes of all messages. Raises Malformed."""
        given = self._given(arguments)
        request_fields(given, key="")
        _counts(given)
        said = sum(len(message.data) for message in _messages(given))
        return Facts(host=host_port(_websocket_url(given)), method="GET", payload_bytes=said)

    def plan(self, arguments: dict[str, Any], place: Place, obligations: Obligations, key: str) -> WebSocketOrder:  # noqa: ARG002 (the protocol's)
        """The order for the websocket lane. Raises Malformed."""
        given = self._given(arguments)
        _counts(given)
        url = _websocket_url(given)
        return WebSocketOrder(
            url=f"{'wss' if url.scheme == 'https' else 'ws'}://{url.authority}{url.target}",
            hosts=obligations.hosts,
            headers=request_fields(given, key=""),
            subprotocols=tuple(given["subprotocols"]),
            messages=_messages(given),
            stays_open=given.get("stays_open", False),
            reconnects_max=given.get("reconnects", 0),
            messages_max=given["answers"],
            listen_ms=_listen_ms(given, obligations),
            limits=obligations.limits,
        )


class UploadOperation(_Stream):
    """PUT a file of the workspace."""

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The file, where it lies, and the canonical `host:port`. Raises Malformed."""
        given = self._given(arguments)
        spot = locate(given["path"], place)
        request_fields(given, key="")
        retries_of(given)
        host = host_port(parse_url(given["url"]))
        return Facts(path=spot.path, inside_workspace=spot.inside, host=host, method="PUT")

    def plan(self, arguments: dict[str, Any], place: Place, obligations: Obligations, key: str) -> HttpOrder:
        """The order for the http lane. Raises Malformed."""
        given = self._given(arguments)
        upload = Upload(
            workspace=workspace_of(place), path=inside(given["path"], place), sha256=given.get("sha256", "")
        )
        return HttpOrder(
            method="PUT",
            url=parse_url(given["url"]).text,
            hosts=obligations.hosts,
            headers=request_fields(given, key=key),
            upload=upload,
            redirects_max=0,
            retries_max=retries_of(given),
            idempotency_key=key,
            limits=obligations.limits,
        )


def _counts(given: dict[str, Any]) -> None:
    bounds = {
        "events": (1, COUNT_MAX), "answers": (1, COUNT_MAX), "seconds": (1, SECONDS_MAX), "reconnects": (0, 100),
    }  # fmt: skip
    for name, (least, most) in bounds.items():
        if name in given and not least <= given[name] <= most:
            raise Malformed("arguments_invalid", f"`{name}` is not {least} to {most}")


def _listen_ms(given: dict[str, Any], obligations: Obligations) -> int:
    asked_ms: int = given["seconds"] * 1000
    return max(1, min(asked_ms, obligations.limits.wall_ms * 9 // 10))


def _websocket_url(given: dict[str, Any]) -> Url:
    return parse_websocket_url(given["url"])


def _messages(given: dict[str, Any]) -> tuple[Message, ...]:
    return tuple(Message(data=text.encode()) for text in given.get("messages", ()))


def _seconds(text: str) -> Argument:
    return Argument(name="seconds", kind="integer", help=text, default=SECONDS)


_WS_URL = Argument(
    name="url", kind="text", help="the absolute ws or wss URL", required=True, authority=True, bytes_max=8_192
)
_RECONNECTS = Argument(
    name="reconnects", kind="integer", help="how often a lost connection is made anew", default=3
)  # fmt: skip
_SUBPROTOCOLS = Argument(
    name="subprotocols",
    kind="texts",
    help="what it may be spoken in, the best one first",
    default=[],
    bytes_max=128,
)

EVENTS = EventsOperation(
    OperationContract(
        name="http.events",
        summary="listen to the server-sent events of a URL",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(
            URL, HEADERS,
            Argument(name="events", kind="integer", help="how many events are enough", default=100),
            _seconds("how long to listen at most"),
            Argument(
                name="last_event_id", kind="text", help="the last event that is known", default="", bytes_max=1_024
            ),
            _RECONNECTS,
        ),
        floor=WEAKEST,
        hosts="url",
    )
)  # fmt: skip

LISTEN = WebSocketOperation(
    OperationContract(
        name="http.listen",
        summary="listen to a WebSocket, and send nothing",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(
            _WS_URL, HEADERS, _SUBPROTOCOLS,
            Argument(name="answers", kind="integer", help="how many messages are enough", default=100),
            _seconds("how long to listen at most"), _RECONNECTS,
        ),
        floor=WEAKEST,
        hosts="url",
    )
)  # fmt: skip

TALK = WebSocketOperation(
    OperationContract(
        name="http.talk",
        summary="send messages over a WebSocket, and hear the answers",
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NONE,
        arguments=(
            _WS_URL,
            Argument(
                name="messages", kind="texts", help="what to send, in this order", required=True,
                bytes_max=MESSAGE_BYTES_MAX,
            ),
            HEADERS, _SUBPROTOCOLS,
            Argument(name="answers", kind="integer", help="how many answers are enough", default=1),
            _seconds("how long to wait for them at most"),
            Argument(
                name="stays_open", kind="boolean", help="whoever asked may send more while it lasts", default=False,
                authority=True,
            ),
        ),
        floor=WEAKEST,
        hosts="url",
    )
)  # fmt: skip

UPLOAD = UploadOperation(
    OperationContract(
        name="http.upload",
        summary="put a file of the workspace at a URL",
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NATURAL,
        arguments=(
            URL,
            Argument(
                name="path", kind="text", help="the file, relative to the workspace", required=True, authority=True,
                bytes_max=PATH_BYTES_MAX,
            ),
            Argument(
                name="sha256", kind="text", help="`sha256:` and the digest that the file must have", bytes_max=71
            ),
            TYPE, HEADERS,
            Argument(
                name="retries", kind="integer", help="how often it may be sent again; each time is as good as once",
                default=0,
            ),
        ),
        floor=WEAKEST,
        hosts="url",
    )
)  # fmt: skip

STREAMS = (EVENTS, LISTEN, TALK, UPLOAD)
