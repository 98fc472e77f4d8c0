"""OpenAPI descriptions: what becomes an operation, how a call of it is written, and what a hostile one cannot do."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from assent.execution.obligations import Obligations
from assent.execution.orders import HttpOrder
from assent.ledger.connectors.families.admissions import Said, admit, changes, decode, encode, say
from assent.ledger.connectors.families.documents import read_document
from assent.ledger.connectors.families.entries import Draft, Source
from assent.ledger.connectors.families.openapi import read_openapi
from assent.ledger.contracts import EffectClass, Idempotency
from assent.ledger.operations import Place
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed, NotFound

PLACE = Place(workspace="/srv/ws")
SERVER = "http://127.0.0.1:8080/v1"
HOSTS = ("127.0.0.1:8080",)
PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "https://pets.example.org/v1"}],
    "paths": {
        "/pets": {
            "get": {
                "operationId": "listPets",
                "summary": "list pets",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100, "default": 20}},
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {
                        "name": "ids",
                        "in": "query",
                        "explode": False,
                        "schema": {"type": "array", "items": {"type": "integer"}},
                    },
                    {"name": "key", "in": "query", "schema": {"type": "string"}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
                "responses": {"200": {"description": "the pets"}},
            },
            "post": {
                "operationId": "createPet",
                "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                },
            },
        },
        "/pets/{petId}": {
            "parameters": [{"name": "petId", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {"operationId": "getPet"},
            "put": {"requestBody": {"content": {"application/json": {}}}},
            "delete": {"operationId": "deletePet", "security": [{"key": []}]},
        },
    },
    "components": {
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["name", "id"],
                "additionalProperties": False,
                "properties": {
                    "id": {"type": "integer", "readOnly": True},
                    "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
                    "parent": {"$ref": "#/components/schemas/Pet"},
                    "age": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "nullable": True},
                },
            }
        },
    },
}


def made(document: dict[str, Any] = PETS, **more: Any) -> Draft:
    data = json.dumps(document).encode()
    more = {"server": SERVER} | more
    source = Source(where="pets.json", digest=digest(data))
    return read_openapi(read_document(data), name="pets", source=source, **more)


def with_path(path: str, method: str = "get", **operation: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": {path: {method: operation}}}


def operations(draft: Draft) -> dict[str, Any]:
    return {o.contract.name: o for o in admit(draft, by="person:ann").offered()}


def order(draft: Draft, name: str, key: str = "k", **arguments: Any) -> HttpOrder:
    found = operations(draft)[name]
    assert found.facts(arguments, PLACE).host == HOSTS[0]
    planned = found.plan(arguments, PLACE, Obligations(hosts=HOSTS), key)
    assert isinstance(planned, HttpOrder)
    return planned


def test_description_becomes_operations_with_classes_of_their_method():
    found = {e.name: e.contract for e in made().entries}
    assert {n: (c.effect.value, c.idempotency.value) for n, c in found.items()} == {
        "pets.listPets": ("read", "natural"),
        "pets.createPet": ("irreversible", "keyed"),
        "pets.getPet": ("read", "natural"),
        "pets.put_pets_petId": ("irreversible", "natural"),
        "pets.deletePet": ("irreversible", "natural"),
    }
    assert all(c.reaches == HOSTS and c.foreign for c in found.values())


def test_call_is_written_where_each_argument_belongs():
    draft = made()
    listed = order(draft, "pets.listPets", limit=3, tags=["a&b", "c d"], ids=[1, 2], query_key="?x=1#", X_Trace="t")
    assert listed.url == f"{SERVER}/pets?limit=3&tags=a%26b&tags=c%20d&ids=1%2C2&key=%3Fx%3D1%23"
    assert ("x-trace", "t") in listed.headers
    created = order(draft, "pets.createPet", body={"name": "rex"})
    assert (created.method, created.body, created.idempotency_key) == ("POST", b'{"name":"rex"}', "k")
    assert created.redirects_max == 0
    assert order(draft, "pets.getPet", petId="a/b c").url == f"{SERVER}/pets/a%2Fb%20c"


def test_defaults_of_a_description_are_told_and_never_sent():
    entry = made().entries[0]
    assert all(a.default is None for a in entry.contract.arguments)
    assert "20" in entry.contract.arguments[0].help
    assert "limit" not in order(made(), "pets.listPets").url


@pytest.mark.parametrize("climbing", ["..", ".", "", "../admin", "a/../b", "a\\..\\b", "\x00", "a\nb"])
def test_path_argument_never_climbs_or_breaks_the_line(climbing):
    with pytest.raises(Malformed):
        order(made(), "pets.getPet", petId=climbing)


def test_header_argument_cannot_add_a_header():
    with pytest.raises(Malformed):
        order(made(), "pets.listPets", X_Trace="t\r\nhost: evil")


def test_every_mistake_in_a_body_is_named():
    with pytest.raises(Malformed) as refused:
        order(made(), "pets.createPet", body={"name": "", "x": 1, "age": 0, "parent": {"name": "UP"}})
    for part in (
        "`body.name` ",
        "`body.x` is not known",
        "`body.age` must be more than 0",
        "`body.parent.name` does not",
    ):
        assert part in refused.value.message
    assert order(made(), "pets.createPet", body={"name": "a", "age": None, "parent": {"name": "b"}}).body


def test_operation_that_needs_a_secret_is_named_and_refused():
    entry = next(e for e in made().entries if e.name == "pets.deletePet")
    assert "needs an API key (`key`)" in entry.contract.summary
    with pytest.raises(Malformed) as refused:
        order(made(), "pets.deletePet", petId="a")
    assert refused.value.code == "credential_needed"


@pytest.mark.parametrize(
    ("servers", "chosen"),
    [
        ([{"url": "http://169.254.169.254/"}], ""),
        ([{"url": "https://user:pw@example.org/"}], ""),
        ([{"url": "https://{region}.example.org"}], ""),
        ([{"url": "http://127.0.0.1/"}], ""),
        ([{"url": "http://10.1.2.3/"}], ""),
        ([{"url": "http://[::ffff:10.0.0.1]/"}], ""),
        ([{"url": "http://localhost:1/"}], ""),
        ([{"url": "//example.org/"}], ""),
        ([{"url": "/v1"}], ""),
        ([{"url": "ftp://example.org"}], ""),
        ([{"url": "http://2130706433/"}], ""),
        ([{"url": "https://example.org/?a=b"}], ""),
        ([{"url": "https://example.org/../x"}], ""),
        ([], ""),
        ("nonsense", ""),
        ([], "http://169.254.169.254/"),
        ([], "http://metadata.google.internal/"),
        ([], "https://user@example.org/"),
    ],
)
def test_server_is_refused_when_it_is_no_whole_public_address(servers, chosen):
    with pytest.raises(Malformed) as refused:
        made(PETS | {"servers": servers}, server=chosen)
    assert refused.value.code == "server_refused"


def test_relative_server_stays_with_the_origin_the_description_came_from():
    where = "http://127.0.0.1:8080/api/openapi.json"
    draft = made(PETS | {"servers": [{"url": "/v2"}]}, server="", fetched_from=where)
    assert draft.entries[0].contract.reaches == HOSTS
    with pytest.raises(Malformed):
        made(PETS | {"servers": [{"url": "//10.0.0.1/v2"}]}, server="", fetched_from=where)


def test_names_are_ascii_and_distinct_without_regard_to_case():
    document = {
        "openapi": "3.1.0",
        "paths": {
            "/a": {"get": {"operationId": "getPet"}},
            "/b": {"get": {"operationId": "getpet"}},
            "/c": {"get": {"operationId": "g\u0435tPet"}},
            "/d": {"get": {"operationId": "get.pet\x1b[31m"}},
            "/\u0435": {"get": {"operationId": "\u202eevil"}},
        },
    }
    draft = made(document)
    assert [e.name for e in draft.entries] == ["pets.get_a", "pets.get_b", "pets.get_c", "pets.get_pet_31m"]
    assert len(draft.left_out) == 1


def test_circular_references_neither_loop_nor_hide():
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/components/schemas/T"}}}}
    schemas = {"A": {"$ref": "#/components/schemas/B"}, "B": {"$ref": "#/components/schemas/A"}, "T": tree}
    body = lambda name: {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}  # noqa: E731
    document = with_path("/a", "post", operationId="a", requestBody=body("A"))
    document["paths"]["/t"] = {"post": {"operationId": "t", "requestBody": body("T")}}
    document["components"] = {"schemas": schemas}
    draft = made(document)
    assert "not checked of `body`: `$ref` that leads nowhere here" in draft.entries[0].hints
    deep: Any = {}
    for _ in range(20):
        deep = {"kids": [deep]}
    assert b"kids" in order(draft, "pets.t", body=deep).body
    with pytest.raises(Malformed):
        order(draft, "pets.t", body={"kids": [{"kids": 1}]})


def test_pattern_that_would_blow_up_is_matched_in_a_moment():
    schema = {"type": "string", "pattern": "^(a+)+$"}
    document = with_path("/a", operationId="a", parameters=[{"name": "q", "in": "query", "schema": schema}])
    with pytest.raises(Malformed) as refused:
        order(made(document), "pets.a", q="a" * 4_000 + "!")
    assert "does not match" in refused.value.message
    for text in ("(?=a)b", r"(a)\1", "[z-a]", "a{5000}", "(" * 60 + ")" * 60, "a**"):
        schema["pattern"] = text
        assert made(document).entries[0].hints == ("not checked of `q`: `pattern`",)


def test_ten_thousand_operations_are_refused_until_some_are_named():
    paths = {f"/p{n}": {"get": {"operationId": f"op{n}"}} for n in range(10_000)}
    with pytest.raises(Malformed) as refused:
        made({"openapi": "3.0.0", "paths": paths})
    assert refused.value.code == "too_many_operations"
    assert len(made({"openapi": "3.0.0", "paths": paths}, only="/p999").entries) == 11


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        b"\xff\xfe",
        b"a: &x [*x]\n",
        b"a: !!python/object/apply:os.system ['true']\n",
        b"a: 1\na: 2\n",
        b"{" + b" " * 20_000_000,
        b"a: " + b"x" * 5_000_000,
        b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(8)),
    ],
)
def test_document_that_is_none_or_a_bomb_is_refused(data):
    with pytest.raises(Malformed) as refused:
        read_document(data)
    assert refused.value.code == "document_malformed"


def test_yaml_is_read_as_json_would_be():
    found = read_document(b"openapi: 3.0.3\nno: off\nwhen: 2020-01-01\n200: {x: 0o17, y: 1e3, z: 12:30}\n")
    assert found == {"openapi": "3.0.3", "no": "off", "when": "2020-01-01", "200": {"x": 15, "y": 1000.0, "z": "12:30"}}


def test_admission_reads_back_what_was_written():
    admission = admit(made(), by="person:ann")
    assert decode(encode(admission), name="pets") == admission
    assert changes(admission, admit(made(), by="person:ann", before=admission)) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"effect": "read"', '"effect": "write"', 'pets.listPets"'),
        ('"path": "/pets/{petId}"', '"path": "/admin/{petId}"', 'pets.getPet"'),
        ("127.0.0.1:8080/v1", "10.0.0.1:8080/v1", 'pets.listPets"'),
        ('"by": "person:ann"', '"by": "person:bob"', '"seal"'),
        ('"needs": [\n', '"needless": [\n', ""),
    ],
)
def test_admission_that_was_edited_is_refused_with_its_line(old, new, line):
    data = encode(admit(made(), by="person:ann")).decode()
    assert old in data
    with pytest.raises(Malformed) as refused:
        decode(data.replace(old, new).encode(), name="pets")
    number = int(refused.value.message.split("line ")[1].split(":")[0])
    assert line in data.splitlines()[number - 1] if line else number > 1


def test_word_of_a_person_holds_for_one_definition_only():
    admission = admit(made(), by="person:ann")
    entry = admission.entry("createPet")
    word = Said(effect=EffectClass.WRITE, by="person:ann", reason="can be undone", definition=entry.definition)
    told = say(admission, entry, word)
    assert told.contract(entry).effect is EffectClass.WRITE
    assert decode(encode(told), name="pets") == told
    assert admit(made(), by="person:ann", before=told).said == told.said
    other = deepcopy(PETS)
    other["paths"]["/pets"]["post"]["summary"] = "makes a pet and pays for it"
    after = admit(made(other), by="person:ann", before=told)
    assert after.contract(after.entry("createPet")).effect is EffectClass.IRREVERSIBLE
    assert {c.what for c in changes(told, after)} == {"summary", "said before"}
    for bad in (msgspec_replace(word, by="agent:x"), msgspec_replace(word, reason=" ")):
        with pytest.raises(Malformed):
            say(admission, entry, bad)
    with pytest.raises(NotFound):
        admission.entry("nobody")


def msgspec_replace(word: Said, **changed: Any) -> Said:
    import msgspec

    return msgspec.structs.replace(word, **changed)


def test_contract_digest_follows_the_definition():
    from assent.ledger.contracts import contract_digest

    def digests(document: dict[str, Any]) -> dict[str, str]:
        return {n: contract_digest(o.contract) for n, o in operations(made(document)).items()}

    other = deepcopy(PETS)
    other["paths"]["/pets/{petId}"]["get"]["responses"] = {"200": {"description": "else"}}
    before, after = digests(PETS), digests(other)
    assert {n for n in before if before[n] != after[n]} == {"pets.getPet"}


def test_idempotency_is_keyed_only_when_it_is_declared():
    document = with_path("/a", "post", operationId="a")
    assert made(document).entries[0].contract.idempotency is Idempotency.NONE
    assert order(made(document), "pets.a").idempotency_key == ""
