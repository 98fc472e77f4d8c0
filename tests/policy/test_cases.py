from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.ledger.decisions import Verdict
from assent.policy.cases import CaseResult, Suite, read_suite, run
from assent.primitives.errors import Malformed
from tests.policy.sample import ASK, DELETE, OPERATIONS, PLACE, READ_FILES, engine

HARD = '@id("hard") forbid(principal, action, resource) unless { context.inside_workspace };'
ENGINE = engine(READ_FILES + DELETE + ASK.replace("@review", '@quorum("3") @review') + HARD)


def case(**fields: str) -> str:
    given_fields = {
        "name": '"a"',
        "principal": '"agent:writer"',
        "operation": '"files.delete"',
        "arguments": '{ path = "a" }',
        "expect": '"review"',
    }
    return "[[case]]\n" + "\n".join(f"{k} = {v}" for k, v in {**given_fields, **fields}.items()) + "\n"


def one(text: str) -> CaseResult:
    (result,) = run(read_suite(text), engine=ENGINE, operations=OPERATIONS, place=PLACE)
    return result


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rule": '"ask"'},
        {"approved": "true", "expect": '"allow"', "rule": '"delete"'},
        {"approved": "false"},
        {"approvers": '["person:ann", "person:ben"]'},
        {"approvers": '["person:ann", "person:ben", "agent:cy"]'},
        {"approvers": '["person:ann", "person:ben", "person:cy"]', "expect": '"allow"'},
        {"arguments": '{ path = "/etc/passwd" }', "approved": "true", "expect": '"deny"', "rule": '"hard"'},
        {"principal": '"person:ann"'},
        {"principal": '"service:build"', "on_behalf_of": '["agent:writer", "schedule:nightly"]'},
        {"operation": '"files.shred"', "expect": '"deny"'},
        {"principal": '"agent:stranger"', "expect": '"deny"'},
        {"operation": '"files.read"', "expect": '"allow"'},
    ],
)
def test_run_passes_a_case_that_is_decided_as_expected(fields: dict[str, str]):
    assert one(case(**fields)).fault == ""


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"expect": '"allow"'}, "expected `allow`, but it is `review` (`needs_review`): rule `ask` wants"),
        ({"rule": '"hard"'}, "expected rule `hard` to decide, but it is `review`"),
        ({"arguments": "{ }"}, "expected `review`, but it is `deny` (`arguments_invalid`)"),
        ({"arguments": '{ path = "a\\u0000" }'}, "expected `review`, but it is `deny` (`arguments_invalid`)"),
        ({"operation": '"files.shred"', "arguments": "{ a = 1979-05-27 }"}, "it is `deny` (`arguments_invalid`)"),
    ],
)
def test_run_says_how_a_case_was_decided_when_it_was_not_as_expected(fields: dict[str, str], fault: str):
    result = one(case(**fields))
    assert fault in result.fault
    assert result.decision.verdict is not Verdict.ALLOW


def test_read_suite_reads_principals_and_gives_agents_somebody_to_act_for():
    suite = read_suite('[[principal]]\nname = "agent:writer"\nroles = ["a"]\n' + case())
    assert [(known.name, known.roles) for known in suite.principals] == [("agent:writer", ("a",))]
    assert suite.cases[0].on_behalf_of == ("person:someone",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[[case", "are not TOML"),
        ("cases = 3", "`cases` is neither `case` nor `principal`"),
        ("case = 3", "`case` must be tables: write `[[case]]`"),
        ("case = [3]", "case 1: it is not a table"),
        (case(expect='"maybe"'), "case 1 (`a`): `expect`: invalid enum value 'maybe'"),
        (case(arguments="3"), "`arguments`: expected `object`, got `int`"),
        (case(approved='"yes"'), "`approved`: expected `bool`, got `str`"),
        (case(aproved="true"), "`aproved` is not a field of it"),
        ("[[case]]\nname = 'a'", "`principal` is missing"),
        (case() + case(), "two case tables are named `a`"),
        (case(principal='"writer"'), "case `a`: `writer` is not a person"),
        (case(on_behalf_of='["agent:a"]'), "not in a person or a schedule"),
        ('[[principal]]\nname = "agent:other"\n' + case(), "`agent:writer` is not among the principals"),
        ('[[principal]]\nname = "other"\n', "`other` is not a principal"),
    ],
)
def test_read_suite_refuses_a_file_with_its_mistake(text: str, fault: str):
    with pytest.raises(Malformed) as caught:
        read_suite(text)
    assert caught.value.code == "cases_invalid"
    assert fault in str(caught.value)


def test_read_suite_tells_all_mistakes_together():
    with pytest.raises(Malformed) as caught:
        read_suite("x = 1\n" + case(expect='"maybe"', operation="3", more="1") + case(name='"b"', principal='"b"'))
    for fault in (
        "`x` is neither",
        "`expect`:",
        "`operation`:",
        "`more` is not a field",
        "case `b`: `b` is not a person",
    ):
        assert fault in str(caught.value)


@given(text=st.text() | st.text(alphabet='[]case="\n{}.principal\\u1', max_size=80))
def test_read_suite_reads_or_refuses_whatever_it_is_given(text: str):
    found: Suite | str
    try:
        found = read_suite(text)
    except Malformed as malformed:
        found = malformed.code
    assert isinstance(found, Suite) or found == "cases_invalid"
