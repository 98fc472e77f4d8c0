"""Calls of HTTP operations that were made of a description. Pure.

Host, method and path are the recipe's. What an argument says ends where its place ends: in a path it is one segment, in
a query one value, in a header one line; a body is one JSON value. An argument cannot add a segment, a parameter or a
header, and cannot climb.
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from assent.execution.headers import check_fields
from assent.execution.obligations import Obligations
from assent.execution.orders import HttpOrder
from assent.execution.urls import parse_url
from assent.ledger.connectors.families.made import Made, spelled
from assent.ledger.contracts import EffectClass, Idempotency, OperationContract
from assent.ledger.operations import Facts, Place
from assent.primitives.canonical import canonical
from assent.primitives.errors import Malformed

_HOLE = re.compile(r"\{([^{}/]*)\}")
_READ_REDIRECTS_MAX = 3
_RETRIES_MAX = 2

Form = Literal["plain", "repeat", "comma", "json"]


class Slot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one argument goes, under which name, and how a list is written there."""

    argument: str
    place: Literal["path", "query", "header", "body"]
    wire: str = ""
    form: Form = "plain"


class HttpRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="http"):
    """How a call is written: `base` is an absolute URL without a query, `path` is put after it with its holes filled.

    `keyed`: the idempotency key goes out as `Idempotency-Key`. `needs` names the credentials it cannot do without.
    """

    method: str
    base: str
    path: str
    slots: tuple[Slot, ...] = ()
    content_type: str = ""
    keyed: bool = False
    needs: tuple[str, ...] = ()

    def check(self, contract: OperationContract) -> None:
        """Whether it falls on the host that the contract names, and takes arguments that the contract declares.

        Raises:
            Malformed: `recipe_malformed`, or what `parse_url` raises.
        """
        url = parse_url(self.base)
        if contract.reaches != (f"{url.host.in_url}:{url.port}",) or url.target.endswith("?"):
            raise Malformed("recipe_malformed", "its calls fall on another host than its contract says")
        if {slot.argument for slot in self.slots} != {argument.name for argument in contract.arguments}:
            raise Malformed("recipe_malformed", "its arguments are not those of its contract")
        holes = _HOLE.findall(self.path)
        if sorted(holes) != sorted(slot.wire for slot in self.slots if slot.place == "path"):
            raise Malformed("recipe_malformed", "the holes of its path are not its path arguments")


class HttpMade(Made):
    """One operation over HTTP."""

    def __init__(self, contract: OperationContract, recipe: HttpRecipe) -> None:
        super().__init__(contract)
        self._recipe = recipe

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The host, the method and the size of the body.

        Raises:
            Malformed: `arguments_invalid`, `header_refused`, `credential_needed`.
        """
        refuse_secrets(self.contract, self._recipe.needs)
        given = self.given(arguments)
        self._url(given)
        self._fields(given, key="")
        return Facts(host=self.contract.reaches[0], method=self._recipe.method, payload_bytes=len(self._body(given)))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,  # noqa: ARG002 (the protocol's)
        obligations: Obligations,
        key: str,
    ) -> HttpOrder:
        """The order for the http lane. Raises as `facts`."""
        refuse_secrets(self.contract, self._recipe.needs)
        given = self.given(arguments)
        sent_key = key if self._recipe.keyed else ""
        return HttpOrder(
            method=self._recipe.method,
            url=parse_url(self._url(given)).text,
            hosts=obligations.hosts,
            headers=self._fields(given, key=sent_key),
            body=self._body(given),
            redirects_max=_READ_REDIRECTS_MAX if self.contract.effect is EffectClass.READ else 0,
            retries_max=0 if self.contract.idempotency is Idempotency.NONE else _RETRIES_MAX,
            idempotency_key=sent_key,
            limits=obligations.limits,
        )

    def _slots(self, place: str, given: dict[str, Any]) -> list[tuple[Slot, Any]]:
        return [(s, given[s.argument]) for s in self._recipe.slots if s.place == place and s.argument in given]

    def _url(self, given: dict[str, Any]) -> str:
        segments = {slot.wire: _segment(slot, value) for slot, value in self._slots("path", given)}
        path = _HOLE.sub(lambda hole: segments[hole[1]], self._recipe.path)
        if any(part in (".", "..") for part in path.split("/")):
            raise Malformed("arguments_invalid", f"`{self.contract.name}` cannot take a path that climbs")
        pairs = [pair for slot, value in self._slots("query", given) for pair in _pairs(slot, value)]
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
        return self._recipe.base.rstrip("/") + path + (f"?{query}" if query else "")

    def _fields(self, given: dict[str, Any], *, key: str) -> tuple[tuple[str, str], ...]:
        fields = [("accept", "application/json, */*;q=0.5")]
        if self._recipe.content_type and self._slots("body", given):
            fields.append(("content-type", self._recipe.content_type))
        fields += [(slot.wire.lower(), _joined(slot, value)) for slot, value in self._slots("header", given)]
        check_fields(fields, idempotency_key=key)
        return tuple(fields)

    def _body(self, given: dict[str, Any]) -> bytes:
        bodies = [canonical(value) for _, value in self._slots("body", given)]
        return bodies[0] if bodies else b""


def refuse_secrets(contract: OperationContract, needs: tuple[str, ...]) -> None:
    """Refuse a call that would need a secret.

    Raises:
        Malformed: `credential_needed`.
    """
    if needs:
        raise Malformed(
            "credential_needed",
            f"`{contract.name}` needs {' and '.join(needs)}, and no credential can be bound to an operation yet",
        )


def _segment(slot: Slot, value: object) -> str:
    text = _joined(slot, value)
    if not text or text == "." or ".." in re.split(r"[/\\]", text):
        raise Malformed("arguments_invalid", f"`{slot.argument}` must name something, and must not climb")
    return quote(text, safe="," if slot.form == "comma" else "")


def _joined(slot: Slot, value: object) -> str:
    if isinstance(value, list):
        return ",".join(spelled(item, name=slot.argument) for item in value)
    return spelled(value, name=slot.argument)


def _pairs(slot: Slot, value: object) -> list[tuple[str, str]]:
    if slot.form == "json":
        return [(slot.wire, canonical(value).decode())]
    if isinstance(value, list) and slot.form == "repeat":
        return [(slot.wire, spelled(item, name=slot.argument)) for item in value]
    return [(slot.wire, _joined(slot, value))]
