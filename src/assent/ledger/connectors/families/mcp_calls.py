"""Calls of the tools of an MCP server. Pure.

The server is the recipe's: a host, or a program with exact words. The lane compares the tool's definition, as the
server gives it now, with the digest that was admitted, and does not call a tool that has become another one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assent.execution.obligations import Obligations
from assent.execution.orders import HttpOrder, McpOrder, ProcessOrder
from assent.execution.urls import parse_url
from assent.ledger.connectors.families.made import Made
from assent.ledger.connectors.paths import inside, locate, workspace_of
from assent.ledger.connectors.programs import check_argv, judged_name, program_of
from assent.ledger.contracts import EffectClass, OperationContract
from assent.ledger.operations import Facts, Place
from assent.primitives.canonical import canonical
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed


class McpServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An MCP server: a URL, or a program in the workspace, which it may write only when `writes` says so, and which may
    reach at most one `host` (`host:port`).

    `stays`: one connection serves all calls of a tenant, one after the other, and what the server remembers of one it
    may use in the next; else each call has a server of its own.
    """

    url: str = ""
    argv: tuple[str, ...] = ()
    cwd: str = "."
    host: str = ""
    writes: bool = False
    stays: bool = False

    @property
    def reaches(self) -> tuple[str, ...]:
        """The hosts that calls of it fall on."""
        if self.url:
            url = parse_url(self.url)
            return (f"{url.host.in_url}:{url.port}",)
        return (self.host,) if self.host else ()

    def check(self) -> None:
        """Whether it is one server and no other.

        Raises:
            Malformed: `recipe_malformed`, or what is wrong with its words.
        """
        if bool(self.url) == bool(self.argv) or (self.url and (self.host or self.writes)):
            raise Malformed("recipe_malformed", "a server is a URL, or a program")
        if self.argv:
            check_argv(self.argv)
            program_of(self.argv[0], cwd=self.cwd, place=Place(workspace="/"))


class McpRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="mcp"):
    """How one tool is called. `members` maps arguments to the members of the tool's input."""

    server: McpServer
    tool: str
    admitted: Digest
    members: dict[str, str] = {}

    def check(self, contract: OperationContract) -> None:
        """Whether it falls on the host that the contract names, and takes arguments that the contract declares.

        Raises:
            Malformed: `recipe_malformed`.
        """
        self.server.check()
        if contract.reaches != self.server.reaches:
            raise Malformed("recipe_malformed", "its calls fall on another host than its contract says")
        if self.members.keys() != {argument.name for argument in contract.arguments}:
            raise Malformed("recipe_malformed", "its arguments are not those of its contract")


class McpMade(Made):
    """One tool of an MCP server."""

    def __init__(self, contract: OperationContract, recipe: McpRecipe) -> None:
        super().__init__(contract)
        self._recipe = recipe

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The host or the program, and the size of the arguments."""
        server, size = self._recipe.server, len(self._input(arguments))
        host = server.reaches[0] if server.reaches else ""
        if server.url:
            return Facts(host=host, method="POST", payload_bytes=size)
        spot = locate(server.cwd, place)
        return Facts(
            path=spot.path,
            inside_workspace=spot.inside,
            host=host,
            program=judged_name(program_of(server.argv[0], cwd=server.cwd, place=place)),
            payload_bytes=size,
        )

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (MCP knows no idempotency keys)
    ) -> McpOrder:
        """The order for the mcp lane.

        Raises:
            Malformed: `arguments_invalid`, `outside_workspace`, `program_malformed`.
        """
        return McpOrder(
            peer=self._peer(place, obligations),
            tool=self._recipe.tool,
            arguments=self._input(arguments).decode(),
            definition=self._recipe.admitted,
            reads=self.contract.effect is EffectClass.READ,
            session=self._session(place),
            limits=obligations.limits,
        )

    def _session(self, place: Place) -> str:
        """The connection that is kept, which no two tenants share; a server that may not write is another one."""
        if not self._recipe.server.stays or not place.tenant:
            return ""
        reads = "/reads" if self.contract.effect is EffectClass.READ else ""
        return f"{place.tenant}/{self.contract.connector}{reads}"

    def _peer(self, place: Place, obligations: Obligations) -> ProcessOrder | HttpOrder:
        """The order for the server itself; for a tool that only reads, the program may not write."""
        server, limits = self._recipe.server, obligations.limits
        if server.url:
            url = parse_url(server.url).text
            return HttpOrder(method="POST", url=url, hosts=obligations.hosts, redirects_max=0, limits=limits)
        return ProcessOrder(
            argv=(program_of(server.argv[0], cwd=server.cwd, place=place), *server.argv[1:]),
            workspace=workspace_of(place),
            cwd=inside(server.cwd, place),
            workspace_writable=server.writes and self.contract.effect is not EffectClass.READ,
            hosts=obligations.hosts,
            limits=limits,
        )

    def _input(self, arguments: dict[str, Any]) -> bytes:
        given = self.given(arguments)
        return canonical({self._recipe.members[name]: value for name, value in given.items()})
