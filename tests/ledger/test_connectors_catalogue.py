"""The catalogue, and the golden digests of every built-in contract.

An approval is bound to the digest of the contract it was given for, so every change of a contract closes open reviews
and shows in every later intent. When a change is meant, write the new digests down: run this file as a program.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from assent.execution.obligations import Obligations
from assent.execution.orders import Order
from assent.ledger.connectors import BUILTIN, catalogue
from assent.ledger.connectors.families.names import RESERVED_ARGUMENTS
from assent.ledger.contracts import EffectClass, contract_digest, read_arguments
from assent.ledger.operations import Judgement, Operation, Place
from assent.primitives.canonical import canonical
from assent.primitives.errors import Conflict

GOLDEN = Path(__file__).parent / "golden" / "contract_digests.json"
NAMES = [operation.contract.name for operation in BUILTIN]
PLACE = Place(workspace="/srv/ws")
SAMPLES = {"text": "x", "integer": 1, "boolean": True, "texts": ["x"], "map": {"x": "y"}, "number": 1.5, "json": {}}


def digests() -> dict[str, str]:
    return {operation.contract.name: contract_digest(operation.contract) for operation in BUILTIN}


def sample(operation: Operation) -> dict[str, object]:
    given = {a.name: SAMPLES[a.kind] for a in operation.contract.arguments}
    scheme = "wss" if operation.contract.name in {"http.listen", "http.talk"} else "https"
    either = {"body_base64"} if "body" in given else set[str]()
    sound = {name: value for name, value in given.items() if name not in either}
    told = {"url": f"{scheme}://example.org/", "access": "read", "new": "y"} | {"numbers": ["1"]}
    return sound | {name: value for name, value in told.items() if name in given}


def test_catalogue_finds_every_operation_by_name_when_built():
    found = catalogue(BUILTIN)
    assert list(found) == NAMES
    assert all(found[operation.contract.name] is operation for operation in BUILTIN)


def test_catalogue_cannot_be_changed_when_built():
    with pytest.raises(TypeError):
        catalogue(BUILTIN)["files.read"] = BUILTIN[0]  # type: ignore[index]


def test_catalogue_refuses_when_two_operations_have_one_name():
    with pytest.raises(Conflict) as refused:
        catalogue([*BUILTIN, BUILTIN[3]])
    assert refused.value.code == "operation_duplicate"
    assert f"`{NAMES[3]}`" in refused.value.message


@pytest.mark.parametrize("operation", BUILTIN, ids=NAMES)
def test_contract_names_an_existing_read_when_it_has_an_observer(operation):
    contract = operation.contract
    asked = operation.observation(sample(operation))
    assert (asked is None) == (not contract.observer)
    if asked is None:
        return
    observer = catalogue(BUILTIN)[contract.observer]
    assert observer.contract.effect is EffectClass.READ
    assert read_arguments(observer.contract, asked)
    observer.plan(asked, PLACE, Obligations(), "")


@pytest.mark.parametrize("operation", BUILTIN, ids=NAMES)
def test_contract_is_complete_when_policy_reads_it(operation):
    contract = operation.contract
    arguments = {a.name: a for a in contract.arguments}
    assert len(arguments) == len(contract.arguments)
    assert contract.summary
    assert all(a.help for a in arguments.values())
    assert any(a.authority for a in arguments.values())
    assert not contract.hosts or (arguments[contract.hosts].authority and arguments[contract.hosts].required)
    assert all(a.default is None for a in arguments.values() if a.required)
    defaults = {a.name: a.default for a in arguments.values() if a.default is not None}
    assert canonical(defaults)
    assert read_arguments(contract, sample(operation) | defaults)


@pytest.mark.parametrize("operation", BUILTIN, ids=NAMES)
def test_operation_makes_the_same_order_when_planned_twice(operation):
    given = sample(operation)
    before = msgspec.json.encode(given)
    orders = [operation.plan(given, PLACE, Obligations(), "key") for _ in range(2)]
    assert orders[0] == orders[1]
    assert isinstance(orders[0], Order)
    assert msgspec.json.encode(given) == before
    assert operation.facts(given, PLACE) == operation.facts(read_arguments(operation.contract, given), PLACE)


@pytest.mark.parametrize("operation", BUILTIN, ids=NAMES)
def test_operation_judges_unclear_when_nothing_was_observed(operation):
    assert operation.judge(sample(operation), "confinement_unmet", {}) is Judgement.UNCLEAR


def test_contract_digests_stay_the_same_when_nobody_meant_a_change():
    golden = msgspec.json.decode(GOLDEN.read_bytes())
    assert digests() == golden, f"a contract changed; if that is meant, run `python {Path(__file__).name}` and commit"


def test_contract_digests_differ_when_contracts_do():
    assert len(set(digests().values())) == len(BUILTIN)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_bytes(msgspec.json.format(msgspec.json.encode(digests()), indent=2) + b"\n")


def test_no_builtin_operation_takes_an_argument_that_the_command_line_keeps_for_itself():
    taken = {o.contract.name: {a.name for a in o.contract.arguments} & RESERVED_ARGUMENTS for o in BUILTIN}
    assert not {name: found for name, found in taken.items() if found}
