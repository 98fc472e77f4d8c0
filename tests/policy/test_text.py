from __future__ import annotations

import pytest

from assent.policy.cedar import Cedar
from assent.policy.schema import SCHEMA
from assent.policy.text import IFS_MAX, NESTING_MAX, OPERATORS_MAX, RULE_TOKENS_MAX, excess, mistake, pieces

CEDAR = Cedar(SCHEMA)
RULE = '@id("a; // b") // not; here\npermit(principal, action, resource) when { context.path like "x;\\"y" };'


def when(condition: str) -> str:
    return f"permit(principal, action, resource) when {{ {condition} }};"


def test_pieces_cuts_at_semicolons_outside_strings_and_comments():
    found = pieces(f"{RULE}\n// a comment; alone\n{RULE} permit")
    assert [piece.text for piece in found] == [RULE, RULE, "permit"]
    assert [piece.finished for piece in found] == [True, True, False]


def test_pieces_ends_a_comment_where_cedar_does_when_there_is_a_carriage_return():
    assert [piece.text for piece in pieces("// one\rpermit;")] == ["permit;"]


def test_piece_tells_line_and_column_of_its_tokens():
    (piece,) = pieces(f"\n\n  {RULE}")
    lines = piece.whole.splitlines()
    assert piece.place() == (3, 3)
    for index, token in enumerate(piece.tokens):
        line, column = piece.place(index)
        assert lines[line - 1][column - 1 :].startswith(token.text)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("(" * (NESTING_MAX + 1) + "true" + ")" * (NESTING_MAX + 1), "brackets"),
        ("[" * 100_000, "tokens"),
        ("if true then true else " * (IFS_MAX + 1) + "true", "`if`s"),
        ("true && " * (OPERATORS_MAX + 1) + "true", "operators"),
        ("context" + ".a" * (OPERATORS_MAX + 1), "operators"),
        ("!" * (OPERATORS_MAX + 1) + "true", "operators"),
        ("[" + "1, " * RULE_TOKENS_MAX + "1].contains(1)", "tokens"),
    ],
)
def test_excess_refuses_a_rule_that_would_overflow_the_parsers_stack(condition: str, why: str):
    assert why in excess(pieces(when(condition))[0])


def test_excess_lets_a_rule_pass_when_it_is_at_every_limit():
    deep = "(" * (NESTING_MAX - 1) + "true" + ")" * (NESTING_MAX - 1)
    for condition in (deep, "true && " * OPERATORS_MAX + "true", "[" + "1, " * 900 + "1].contains(1)"):
        (piece,) = pieces(when(condition))
        assert excess(piece) == ""
        assert CEDAR.complaint(piece.text) == ""


@pytest.mark.parametrize(
    ("rule", "place", "token"),
    [
        ("permit(principal, action, resource)\n  whem { true };", (2, 3), "whem"),
        ("permit(principal, actoin, resource);", (1, 19), "actoin"),
        (when("foo(context.path)"), (1, 44), "foo"),
        (when("context..path"), (1, 52), "."),
        (when("context.path = 3"), (1, 57), "="),
        (when("principle == 1"), (1, 44), "principle"),
        ("permit(principal, action, resource)", (1, 35), ")"),
        ('@id("a)\npermit(principal, action, resource);', (1, 5), '"'),
        ("é;", (1, 1), "é"),
        (";", (1, 1), ";"),
    ],
)
def test_mistake_points_at_the_token_where_reading_goes_wrong(rule: str, place: tuple[int, int], token: str):
    (piece,) = pieces(rule)
    index = mistake(piece, CEDAR.complaint)
    assert (piece.place(index), piece.tokens[index].text) == (place, token)
