"""`@assent.operation`: what a function's signature says, and a node that offers functions."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

import assent
from assent.bootstrap.node import Blueprint, open_node
from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder, PythonOrder
from assent.ledger.contracts import read_arguments
from assent.ledger.operations import Place
from assent.operations.functions import offered
from assent.operations.wishes import Answer, Wish
from assent.policy.principals import KnownPrincipal
from assent.primitives.errors import Malformed
from assent.primitives.ids import TenantId

PLACE = Place(workspace="/srv/ws")
TENANT = TenantId("local")


class Unit(enum.Enum):
    METRE = "m"
    MILE = "mi"


@dataclass
class Trip:
    to: str
    stops: list[str] | None = None


@assent.operation(effect="read", wall_s=20)
def forecast(city: str, days: Annotated[int, msgspec.Meta(ge=1, le=7)] = 3, unit: Literal["c", "f"] = "c") -> list[str]:
    """Tell the weather.

    Not reliable.

    Args:
        city: where
        days: for how many days
    """
    return [f"{city} {n} {unit}" for n in range(days)]


@assent.operation(name="travel.book")
async def book(trip: Trip, unit: Unit = Unit.METRE, notes: dict[str, float] | None = None) -> dict[str, Any]:
    """Book a trip."""
    await asyncio.sleep(0)
    assert isinstance(trip, Trip)
    assert isinstance(unit, Unit)
    return {"booked": trip, "unit": unit, "notes": notes}


@assent.operation(name="math.total", effect="read", confined=True)
def total(numbers: list[int]) -> int:
    """Add numbers, shut in."""
    import os

    return sum(numbers) + len(os.environ.get("SECRET", ""))


@assent.operation(name="travel.fails", effect="write")
def fails() -> None:
    """Fail."""
    raise LookupError("no such trip")


def contract(function: Callable[..., Any]) -> Any:
    return offered([function])[0].operation.contract


def test_function_stays_what_it_was():
    assert forecast("Bern", 1) == ["Bern 0 c"]


def test_signature_and_docstring_make_the_contract():
    found = contract(forecast)
    assert (found.name, found.summary) == ("test-families-functions.forecast", "Tell the weather.")
    assert [(a.name, a.kind, a.help, a.required, a.default) for a in found.arguments] == [
        ("city", "text", "where", True, None),
        ("days", "integer", "for how many days", False, 3),
        ("unit", "text", "not described", False, "c"),
    ]
    assert (found.effect, found.idempotency, found.floor) == ("read", "natural", "local-weak")
    assert contract(book).effect == "irreversible"
    assert contract(total).floor is ConfinementClass.NAMESPACED


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (forecast, {}),
        (forecast, {"city": 1}),
        (forecast, {"city": "a", "days": 8}),
        (forecast, {"city": "a", "unit": "k"}),
        (book, {"trip": {}}),
        (book, {"trip": {"to": "a", "stops": [1]}}),
        (book, {"trip": {"to": "a"}, "unit": "x"}),
        (book, {"trip": {"to": "a"}, "notes": {"x": "y"}}),
    ],
)
def test_arguments_are_what_the_types_say(function, arguments):
    with pytest.raises(Malformed):
        read_arguments(contract(function), arguments)


def test_order_names_the_definition_or_carries_the_source():
    plain, shut = (offered([one])[0].operation for one in (forecast, total))
    order = plain.plan({"city": "a"}, PLACE, Obligations(), "k")
    assert isinstance(order, FunctionOrder)
    assert (order.definition, order.limits.wall_ms) == (plain.contract.definition, 20_000)
    confined = shut.plan({"numbers": [1]}, PLACE, Obligations(), "k")
    assert isinstance(confined, PythonOrder)
    assert "@" not in confined.source
    assert (confined.function, confined.arguments, confined.workspace_writable) == ("total", '{"numbers":[1]}', False)


def untyped(x): ...
def many(*x: int) -> None: ...
def keywords(**x: int) -> None: ...
def positional(x: int, /) -> None: ...
def reserved(run: int) -> None: ...
def foreign(x: threading.Lock) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def formless(x: Callable[[], int]) -> None: ...
def defaulted(x: Any = object()) -> None: ...  # noqa: B008


@pytest.mark.parametrize("function", [untyped, many, keywords, positional, reserved, foreign, formless, defaulted])
def test_function_that_cannot_be_called_by_name_and_json_is_refused(function):
    with pytest.raises(Malformed) as refused:
        assent.operation()(function)
    assert refused.value.code == "function_unusable"


def test_function_that_needs_something_around_it_is_not_confined():
    secret = 3

    def closes(x: int) -> int:
        return x + secret

    with pytest.raises(Malformed):
        assent.operation(confined=True)(closes)
    with pytest.raises(Malformed):
        assent.operation(confined=True)(book)


@pytest.mark.parametrize("name", ["nodot", "A.b", "a.b c", "a.", ".b", "a.\u0430"])
def test_name_must_be_a_connector_and_an_operation(name):
    with pytest.raises(Malformed):
        assent.operation(name=name)(lambda: None)


def test_only_marked_functions_are_offered():
    with pytest.raises(Malformed):
        offered([len])


POLICY = """
@id("weather") @accept("local-weak")
permit (principal, action == Action::"read", resource in Connector::"test-families-functions");
@id("travel") @accept("local-weak")
permit (principal, action, resource in Connector::"travel");
@id("math") @floor("namespaced")
permit (principal, action == Action::"read", resource in Connector::"math");
"""


def performed(tmp_path: Path, policy: str, *calls: tuple[str, dict[str, Any]]) -> list[Answer]:
    """Perform calls on a node of its own."""

    async def run() -> list[Answer]:
        (tmp_path / "ws").mkdir()
        blueprint = Blueprint(
            data=tmp_path / "data", workspace=tmp_path / "ws", tenants=(TENANT,),
            principals=(KnownPrincipal(name="person:ann"),), functions=(forecast, book, total, fails),
        )  # fmt: skip
        async with open_node(blueprint) as node:
            await node.policies.activate(TENANT, policy, by="person:ann")
            return [
                await node.gate.perform(
                    Wish(tenant=TENANT, operation=name, arguments=arguments, principal="person:ann")
                )
                for name, arguments in calls
            ]

    return asyncio.run(run())


@pytest.mark.slow
def test_node_decides_records_and_calls_functions(tmp_path):
    answers = performed(
        tmp_path,
        POLICY,
        ("test-families-functions.forecast", {"city": "Bern", "days": 2}),
        ("travel.book", {"trip": {"to": "Rome", "stops": ["Pisa"]}, "unit": "mi", "notes": {"a": 1.5}}),
        ("travel.fails", {}),
        ("test-families-functions.forecast", {"city": "Bern", "days": 9}),
        ("math.total", {"numbers": [1, 2, 3]}),
    )
    weather, booked, failed, refused, added = answers
    assert [a.outcome.code if a.outcome else "" for a in answers] == ["ok", "ok", "exception", "", "ok"], answers
    assert weather.outcome is not None
    assert weather.outcome.value == {"result": ["Bern 0 c", "Bern 1 c"]}
    assert booked.outcome is not None
    assert booked.outcome.value["result"]["booked"] == {"to": "Rome", "stops": ["Pisa"]}
    assert failed.outcome is not None
    assert (failed.outcome.code, failed.outcome.message) == ("exception", "LookupError: no such trip")
    assert refused.effect.state == "refused"
    assert added.outcome is not None
    assert added.outcome.value["result"] == 6, added
    assert added.outcome.evidence.attestation.meets(ConfinementClass.NAMESPACED)


def test_unconfined_function_does_not_run_unless_a_rule_accepts_that(tmp_path):
    (answer,) = performed(
        tmp_path, POLICY.replace('@accept("local-weak")', ""), ("test-families-functions.forecast", {"city": "Bern"})
    )
    assert answer.outcome is not None
    assert answer.outcome.code == "confinement_unmet"
