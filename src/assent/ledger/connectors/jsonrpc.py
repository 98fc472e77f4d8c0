"""JSON-RPC: call one method of a peer, behind a URL (`jsonrpc.call`) or a program in the workspace (`jsonrpc.run`).

What a method does is the peer's own knowledge, and its name is the only word about it. So both operations count as
irreversible and are never repeated by themselves: whoever knows that a method only reads makes that known in a rule, or
offers the peer through a connector of its own.

A call without an answer stays unknown. There is no observing it: JSON-RPC has no way to ask what became of a call.
"""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import HttpOrder, ProcessOrder, RpcCall, RpcOrder
from assent.execution.rpc_messages import METHOD_CHARACTERS_MAX
from assent.execution.urls import parse_url
from assent.ledger.connectors.http import URL_BYTES_MAX, host_port
from assent.ledger.connectors.paths import escaped, inside, locate, workspace_of
from assent.ledger.connectors.programs import ARGV, CWD, check_argv, judged_name, program_of
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Place
from assent.primitives.canonical import canonical
from assent.primitives.errors import Malformed

PARAMS_BYTES_MAX = 1_048_576

_METHOD = Argument(
    name="method",
    kind="text",
    help="the method to call",
    required=True,
    authority=True,
    bytes_max=METHOD_CHARACTERS_MAX,
)
_PARAMS = Argument(
    name="params",
    kind="json",
    help="the parameters, a JSON object or array",
    authority=True,
    bytes_max=PARAMS_BYTES_MAX,
)


class _Rpc(Unobserved):
    """What both have in common."""

    contract: OperationContract

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        method: str = given["method"]
        if not method or method.startswith("rpc.") or not method.isprintable():
            raise Malformed(
                "method_malformed",
                f"`{escaped(method)}` is not a method to call",
                hint="names that begin with `rpc.` belong to the protocol itself",
            )
        if not isinstance(given.get("params"), dict | list | None):
            raise Malformed("params_malformed", "`params` is neither an object nor an array")
        return given


class RpcSite(_Rpc):
    """Call a method of a peer behind a URL."""

    contract = OperationContract(
        name="jsonrpc.call",
        summary="call one JSON-RPC method of the peer at a URL",
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NONE,
        arguments=(
            Argument(
                name="url",
                kind="text",
                help="the absolute http or https URL of the peer",
                required=True,
                authority=True,
                bytes_max=URL_BYTES_MAX,
            ),
            _METHOD,
            _PARAMS,
        ),
        floor=ConfinementClass.LOCAL_WEAK,  # nothing but Assent's own code runs
        hosts="url",
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The canonical `host:port`, and the size of the parameters."""
        given = self._given(arguments)
        return Facts(host=host_port(parse_url(given["url"])), method="POST", payload_bytes=len(_text(given).encode()))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,  # noqa: ARG002 (the protocol's)
        obligations: Obligations,
        key: str,
    ) -> RpcOrder:
        """The order for the jsonrpc lane. `key` goes out as the request's `Idempotency-Key`.

        Raises:
            Malformed: `url_refused`, `host_refused`, `port_refused`, `method_malformed`, `params_malformed`,
                `arguments_invalid`.
        """
        given = self._given(arguments)
        url = parse_url(given["url"]).text
        peer = HttpOrder(method="POST", url=url, hosts=obligations.hosts, redirects_max=0, idempotency_key=key)
        return _order(peer, given, obligations)


class RpcProgram(_Rpc):
    """Call a method of a program that is started for it."""

    contract = OperationContract(
        name="jsonrpc.run",
        summary="start a program in the workspace, call one JSON-RPC method of it over its standard streams, end it",
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NONE,
        arguments=(
            ARGV,
            CWD,
            _METHOD,
            _PARAMS,
            Argument(
                name="content_length",
                kind="boolean",
                help="whether messages have a `Content-Length` header, as language servers want it; else one a line",
                default=False,
            ),
        ),
        floor=ConfinementClass.LOCAL_WEAK,  # how the program must be held is for policy to say
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The program, the folder it runs in and the size of the parameters."""
        given = self._given(arguments)
        spot = locate(given["cwd"], place)
        program = judged_name(program_of(given["argv"][0], cwd=given["cwd"], place=place))
        return Facts(
            path=spot.path, inside_workspace=spot.inside, program=program, payload_bytes=len(_text(given).encode())
        )

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (programs know no idempotency keys)
    ) -> RpcOrder:
        """The order for the jsonrpc lane.

        Raises:
            Malformed: `outside_workspace`, `path_malformed`, `program_malformed`, `argv_malformed`, `method_malformed`,
                `params_malformed`, `arguments_invalid`.
        """
        given = self._given(arguments)
        argv = (program_of(given["argv"][0], cwd=given["cwd"], place=place), *given["argv"][1:])
        peer = ProcessOrder(argv=argv, workspace=workspace_of(place), cwd=inside(given["cwd"], place))
        return _order(peer, given, obligations)

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super()._given(arguments)
        check_argv(given["argv"])
        return given


def _order(peer: HttpOrder | ProcessOrder, given: dict[str, Any], obligations: Obligations) -> RpcOrder:
    return RpcOrder(
        peer=peer,
        calls=(RpcCall(method=given["method"], params=_text(given)),),
        framing="content-length" if given.get("content_length") else "newline",
        limits=obligations.limits,
    )


def _text(given: dict[str, Any]) -> str:
    """The parameters in their one spelling; none: empty."""
    params = given.get("params")
    return "" if params is None else canonical(params).decode()


JSONRPC = (RpcSite(), RpcProgram())
