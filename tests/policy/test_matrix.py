"""The matrix of a policy, against what the engine decides."""

from __future__ import annotations

from assent.policy.matrix import SITUATIONS, Row, as_markdown, matrix
from tests.policy.sample import CONTRACTS, DELETE, READ_FILES, engine

ASK = (
    '@id("ask") @review("Delete it?") forbid(principal in Role::"writers", action, resource == '
    'Operation::"files.delete") unless { context has approval && context.approval.intent == context.intent };\n'
)
NAMED = (
    '@id("fetch") permit(principal, action, resource == Operation::"http.get") '
    'when { context has host && context.host == "api.example:443" };\n'
    '@id("small") permit(principal, action, resource == Operation::"files.write") '
    "when { context.payload_bytes <= 1000 };\n"
    '@id("ann") permit(principal, action, resource == Operation::"files.stat") '
    'when { context.on_behalf_of.contains("person:ann") };\n'
    '@id("vouched") forbid(principal, action, resource in Connector::"files") '
    "when { context.authority_integrity < 1 || !context.inside_workspace };\n"
)


def rows(text: str, operation: str) -> list[Row]:
    connector, _, name = operation.partition(".")
    return [row for row in matrix(engine(text)) if row.connector == connector and name in row.operations]


def test_every_operation_stands_in_the_matrix_once_for_everybody_who_asks():
    found = matrix(engine(READ_FILES))
    usual = [row for row in found if not row.where]
    assert sorted(f"{row.connector}.{name}" for row in usual for name in row.operations) == sorted(CONTRACTS)
    assert {row.who for row in found} == {("everybody",)}
    assert all(len(row.cells) == len(SITUATIONS) for row in found)


def test_askers_stand_apart_by_the_roles_that_rules_tell_apart():
    found = {row.who: str(row.cells[0]) for row in rows(DELETE + ASK, "files.delete")}
    assert found == {
        ("agents with `writers`",): "review `ask`",
        ("people", "people with `owners`", "services"): "allow `delete`",
    }


def test_cells_say_what_the_label_of_a_call_changes():
    (row, *_) = rows(READ_FILES + NAMED, "files.read")
    cells = {name: str(cell) for name, cell in zip(SITUATIONS, row.cells, strict=True)}
    assert cells["usual"] == cells["third party seen"] == cells["org's word"] == "allow `read`"
    assert cells["third party's word"] == cells["outside"] == "deny `vouched`"


def test_values_that_rules_name_have_rows_of_their_own():
    told = {
        operation: {(row.where, str(row.cells[0])) for row in rows(READ_FILES + NAMED, operation)}
        for operation in ("http.get", "files.write")
    }
    assert told["http.get"] == {((), "deny (no rule)"), (("host `api.example:443`",), "allow `fetch`")}
    assert told["files.write"] == {((), "allow `small`"), (("payload_bytes 1001",), "deny (no rule)")}
    found = [row for row in rows(NAMED, "files.stat") if row.where == ("for `person:ann`",)]
    assert [(row.who, str(row.cells[0])) for row in found] == [(("agents with `writers`", "services"), "allow `ann`")]


def test_page_shows_only_what_differs_from_the_usual():
    page = as_markdown(rows(DELETE + ASK, "files.delete"))
    assert "| delete | agents with `writers` |  | review `ask` |" + " · |" * (len(SITUATIONS) - 1) in page
