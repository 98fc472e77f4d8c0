"""GraphQL schemas: what becomes an operation, what is sent, and how a no inside a good answer is read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from graphql import build_schema, parse, validate

from assent.execution.attestations import Attestation
from assent.execution.obligations import Obligations
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.ledger.connectors.families.admissions import admit
from assent.ledger.connectors.families.documents import read_document
from assent.ledger.connectors.families.entries import Draft, Source
from assent.ledger.connectors.families.graphql import INTROSPECTION, read_graphql
from assent.ledger.connectors.families.graphql_sdl import read_sdl
from assent.ledger.operations import Operation, Place, reading_of
from assent.primitives.canonical import canonical
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed
from tests.ledger.graphql_site import SCHEMA, SDL, Shop

PLACE = Place(workspace="/srv/ws")
URL = "http://127.0.0.1:8080/graphql"


def made(document: dict[str, Any] | None = None, **more: Any) -> Draft:
    document = document or Shop().answer({"query": INTROSPECTION})
    data = json.dumps(document).encode()
    source = Source(where=URL, digest=digest(data))
    return read_graphql(read_document(data), name="shop", source=source, url=URL, **more)


def operations() -> dict[str, Operation]:
    return {o.contract.name: o for o in admit(made(), by="person:ann").offered()}


def sent(name: str, /, **arguments: Any) -> dict[str, Any]:
    order: Any = operations()[name].plan(arguments, PLACE, Obligations(hosts=("127.0.0.1:8080",)), "k")
    return dict(json.loads(order.body))


def outcome(answer: Any, *, status: int = 200) -> Outcome:
    evidence = Evidence(lane="http", attestation=Attestation(mechanism="x"), started_at_ms=0, ended_at_ms=1)
    body = answer if isinstance(answer, str) else json.dumps(answer)
    return Outcome(ending=Ending.SUCCEEDED, code="ok", value={"status": status, "body": body}, evidence=evidence)


def read(name: str, answer: Any) -> Outcome:
    return reading_of(operations()[name])(outcome(answer))


def test_each_field_becomes_an_operation_of_its_kind():
    found = {e.name: (e.contract.effect.value, e.contract.idempotency.value) for e in made().entries}
    assert found == {
        "shop.items": ("read", "natural"),
        "shop.item": ("read", "natural"),
        "shop.anything": ("read", "natural"),
        "shop.boom": ("read", "natural"),
        "shop.addItem": ("irreversible", "none"),
        "shop.addBroken": ("irreversible", "none"),
        "shop.refuse": ("irreversible", "none"),
    }


def test_every_text_is_valid_and_selects_to_a_bounded_depth():
    schema = build_schema(SDL)
    for entry in made().entries:
        text: str = entry.recipe.text  # type: ignore[union-attr]
        assert not validate(schema, parse(text))
        assert text.count("{") <= 5


def test_what_an_asker_says_never_stands_in_the_text():
    evil = '"}) { id } evil: addItem(name: "x'
    request = sent("shop.addItem", name=evil, price=1.5)
    assert evil not in request["query"]
    assert request["variables"] == {"name": evil, "price": 1.5}
    shop = Shop()
    assert shop.answer(request)["data"]["addItem"]["name"] == evil
    assert len(shop.items) == 1


def test_arguments_are_checked_against_input_types_however_deep():
    good = {"name": "a", "tags": ["x"], "inner": {"max": 2, "inner": None}}
    assert sent("shop.items", filter=good, order="DEAR")["variables"]["filter"] == good
    for bad in ({"nmae": "a"}, {"tags": [None]}, {"inner": {"max": "2"}}, {"inner": {"inner": {"x": 1}}}):
        with pytest.raises(Malformed):
            sent("shop.items", filter=bad)
    with pytest.raises(Malformed):
        sent("shop.items", order="CHEAPEST")


def test_argument_that_a_command_line_takes_itself_has_another_name():
    contract = operations()["shop.items"].contract
    assert [a.name for a in contract.arguments] == ["filter", "order", "argument_run"]
    assert sent("shop.items", argument_run=True)["variables"] == {"run": True}


@pytest.mark.parametrize(
    ("name", "answer", "ending", "code"),
    [
        ("shop.item", {"data": {"item": {"id": "1"}}}, "succeeded", "ok"),
        ("shop.item", {"data": {"item": None}}, "succeeded", "ok"),
        ("shop.item", {"errors": [{"message": "no"}]}, "failed", "graphql_errors"),
        ("shop.item", {"data": {"item": {"id": 1}}, "errors": [{"message": "no", "path": ["item", "x"]}]}, "failed",
         "graphql_errors"),
        ("shop.addItem", {"errors": [{"message": "no"}]}, "failed", "graphql_errors"),
        ("shop.addItem", {"data": None, "errors": [{"message": "n", "path": ["addItem"]}]}, "failed", "graphql_errors"),
        ("shop.addItem", {"data": None, "errors": [{"message": "no", "path": ["addItem", "name"]}]}, "unknown",
         "graphql_errors"),
        ("shop.addItem", "<html>", "unknown", "graphql_unreadable"),
        ("shop.item", "<html>", "failed", "graphql_unreadable"),
        ("shop.item", "[]", "failed", "graphql_unreadable"),
        ("shop.addItem", {}, "unknown", "graphql_unreadable"),
        ("shop.item", {"errors": "odd"}, "failed", "graphql_errors"),
        ("shop.item", {"errors": [17, {"path": 3}]}, "failed", "graphql_errors"),
    ],
)  # fmt: skip
def test_no_inside_a_good_answer_is_read(name, answer, ending, code):
    found = read(name, answer)
    assert (found.ending.value, found.code) == (ending, code)


def test_reading_lowers_and_never_raises_an_outcome():
    class Liar:
        contract = operations()["shop.item"].contract

        def read(self, outcome: Outcome) -> Outcome:
            raise RuntimeError(outcome.code)

    failed = msgspec.structs.replace(outcome({"data": {}}), ending=Ending.FAILED, code="http_status")
    assert reading_of(operations()["shop.item"])(failed) is failed
    broken = reading_of(Liar())(outcome({}))  # type: ignore[arg-type]
    assert (broken.ending, broken.code) == (Ending.UNKNOWN, "answer_unread")


@pytest.mark.parametrize("data", [b"{}", b'{"data": {"__schema": {}}}', b'{"__schema": {"types": 3}}', b"[]", b"{"])
def test_what_is_no_introspection_is_refused(data):
    with pytest.raises(Malformed):
        read_graphql(read_document(data), name="shop", source=Source(where="x", digest=digest(data)), url=URL)


def test_hostile_schema_makes_nothing_that_is_not_a_name():
    string = {"kind": "SCALAR", "name": "String"}
    circle: dict[str, Any] = {"kind": "LIST", "name": None}
    for _ in range(40):
        circle = {"kind": "LIST", "ofType": circle}
    fields = [
        {"name": "ok", "args": [], "type": string},
        {"name": "x } evil { y", "args": [], "type": string},
        {"name": "Ok", "args": [], "type": string},
        {"name": "deep", "args": [], "type": circle},
        {"name": "bad_arg", "args": [{"name": "a) { x }", "type": string}], "type": string},
        {"name": "odd_type", "args": [{"name": "a", "type": {"kind": "SCALAR", "name": "S) { x"}}], "type": string},
        {"name": "needs", "args": [{"name": "a", "type": {"kind": "NON_NULL", "ofType": circle}}], "type": string},
        17,
        {"name": None},
    ]
    schema = {"queryType": {"name": "Q"}, "types": [{"kind": "OBJECT", "name": "Q", "fields": fields}, string, 3]}
    draft = made({"data": {"__schema": schema}})
    assert [e.name for e in draft.entries] == ["shop.bad_arg", "shop.odd_type"]
    for entry in draft.entries:
        assert "evil" not in entry.recipe.text  # type: ignore[union-attr]
        assert parse(entry.recipe.text).definitions  # type: ignore[union-attr]
    assert {out.what for out in draft.left_out} == {"query ok", "query Ok", "query deep", "query needs"}


def test_schema_as_text_makes_what_its_introspection_makes():
    written = read_graphql(read_sdl(SDL.encode()), name="shop", source=made().source, url=URL)
    assert {e.name: e for e in written.entries} == {e.name: e for e in made().entries}


RICH = """
schema @x(a: [1, {b: "c"}]) { query: Root }
\"\"\"A \\\"\"\" block
  of text\"\"\"
directive @x(a: Int = 3) repeatable on FIELD_DEFINITION | OBJECT
interface Node @x { id: ID! }
type Root implements & Node & Other @x {
  id: ID!, "one" one(a: [Int!]! = [1, 2] @x): [Root!] @deprecated(reason: "old")
}
extend type Root { two: E }
enum E { "first" A @x B } # a comment
union U @x = | Root | Thing
scalar Date
type Thing { u: U }
"""


def test_schema_as_text_is_read_with_all_its_ornaments():
    draft = read_graphql(read_sdl(RICH.encode()), name="shop", source=made().source, url=URL)
    assert {e.name: e.recipe.text for e in draft.entries} == {  # type: ignore[union-attr]
        "shop.id": "query { id }",
        "shop.one": "query($a: [Int!]!) { one(a: $a) { id one { id one { id two } two } two } }",
        "shop.two": "query { two }",
    }
    assert draft.entries[1].contract.arguments[0].required is False


@pytest.mark.parametrize(
    "text",
    ["type", "type A {", "type A { b }", "type A { b: [C }", "type A { b: " + "[" * 99, "query { a }", "type A @", '"',
     "%", "type A { a(b: C = ): D }", "type A { a(b: C = {x: [", "directive @a", "union A = |", "enum A { 3 }", "\xff"],
)  # fmt: skip
def test_schema_as_text_that_is_broken_is_refused_with_its_line(text):
    with pytest.raises(Malformed) as refused:
        read_graphql(read_sdl(text.encode("latin-1")), name="shop", source=made().source, url=URL)
    assert refused.value.code == "document_malformed"


def test_introspection_query_is_valid_and_whole():
    assert not validate(SCHEMA, parse(INTROSPECTION))
    assert canonical(Shop().answer({"query": INTROSPECTION}))
