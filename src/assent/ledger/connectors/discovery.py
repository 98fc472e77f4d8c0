"""Looking at what somebody offers, so that it can be connected: schemas and tool lists. All of them only read.

A GraphQL server is asked for its schema by a fixed query, which changes nothing by the specification. An MCP server is
asked for its tools; it is a host, or a program. A program does what it likes, so it is started where it can do nothing:
the workspace cannot be written, there is no network, and policy's floor for programs holds.
"""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import HttpOrder, McpOrder, Order, ProcessOrder
from assent.execution.urls import parse_url
from assent.ledger.connectors.families.graphql import INTROSPECTION
from assent.ledger.connectors.families.made import Made
from assent.ledger.connectors.http import URL_BYTES_MAX, host_port
from assent.ledger.connectors.paths import inside, locate, workspace_of
from assent.ledger.connectors.programs import CWD, check_argv, judged_name, program_of
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract
from assent.ledger.operations import Facts, Place
from assent.primitives.canonical import canonical

_URL = Argument(
    name="url", kind="text", help="the absolute http or https URL", required=True, authority=True,
    bytes_max=URL_BYTES_MAX,
)  # fmt: skip


class Introspect(Made):
    """`http.introspect`: the schema of a GraphQL server."""

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The host and the method."""
        url = parse_url(self.given(arguments)["url"])
        return Facts(host=host_port(url), method="POST", payload_bytes=len(_QUERY))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,  # noqa: ARG002 (the protocol's)
        obligations: Obligations,
        key: str,  # noqa: ARG002 (a read)
    ) -> Order:
        """The order for the http lane. Raises: Malformed: `url_refused`, `host_refused`, `port_refused`."""
        return HttpOrder(
            method="POST",
            url=parse_url(self.given(arguments)["url"]).text,
            hosts=obligations.hosts,
            headers=(("accept", "application/json"), ("content-type", "application/json")),
            body=_QUERY,
            redirects_max=0,
            limits=obligations.limits,
        )


class HttpTools(Made):
    """`http.tools`: the tools of an MCP server that is a host."""

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The host and the method."""
        return Facts(host=host_port(parse_url(self.given(arguments)["url"])), method="POST")

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,  # noqa: ARG002 (the protocol's)
        obligations: Obligations,
        key: str,  # noqa: ARG002 (a read)
    ) -> Order:
        """The order for the mcp lane. Raises: Malformed: `url_refused`, `host_refused`, `port_refused`."""
        url = parse_url(self.given(arguments)["url"]).text
        peer = HttpOrder(method="POST", url=url, hosts=obligations.hosts, redirects_max=0, limits=obligations.limits)
        return McpOrder(peer=peer, verb="list", reads=True, limits=obligations.limits)


class ShellTools(Made):
    """`shell.tools`: the tools of an MCP server that is a program."""

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The program and the folder it runs in."""
        given = self.given(arguments)
        check_argv(given["argv"])
        spot = locate(given["cwd"], place)
        program = program_of(given["argv"][0], cwd=given["cwd"], place=place)
        return Facts(path=spot.path, inside_workspace=spot.inside, program=judged_name(program))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (a read)
    ) -> Order:
        """The order for the mcp lane. Raises: Malformed: as `shell.run`."""
        given = self.given(arguments)
        check_argv(given["argv"])
        peer = ProcessOrder(
            argv=(program_of(given["argv"][0], cwd=given["cwd"], place=place), *given["argv"][1:]),
            workspace=workspace_of(place),
            cwd=inside(given["cwd"], place),
            workspace_writable=False,
            limits=obligations.limits,
        )
        return McpOrder(peer=peer, verb="list", reads=True, limits=obligations.limits)


_QUERY = canonical({"query": INTROSPECTION, "variables": {}})

DISCOVERY = (
    Introspect(
        OperationContract(
            name="http.introspect",
            summary="ask a GraphQL server for its schema",
            effect=EffectClass.READ,
            idempotency=Idempotency.NATURAL,
            arguments=(_URL,),
            floor=ConfinementClass.LOCAL_WEAK,
            hosts="url",
        )
    ),
    HttpTools(
        OperationContract(
            name="http.tools",
            summary="ask an MCP server at a URL for its tools",
            effect=EffectClass.READ,
            idempotency=Idempotency.NATURAL,
            arguments=(_URL,),
            floor=ConfinementClass.LOCAL_WEAK,
            hosts="url",
        )
    ),
    ShellTools(
        OperationContract(
            name="shell.tools",
            summary="start an MCP server that cannot write or reach anything, and ask for its tools",
            effect=EffectClass.READ,
            idempotency=Idempotency.NATURAL,
            arguments=(
                Argument(
                    name="argv",
                    kind="texts",
                    help="the server's program and its arguments, exactly; no shell reads them",
                    required=True,
                    authority=True,
                ),
                CWD,
            ),
            floor=ConfinementClass.NAMESPACED,
        )
    ),
)
