"""Models as operations: `model.NAME` asks one endpoint, and is decided, recorded and carried like any other call.

A call names its context by the digests of its pieces, so its record says exactly what the model was told, and holds
none of it twice. It is a read in what it does to the world: asking again costs something and changes nothing, so a
question whose end nobody knows may be asked again.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import Credential, HttpOrder
from assent.execution.outcomes import Ending, Outcome
from assent.execution.urls import parse_url
from assent.ledger.connectors.http import host_port
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Place
from assent.operations.model_costs import Price, estimated, used
from assent.primitives.errors import Malformed
from assent.reasoning.context import read_pieces, spoken
from assent.reasoning.endpoints import address
from assent.reasoning.failures import FailureKind, Fault
from assent.reasoning.messages import Completion, ModelRequest
from assent.reasoning.ports import BrokenAnswer, Decoder, Wire

CONNECTOR = "model"
COMPLETION = "completion"
FAULT = "fault"
"""Where the value of an outcome holds what was answered, or why nothing was."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model is asked. `credential` is the handle of its key (empty: it wants none), `price` what it costs (when
    somebody said so)."""

    name: str
    url: str
    credential: str = ""
    summary: str = ""
    price: Price | None = None


class ModelOperation(Unobserved):
    """One endpoint, spoken to in one wire format, which is loaded when it is first spoken."""

    def __init__(self, endpoint: Endpoint, *, wire: Callable[[], Wire]) -> None:
        url = parse_url(endpoint.url)
        self._endpoint = endpoint
        self._wire = wire
        self._host = host_port(url)
        self._base = url.text
        self.contract = model_contract(endpoint.name, endpoint.summary, reaches=(self._host,))

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The endpoint's host, and how much the model is told."""
        named = read_arguments(self.contract, arguments)["pieces"]
        return Facts(
            host=self._host, method="POST", payload_bytes=sum(len(place.contents.get(one, b"")) for one in named)
        )

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (no provider knows idempotency keys)
    ) -> HttpOrder:
        """The order for the http lane.

        Raises:
            Malformed: `context_missing`, `context_malformed`, `request_unspeakable`.
        """
        request = self._wire().request(asked_for(self.contract, arguments, place))
        return HttpOrder(
            method="POST",
            url=address(self._base, request.path),
            hosts=obligations.hosts,
            headers=request.headers,
            body=request.body,
            redirects_max=0,
            credentials=self._credentials(),
            reads=True,
            shown_bytes_max=obligations.limits.output_bytes_max,
            limits=obligations.limits,
        )

    @property
    def handles(self) -> tuple[str, ...]:
        """What its credentials are called."""
        return (self._endpoint.credential,) if self._endpoint.credential else ()

    def _credentials(self) -> tuple[Credential, ...]:
        handle = self._endpoint.credential
        header, prefix = self._wire().credential
        return (Credential(header=header, handle=handle, prefix=prefix),) if handle else ()

    def read(self, outcome: Outcome) -> Outcome:
        """What the model answered, in Assent's own vocabulary; or that it cannot be read."""
        decoder = self._wire().decoder(content_type=outcome.value["headers"].get("content-type", ""))
        decoder.feed(body_bytes(outcome.value["body"]))
        try:
            completion = decoder.close()
        except BrokenAnswer as broken:
            fault = Fault(kind=broken.kind, message=broken.message)
            return msgspec.structs.replace(
                outcome, ending=Ending.FAILED, code=broken.code, message=fault.message, value=_told(fault)
            )
        return msgspec.structs.replace(outcome, value={COMPLETION: msgspec.to_builtins(completion)})

    def estimate(self, arguments: dict[str, Any], place: Place) -> Mapping[str, int | None]:
        """The tokens of what it is told and of the longest answer, and what they cost. Raises what `plan` raises."""
        given = read_arguments(self.contract, arguments)
        pieces = read_pieces(given["pieces"], place.contents)
        return estimated(pieces, output_tokens_max=given["output_tokens_max"], price=self._endpoint.price)

    def usage(self, outcome: Outcome) -> Mapping[str, int]:
        """What the provider counted."""
        said = outcome.value.get(COMPLETION)
        return used(outcome, msgspec.convert(said, Completion) if said else None, price=self._endpoint.price)

    def explain(self, outcome: Outcome) -> dict[str, Any]:
        """Why there is no answer."""
        return _told(self._fault(outcome))

    def live(self) -> Decoder:
        """A decoder for the pieces of an answer as they come, for those who watch; the record is made by `read`."""
        wire = self._wire()
        return wire.decoder(content_type=wire.streamed)

    def _fault(self, outcome: Outcome) -> Fault:
        value = outcome.value
        if outcome.code == "http_status":
            return self._wire().fault(status=value["status"], headers=value["headers"], body=body_bytes(value["body"]))
        kind = FailureKind.ADAPTER_REJECTED if outcome.code in _REJECTED else FailureKind.ADAPTER_UNAVAILABLE
        return Fault(kind=kind, message=f"`{self._endpoint.name}`: {outcome.message or outcome.code}")


_REJECTED = frozenset(
    {"host_refused", "address_refused", "credential_missing", "credential_in_the_clear", "tls_failed"}
)


def model_contract(name: str, summary: str, *, reaches: tuple[str, ...]) -> OperationContract:
    """The contract of every operation that asks a model."""
    return OperationContract(
        name=f"{CONNECTOR}.{name}",
        summary=summary or f"ask a model at `{name}`",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=_ARGUMENTS,
        floor=ConfinementClass.LOCAL_WEAK,
        reaches=reaches,
    )


def asked_for(contract: OperationContract, arguments: dict[str, Any], place: Place) -> ModelRequest:
    """The question that the arguments and their pieces are."""
    given = read_arguments(contract, arguments)
    question = spoken(read_pieces(given["pieces"], place.contents), model=given["model"])
    return msgspec.structs.replace(
        question,
        output_tokens_max=given["output_tokens_max"],
        temperature_milli=given.get("temperature_milli"),
        output=given.get("output"),
        stream=given["stream"],
    )


def body_bytes(shown: str | dict[str, Any]) -> bytes:
    """The bytes of a body as the lane shows it: a text, or `{"base64": …}`.

    Raises:
        Malformed: `answer_too_large`: it was kept elsewhere.
    """
    if isinstance(shown, str):
        return shown.encode()
    if "base64" not in shown:
        raise Malformed("answer_too_large", "the answer is too large to be read")
    return base64.b64decode(shown["base64"])


def _told(fault: Fault) -> dict[str, Any]:
    return {FAULT: msgspec.to_builtins(fault)}


_ARGUMENTS = (
    Argument(
        name="model", kind="text", help="the provider's name of the model", required=True, authority=True, bytes_max=256
    ),
    Argument(name="pieces", kind="contents", help="what it is told, in order", required=True, bytes_max=80),
    Argument(name="output_tokens_max", kind="integer", help="how long the answer may be", default=4_096),
    Argument(name="temperature_milli", kind="integer", help="the temperature in thousandths"),
    Argument(name="output", kind="json", help="a JSON Schema that the answer must fit"),
    Argument(name="stream", kind="boolean", help="whether it is answered bit by bit", default=True),
)
