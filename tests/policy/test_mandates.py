"""What was asked for: what is within it, what is not, and that it can only be narrowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from assent.execution.attestations import ConfinementClass
from assent.ledger.contracts import EffectClass, Idempotency, OperationContract
from assent.policy.mandates import TIMES_MAX, Mandate, beyond, read_mandate
from assent.primitives.errors import Malformed


def offers(name: str, effect: EffectClass = EffectClass.WRITE, **more: Any) -> OperationContract:
    return OperationContract(
        name=name, summary="", effect=effect, idempotency=Idempotency.NONE, arguments=(),
        floor=ConfinementClass.LOCAL_WEAK, **more,
    )  # fmt: skip


WRITE = offers("files.write")
MAIL = offers("mail.send", EffectClass.IRREVERSIBLE)


def within(lines: list[str], contract: OperationContract, used: Any = (), **arguments: Any) -> bool:
    return not beyond([read_mandate(lines, by="the request")], contract, arguments, used=used)


@pytest.mark.parametrize(
    ("line", "path", "is_within"),
    [
        ("files.write", "a", True),
        ("files.*", "a", True),
        ("*", "a", True),
        ("files.writ", "a", False),
        ("files.read", "a", False),
        ("files.write path=a", "a", True),
        ("files.write path=a", "A", False),
        ("files.write path=a path=b", "b", True),
        ("files.write path=reports/*", "reports/x/y", True),
        ("files.write path=reports/*", "reports", False),
        ("files.write path=reports/*", "my/reports/x", False),
        ("files.write path=reports/*", "reports/../secret", False),
        ("files.write path=reports/*", "reports/%2e%2e/secret", False),
        ("files.write path=reports/*", "reports\\..\\secret", False),
        ("files.write path=*.txt", "a.txt", True),
        ("files.write path=*.txt", "a.txt.exe", False),
        ("files.write path=a*b*c", "a1b2c", True),
        ("files.write path=a*b*c", "acb", False),
        ("files.write path=aa*aa", "aaa", False),
        ("files.write path='two words'", "two words", True),
        ("files.write other=x", "a", False),
    ],
)
def test_allowance_covers_exactly_what_it_says(line: str, path: str, is_within: bool) -> None:
    assert within([line], WRITE, path=path) is is_within


def test_every_item_of_a_list_must_be_permitted_and_a_value_of_another_type_is_not() -> None:
    lines = ["mail.send to=*@example.com"]
    assert within(lines, MAIL, to=["a@example.com", "b@example.com"])
    assert not within(lines, MAIL, to=["a@example.com", "eve@evil.example"])
    assert not within(lines, MAIL, to=[])
    assert not within(lines, MAIL, to={"a": "a@example.com"})
    assert not within(lines, MAIL)
    assert within(["mail.send urgent=true n=3"], MAIL, urgent=True, n=3)
    assert not within(["mail.send urgent=true"], MAIL, urgent=False)


def test_allowance_is_used_up_by_the_calls_it_covers_and_by_no_others() -> None:
    lines = ["files.write path=a x2"]
    used: list[tuple[str, dict[str, Any]]] = [("files.write", {"path": "b"}), ("files.read", {"path": "a"})]
    assert within(lines, WRITE, used=used, path="a")
    used += [("files.write", {"path": "a"})] * 2
    assert not within(lines, WRITE, used=used, path="a")
    assert within([*lines, "files.write path=*"], WRITE, used=used, path="a"), "another one covers it"
    told = beyond([read_mandate(lines, by="the request")], WRITE, {"path": "a"}, used=used)
    assert told == "the request permits `files.write path=a x2`, and that is used up"


def test_reads_are_within_unless_they_reach_a_host_or_the_mandate_says_otherwise() -> None:
    read, fetch = offers("files.read", EffectClass.READ), offers("http.get", EffectClass.READ, hosts="url")
    assert within([], read)
    assert not within(["-reads"], read)
    assert not within([], fetch, url="https://example.com/")
    assert within(["http.get url=https://example.com/*"], fetch, url="https://example.com/a")
    assert not within(["http.get url=https://example.com/*"], fetch, url="https://example.com@evil.example/a")
    assert not within([], WRITE, path="a")


def test_own_work_is_always_within_and_handing_on_is_not() -> None:
    for name, is_within in (("assistant.todo", True), ("assistant.ask", True), ("assistant.delegate", False)):
        assert within(["-reads"], offers(name, EffectClass.READ)) is is_within


def test_mandate_ends_when_its_time_is_over() -> None:
    mandate = replace(read_mandate(["*"], by="the request"), until_ms=5)
    assert not beyond([mandate], WRITE, {}, now_ms=4)
    assert beyond([mandate], WRITE, {}, now_ms=5)


@pytest.mark.parametrize(
    "line",
    ["", "files.write path", "files.write x0", f"files.write x{TIMES_MAX + 1}", "'", "=", "a b=c d", "files..x y"],
)
def test_line_that_nobody_can_read_is_refused_with_all_others_that_are_wrong(line: str) -> None:
    with pytest.raises(Malformed) as refused:
        read_mandate(["files.write", line, "also wrong"], by="x")
    assert refused.value.code == "mandate_malformed"
    assert "also wrong" in refused.value.message


lines = st.sampled_from(["files.write", "files.write path=a", "files.write path=a* x1", "mail.send", "*", "-reads"])
mandates = st.lists(lines, max_size=3).map(lambda some: read_mandate(some, by="x"))
calls = st.tuples(
    st.sampled_from([WRITE, MAIL, offers("files.read", EffectClass.READ)]), st.sampled_from(["a", "ab", "b"])
)


@given(st.lists(mandates, max_size=3), mandates, calls, st.lists(calls, max_size=3))
def test_one_mandate_more_permits_nothing_more(
    some: list[Mandate], more: Mandate, call: Any, before: list[Any]
) -> None:
    used = [(one.name, {"path": path}) for one, path in before]
    contract, path = call
    if not beyond([*some, more], contract, {"path": path}, used=used):
        assert not beyond(some, contract, {"path": path}, used=used)


@given(mandates)
def test_allowance_is_read_as_it_is_written(mandate: Mandate) -> None:
    again = read_mandate([str(one) for one in mandate.allowances], by="x")
    assert again.allowances == mandate.allowances
