"""What asking a model costs: estimated before, counted by its provider after, and stopped by a budget in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from assent.bootstrap.models import wire_of
from assent.bootstrap.settings import read_settings
from assent.execution.attestations import Attestation
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.ledger.budget_limits import Limit
from assent.ledger.budgets import Unit, Window
from assent.operations.model_costs import Price, estimated, used
from assent.operations.models import COMPLETION, Endpoint, ModelOperation
from assent.primitives.errors import Malformed
from assent.primitives.labels import Label
from assent.reasoning.context import Piece, Said, piece_tokens
from assent.reasoning.messages import Message, Text
from assent.testing.models import Failing, ModelServer, Reply
from tests.operations.agents_house import TENANT, agent, answered, house
from tests.reasoning.wire_world import WIRES, ask, question

PRICE = Price(input_micros=3_000_000, output_micros=15_000_000)


def operation(price: Price | None = PRICE, *, wire: str = "ollama", url: str = "http://127.0.0.1:1") -> ModelOperation:
    return ModelOperation(Endpoint(name="prov", url=url, price=price), wire=lambda: wire_of(wire))


def outcome(code: str, *, status: int = 0, ending: Ending = Ending.FAILED) -> Outcome:
    evidence = Evidence(
        lane="http", attestation=Attestation(mechanism="x"), started_at_ms=1, ended_at_ms=2,
        facts={"status": status} if status else {},
    )  # fmt: skip
    return Outcome(ending=ending, code=code, evidence=evidence)


def test_price_is_of_a_million_tokens_and_is_rounded_up():
    assert PRICE.of(input_tokens=1_000_000, output_tokens=1_000_000) == 18_000_000
    assert PRICE.of(input_tokens=1, output_tokens=0) == 3
    assert Price(input_micros=1, output_micros=0).of(input_tokens=1, output_tokens=9) == 1
    assert Price(input_micros=0, output_micros=0).of(input_tokens=9, output_tokens=9) == 0


def test_estimate_is_what_is_told_and_the_longest_answer():
    piece = Piece(what=Said(message=Message(role="user", parts=(Text(text="x" * 400),))), source="s", label=Label())
    told = piece_tokens(piece)
    assert told > 100
    assert estimated([piece, piece], output_tokens_max=500, price=PRICE) == {
        "tokens": 2 * told + 500, "micros": PRICE.of(input_tokens=2 * told, output_tokens=500),
    }  # fmt: skip
    assert estimated([], output_tokens_max=5, price=None) == {"tokens": 5, "micros": None}


@pytest.mark.parametrize("wire", WIRES)
def test_use_is_what_the_provider_counted_in_every_format(wire):
    found, _, _ = ask(wire, question(), Reply(text="well", input_tokens=20, output_tokens=4))
    assert COMPLETION in found.value
    assert operation(wire=wire).usage(found) == {"tokens": 24, "micros": 120}
    assert operation(None, wire=wire).usage(found)["tokens"] == 24


@pytest.mark.parametrize("wire", WIRES)
def test_use_is_nothing_when_the_provider_refused_and_unknown_when_it_broke(wire):
    refused, _, _ = ask(wire, question(), Reply(failing=Failing(status=429)))
    assert operation(wire=wire).usage(refused) == {"tokens": 0, "micros": 0}
    for failing in (Failing(status=503), Failing(way="cut")):
        broken, _, _ = ask(wire, question(), Reply(text="well", failing=failing))
        assert operation(wire=wire).usage(broken) == {}


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (outcome("unreachable"), {"tokens": 0, "micros": 0}),
        (outcome("credential_missing"), {"tokens": 0, "micros": 0}),
        (outcome("http_status", status=404), {"tokens": 0, "micros": 0}),
        (outcome("http_status", status=500), {}),
        (outcome("no_answer", ending=Ending.UNKNOWN), {}),
        (outcome("wall_limit"), {}),
        (outcome("cancelled", ending=Ending.CANCELLED), {}),
    ],
)
def test_use_of_a_question_without_an_answer_is_nothing_only_where_that_is_sure(ended, told):
    assert used(ended, None, price=PRICE) == told


def limits(**amounts: int) -> tuple[Limit, ...]:
    return tuple(Limit(scope="run:*", unit=Unit(unit), amount=n, window=Window.ALL) for unit, n in amounts.items())


def asked(path: Path, price: Price | None, *replies: Reply, output_tokens_max: int = 100, **amounts: int) -> Any:
    """A run that asks once: how it stands, what is counted, and what the provider saw."""

    async def whole() -> Any:
        async with ModelServer(replies, key="") as server:
            model = operation(price, url=server.url)
            writer = agent(models=("prov:some",), output_tokens_max=output_tokens_max)
            async with house(path, writer, others=(model,), limits=limits(**amounts)) as node:
                run = await answered(node, "hello", of=writer)
                found = {
                    one.unit: (one.spent, one.held, one.stops) for one in await node.budgets.listed(TENANT, "run:r")
                }
                return run, found, server.seen

    return asyncio.run(whole())


def test_question_is_paid_from_the_runs_budget(tmp_path):
    _, found, seen = asked(
        tmp_path, PRICE, Reply(text="well", input_tokens=200, output_tokens=40), tokens=5_000, micros=99_000
    )
    assert len(seen) == 1
    assert found == {"tokens": (240, 0, 0), "micros": (1_200, 0, 0)}


def test_question_is_not_sent_when_the_run_cannot_pay_for_the_longest_answer(tmp_path):
    run, found, seen = asked(tmp_path, PRICE, Reply(text="well"), tokens=60)
    assert seen == []
    assert found == {"tokens": (0, 0, 1)}
    assert (run.state, run.waits_for.split()[0]) == ("waiting", "budget")


def test_question_is_refused_when_money_is_limited_and_nobody_said_what_it_costs(tmp_path):
    run, found, seen = asked(tmp_path, None, Reply(text="well"), micros=10**9)
    assert (seen, found) == ([], {})
    assert "nobody can say how much of it this call may use" in str(run)


def test_prices_are_read_from_the_settings_and_half_a_price_is_a_mistake(tmp_path):
    file = tmp_path / "assent.toml"
    file.write_text("[models.ollama]\ninput_micros = 5\noutput_micros = 0\n")
    (one,) = read_settings(file, login="ann").models
    assert one.endpoint.price == Price(input_micros=5, output_micros=0)
    file.write_text("[models.ollama]\ninput_micros = 5\n")
    with pytest.raises(Malformed, match=r"assent.toml:2: a price has both"):
        read_settings(file, login="ann")
    file.write_text("[models.ollama]\n")
    assert read_settings(file, login="ann").models[0].endpoint.price is None
