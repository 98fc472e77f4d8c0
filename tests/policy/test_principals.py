from __future__ import annotations

import pytest

from assent.policy.principals import CHAIN_MAX, KnownPrincipal, chain_fault, check_principal, entity_of
from assent.primitives.errors import Malformed


@pytest.mark.parametrize(
    ("principal", "chain"),
    [
        ("person:ann", ()),
        ("person:ann@example.org", ()),
        ("agent:writer", ("person:ann",)),
        ("agent:writer", ("schedule:nightly",)),
        ("service:build", ("agent:writer", "agent:lead", "person:ann")),
    ],
)
def test_chain_is_good_when_it_ends_in_a_person_or_a_schedule(principal: str, chain: tuple[str, ...]):
    assert chain_fault(principal, chain) == ""


@pytest.mark.parametrize(
    ("principal", "chain", "fault"),
    [
        ("", (), "is not a person"),
        ("ann", (), "is not a person"),
        ("person:", (), "is not a person"),
        ("schedule:nightly", (), "is not a person"),
        ("root:ann", (), "is not a person"),
        ("person:ann\n", (), "is not a person"),
        ("person:\u0430nn", (), "is not a person"),
        ("person:" + "a" * 200, (), "is not a person"),
        ("person:ann", ("person:ben",), "nobody else"),
        ("agent:writer", (), "on behalf of nobody"),
        ("agent:writer", ("agent:lead",), "not in a person or a schedule"),
        ("agent:writer", ("service:build",), "not in a person or a schedule"),
        ("agent:writer", ("person:ann\n",), "not in a person or a schedule"),
        ("agent:writer", ("person:ann", "person:ben"), "is not an agent or a service"),
        ("agent:writer", ("schedule:nightly", "person:ben"), "is not an agent or a service"),
        ("agent:writer", ("agent:writer", "person:ann"), "in a circle"),
        ("agent:writer", ("agent:a", "agent:b", "agent:a", "person:ann"), "in a circle"),
        ("agent:writer", (*(f"agent:a{n}" for n in range(CHAIN_MAX)), "person:ann"), "more than"),
    ],
)
def test_chain_has_a_fault_when_nobody_answers_for_it(principal: str, chain: tuple[str, ...], fault: str):
    assert fault in chain_fault(principal, chain)


def test_entity_of_keeps_the_kind_as_type():
    assert entity_of("agent:writer") == ("Agent", "writer")
    assert entity_of("person:a:b") == ("Person", "a:b")


@pytest.mark.parametrize(
    "known",
    [
        KnownPrincipal(name="schedule:nightly"),
        KnownPrincipal(name="writer"),
        KnownPrincipal(name="agent:writer", roles=("a b",)),
        KnownPrincipal(name="agent:writer", roles=("",)),
        KnownPrincipal(name="agent:writer", roles=tuple(f"r{n}" for n in range(65))),
    ],
)
def test_check_principal_refuses_a_malformed_declaration(known: KnownPrincipal):
    with pytest.raises(Malformed) as caught:
        check_principal(known)
    assert caught.value.code == "principal_malformed"
