"""Calls of GraphQL fields, and what their answers say. Pure.

The text of a call is fixed when the schema is admitted; what an asker says travels as variables beside it and is never
put into the text. One call asks for one field.

GraphQL says no inside a well-arrived answer, in `errors`. How that is judged:

| answer                                  | query  | mutation                                                |
|-----------------------------------------|--------|---------------------------------------------------------|
| no `errors`                             | ok     | ok                                                      |
| `errors` and no `data`                  | failed | failed: nothing of it was executed                      |
| `errors` about the field itself         | failed | failed: the server itself says so                       |
| `errors` about something inside it      | failed | unknown: it did its work, and telling of that broke     |
| no GraphQL answer at all                | failed | unknown                                                 |
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from assent.execution.obligations import Obligations
from assent.execution.orders import HttpOrder
from assent.execution.outcomes import Ending, Outcome
from assent.execution.urls import parse_url
from assent.ledger.connectors.families.made import Made
from assent.ledger.connectors.families.names import told
from assent.ledger.contracts import OperationContract
from assent.ledger.operations import Facts, Place
from assent.primitives.canonical import canonical
from assent.primitives.errors import Malformed

ERRORS_MAX = 5


class GraphqlRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="graphql"):
    """How one field is asked for: `text` is the whole document, `variables` maps arguments to its variables."""

    url: str
    kind: Literal["query", "mutation"]
    field: str
    text: str
    variables: dict[str, str] = {}

    def check(self, contract: OperationContract) -> None:
        """Whether it falls on the host that the contract names, and takes arguments that the contract declares.

        Raises:
            Malformed: `recipe_malformed`, or what `parse_url` raises.
        """
        url = parse_url(self.url)
        if contract.reaches != (f"{url.host.in_url}:{url.port}",):
            raise Malformed("recipe_malformed", "its calls fall on another host than its contract says")
        if self.variables.keys() != {argument.name for argument in contract.arguments}:
            raise Malformed("recipe_malformed", "its arguments are not those of its contract")


class GraphqlMade(Made):
    """One field of a GraphQL schema."""

    def __init__(self, contract: OperationContract, recipe: GraphqlRecipe) -> None:
        super().__init__(contract)
        self._recipe = recipe

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The host, the method and the size of the body."""
        return Facts(host=self.contract.reaches[0], method="POST", payload_bytes=len(self._body(arguments)))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,  # noqa: ARG002 (the protocol's)
        obligations: Obligations,
        key: str,  # noqa: ARG002 (GraphQL knows no idempotency keys)
    ) -> HttpOrder:
        """The order for the http lane. Raises as `facts`."""
        return HttpOrder(
            method="POST",
            url=self._recipe.url,
            hosts=obligations.hosts,
            headers=(
                ("accept", "application/graphql-response+json, application/json;q=0.9"),
                ("content-type", "application/json"),
            ),
            body=self._body(arguments),
            redirects_max=0,
            limits=obligations.limits,
        )

    def read(self, outcome: Outcome) -> Outcome:
        """See the table at the top of this module."""
        answer = answered(outcome.value)
        if answer is None or not ("data" in answer or "errors" in answer):
            return self._judged(outcome, "graphql_unreadable", "the answer is not one of GraphQL", sure=False)
        errors = answer.get("errors")
        data = answer.get("data")
        if not errors:
            found = data.get(self._recipe.field) if isinstance(data, dict) else None
            value = {"status": outcome.value.get("status", 0), "data": found}
            return msgspec.structs.replace(outcome, value=value)
        listed = errors if isinstance(errors, list) else [errors]
        inside = any(isinstance(one, dict) and len(_path(one)) > 1 for one in listed)
        message = "; ".join(_said(one) for one in listed[:ERRORS_MAX])
        lowered = self._judged(
            outcome, "graphql_errors", f"the server answered with errors: {message}", sure=not inside
        )
        return msgspec.structs.replace(lowered, value=outcome.value | {"errors": listed[:ERRORS_MAX]})

    def _judged(self, outcome: Outcome, code: str, message: str, *, sure: bool) -> Outcome:
        failed = sure or self._recipe.kind == "query"
        ending = Ending.FAILED if failed else Ending.UNKNOWN
        return msgspec.structs.replace(outcome, ending=ending, code=code, message=message)

    def _body(self, arguments: dict[str, Any]) -> bytes:
        given = self.given(arguments)
        variables = {self._recipe.variables[name]: value for name, value in given.items()}
        return canonical({"query": self._recipe.text, "variables": variables})


def answered(value: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON object in the body of an answer, or None."""
    body = value.get("body")
    if not isinstance(body, str):
        return None
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _path(error: dict[str, Any]) -> list[Any]:
    path = error.get("path")
    return path if isinstance(path, list) else []


def _said(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return told(message) or "an error without a message"
