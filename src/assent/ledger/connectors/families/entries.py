"""Entries: one operation each, as it was made of a description, and what was left out. Pure values.

An entry's definition is the digest of all that was made: arguments, recipe, hosts, effect class. It stands in the
contract, so an approval that was given for one definition never runs under another.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from assent.ledger.connectors.families.command_calls import CommandMade, CommandRecipe
from assent.ledger.connectors.families.graphql_calls import GraphqlMade, GraphqlRecipe
from assent.ledger.connectors.families.http_calls import HttpMade, HttpRecipe
from assent.ledger.connectors.families.mcp_calls import McpMade, McpRecipe
from assent.ledger.connectors.families.names import told
from assent.ledger.connectors.families.reductions import Reduced
from assent.ledger.contracts import Argument, ArgumentKind, OperationContract
from assent.ledger.operations import Operation
from assent.primitives.canonical import canonical, parse
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed

JSON_BYTES_MAX = 1_048_576
OPERATIONS_MAX = 2_000

Recipe = HttpRecipe | GraphqlRecipe | McpRecipe | CommandRecipe


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One operation. `why` says where its effect class comes from; `hints` are what the description claims and nobody
    checked, and what is not checked of a call; `answers` is what it says comes back."""

    contract: OperationContract
    recipe: Recipe
    why: str
    hints: tuple[str, ...] = ()
    answers: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.contract.name

    @property
    def definition(self) -> Digest:
        """The digest of everything that was made."""
        return digest(canonical(msgspec.to_builtins(self)))

    def operation(self, *, contract: OperationContract | None = None) -> Operation:
        """What carries it out, under `contract` when a person said something else about its effect."""
        under = contract or self.contract
        match self.recipe:
            case HttpRecipe() as http:
                return HttpMade(under, http)
            case GraphqlRecipe() as graphql:
                return GraphqlMade(under, graphql)
            case McpRecipe() as mcp:
                return McpMade(under, mcp)
            case CommandRecipe() as command:
                return CommandMade(under, command)
            case _ as never:
                assert_never(never)

    def check(self) -> None:
        """Whether the recipe goes with the contract: it sends what the contract declares, where the contract says.

        Raises:
            Malformed: `admission_malformed`.
        """
        try:
            self.recipe.check(self.contract)
        except Malformed as malformed:
            raise Malformed("admission_malformed", f"`{self.name}`: {malformed.message}") from malformed


class LeftOut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something of a description that no operation was made of, and why."""

    what: str
    why: str


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a description came from, as it was named, its digest and what it calls itself."""

    where: str
    digest: Digest
    title: str = ""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a family made of a description: nothing is offered before somebody admits it."""

    name: str
    family: str
    source: Source
    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...] = ()


def argument(
    name: str, reduced: Reduced, *, about: object, required: bool, authority: bool = False, bytes_max: int = 65_536
) -> Argument:
    """An argument for a value of a reduced schema."""
    kind = kind_of(reduced)
    return Argument(
        name=name,
        kind=kind,
        help=told(about) or "not described",
        required=required,
        authority=authority,
        bytes_max=JSON_BYTES_MAX if kind == "json" else bytes_max,
        schema=reduced.text if _says_more(reduced.text, kind) else "",
    )


def kind_of(reduced: Reduced) -> ArgumentKind:
    """The kind of argument for a value of a reduced schema; `json` when it can be of several types."""
    kinds: dict[str, ArgumentKind] = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
    if reduced.types == ("array",):
        items = parse(reduced.text.encode()).get("items")  # type: ignore[union-attr]  # a schema with a type is an object
        return "texts" if isinstance(items, dict) and items.get("type") == "string" else "json"
    return kinds.get(reduced.types[0], "json") if len(reduced.types) == 1 else "json"


def _says_more(text: str, kind: ArgumentKind) -> bool:
    """Whether a schema says more than the kind does."""
    plain = {"text": "string"}.get(kind, kind)
    return bool(text) and text != f'{{"type":"{plain}"}}'
