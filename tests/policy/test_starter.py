"""The starter policy, over the full grid of what it can tell apart, against a slow and obvious second opinion.

`starter_matrix.txt` shows every decision. `ASSENT_WRITE_MATRIX=1 pytest tests/policy/test_starter.py` writes it anew;
read what changed before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

import assent.policy.starter
from assent.ledger.decisions import Decision
from assent.policy.activation import check
from assent.policy.approvals import Approval
from assent.policy.bundle import Bundle
from assent.policy.cases import read_suite, run
from assent.policy.engine import Engine
from assent.policy.principals import KnownPrincipal
from tests.policy.sample import CONTRACTS, OPERATIONS, PLACE, Call, call, decide

FOLDER = Path(assent.policy.starter.__path__[0])
TEXT = (FOLDER / "starter.cedar").read_text(encoding="utf-8")
SUITE = read_suite((FOLDER / "starter_tests.toml").read_text(encoding="utf-8"))
MATRIX = Path(__file__).with_name("starter_matrix.txt")

PRINCIPALS = ("agent:writer", "person:ann", "service:build")
APPROVALS = ("none", "for this call", "for another call", "by an agent")
ENGINE = Engine(
    bundle=Bundle(text=TEXT), contracts=CONTRACTS, principals=[KnownPrincipal(name=name) for name in PRINCIPALS]
)

FILE_TARGETS = ("notes/a.txt", "../a.txt", "/etc/passwd")
SHELL_TARGETS = (".", "..", "/")
HTTP_TARGETS = (
    "https://nowhere.invalid/a",
    "http://nowhere.invalid/a",
    "https://example.org/a",
    "http://127.0.0.1/a",
    "http://169.254.169.254/a",
    "http://[fd00:ec2::254]/a",
    "http://[::ffff:169.254.169.254]/a",
    "http://metadata.google.internal/a",
)
METADATA = ("169.254.169.254:80", "[fd00:ec2::254]:80", "[::ffff:169.254.169.254]:80", "[::ffff:a9fe:a9fe]:80",
            "metadata.google.internal:80")  # fmt: skip
READS = (
    "files.read",
    "files.list",
    "files.search",
    "files.stat",
    "http.get",
    "http.head",
    "http.introspect",
    "http.tools",
    "http.events",
    "http.listen",
)
HARD = {"workspace-only", "http-hosts", "no-metadata", "readers-kept"}
SOFT = {
    "plan-confirmed", "files-delete-reviewed", "http-publish-reviewed", "mandate-kept", "authority-vouched",
    "policy-change-reviewed",
}  # fmt: skip
WRITES = ("files.write", "files.append", "files.edit", "files.make_folder")


def targets(operation: str) -> tuple[str, ...]:
    if operation == "jsonrpc.run":
        return SHELL_TARGETS
    named = {"files": FILE_TARGETS, "shell": SHELL_TARGETS, "python": ("1 + 1",), "wasm": FILE_TARGETS}
    named |= {
        "terminal": SHELL_TARGETS,
        "model": ("some",),
        "assistant": ("this",),
        "memory": ("notes/*.md",),
        "agents": ("write",),
        "policy": ("sha256:" + "0" * 64,),
    }
    return named.get(operation.partition(".")[0], HTTP_TARGETS)


def assistant_arguments(operation: str, target: str) -> dict[str, Any]:
    given: dict[str, Any] = {"question": target, "text": target, "agent": "other", "task": target, "limit": 5}
    given |= {"items": [{"text": target}], "query": "tea", "sources": [target]}
    given |= {
        "capabilities": [target],
        "tools": [target],
        "delegates": [target],
        "note": target,
        "calls": ["files.write"],
    }
    given |= {"name": target[:64], "file": target, "sha256": "sha256:" + "0" * 64}
    return {argument.name: given[argument.name] for argument in CONTRACTS[operation].arguments}


def arguments(operation: str, target: str) -> dict[str, Any]:  # noqa: C901 (a table in words)
    own: dict[str, dict[str, Any]] = {
        "jsonrpc.call": {"url": target, "method": "stop"},
        "jsonrpc.run": {"argv": ["ls"], "cwd": target, "method": "stop"},
        "policy.activate": {"revision": target, "replaces": target, "text": [target]},
    }
    if operation in own:
        return own[operation]
    if operation.startswith(("shell.", "terminal.")):
        return {"argv": ["ls"], "cwd": target}
    if operation.startswith("wasm."):
        return {"path": target, "module": "sha256:" + "0" * 64}
    if operation.startswith("python."):
        return {"source": target}
    if operation.startswith("model."):
        return {"model": target, "pieces": []}
    if operation.startswith(("agents.", "assistant.", "memory.")):
        return assistant_arguments(operation, target)
    if operation in ("http.listen", "http.talk"):
        target = target.replace("http", "ws", 1)
    given: dict[str, Any] = {"url" if operation.startswith("http") else "path": target}
    given |= {"messages": ["hello"]} if operation == "http.talk" else {}
    given |= {"path": "notes/a.txt"} if operation == "http.upload" else {}
    for argument in CONTRACTS[operation].arguments:
        if argument.name in ("content", "body", "old"):
            given[argument.name] = "hello"
        if argument.name == "pattern":
            given[argument.name] = "hello"
        if argument.name == "new":
            given[argument.name] = "goodbye"
    return given


def approval(wish: Call, which: str) -> Approval | None:
    return {
        "none": None,
        "for this call": wish.approved("person:ben"),
        "for another call": wish.approved("person:ben", digest=call("files.list").digest),
        "by an agent": wish.approved("agent:reviewer"),
    }[which]


def second_opinion(operation: str, wish: Call, *, approved: bool) -> tuple[str, str, tuple[str, ...]]:
    """The starter policy once more, in plain Python, without a rule engine, a probe or a cache."""
    outside, host = not wish.facts.inside_workspace, wish.facts.host
    connector = operation.partition(".")[0]
    reads, writes, deletes = operation in READS, operation in WRITES, operation == "files.delete"
    files, http = connector == "files", connector == "http"
    holds = {
        "files-read": files and reads and not outside,
        "files-write": files and writes and not outside,
        "files-delete": deletes and not outside,
        "shell-confined": connector == "shell" and not outside,
        "python-confined": connector == "python",
        "models": connector == "model",
        "assistant": connector == "assistant" and operation != "assistant.plan",
        "plan": operation == "assistant.plan",
        "plan-confirmed": operation == "assistant.plan",
        "memory": connector == "memory",
        "agents": connector == "agents",
        "policy-change": connector == "policy" and wish.intent.principal.startswith("person:"),
        "policy-change-reviewed": connector == "policy" and wish.intent.principal.startswith("person:"),
        "http-read": http and reads,
        "http-publish": http and not reads,
        "files-delete-reviewed": deletes,
        "http-publish-reviewed": http and not reads,
        "workspace-only": outside,
        "http-hosts": http and host != "nowhere.invalid:443",
        "no-metadata": host in METADATA,
        "readers-kept": not wish.facts.readers_permit,
        "mandate-kept": wish.facts.beyond_mandate,
        "authority-vouched": CONTRACTS[operation].effect == "irreversible" and wish.facts.authority_integrity < 1,
    }
    matching = {name for name, applies in holds.items() if applies}
    hard, soft = matching & HARD, matching & SOFT
    if not matching:
        return "deny", "no_rule", ()
    if hard or matching == soft:
        return "deny", "forbidden", tuple(sorted(hard | soft))
    if soft and not approved:
        return "review", "needs_review", tuple(sorted(soft))
    return "allow", "allowed", tuple(sorted(matching - soft))


def grid() -> list[tuple[str, str, str, str, Decision, tuple[str, str, tuple[str, ...]]]]:
    rows = []
    for operation in sorted(CONTRACTS):
        for target in targets(operation):
            for principal in PRINCIPALS:
                for which in APPROVALS:
                    wish = call(operation, arguments(operation, target), principal=principal)
                    decision = decide(ENGINE, wish, approval(wish, which))
                    expected = second_opinion(operation, wish, approved=which == "for this call")
                    rows.append((operation, target, principal, which, decision, expected))
    return rows


GRID = grid()
LABELS = [
    {
        "integrity": seen,
        "authority_integrity": authority,
        "untrusted": untrusted,
        "readers_permit": readers,
        "beyond_mandate": beyond,
    }
    for seen in range(4)
    for authority in range(4)
    for untrusted in ((), ("path",), ("content", "url"))
    for readers in (True, False)
    for beyond in (False, True)
]
"""Everything that a call's provenance can make of it."""


@pytest.mark.parametrize("operation", sorted(CONTRACTS))
def test_starter_decides_under_every_label_as_the_second_opinion_does(operation: str):
    for target in targets(operation)[:3:2]:
        plain = call(operation, arguments(operation, target))
        for labels in LABELS:
            wish = plain._replace(facts=msgspec.structs.replace(plain.facts, **labels))
            for which in ("none", "for this call", "by an agent"):
                decision = decide(ENGINE, wish, approval(wish, which))
                expected = second_opinion(operation, wish, approved=which == "for this call")
                assert (decision.verdict.value, decision.code, decision.rules) == expected, (target, labels, which)


def test_starter_decides_the_whole_grid_as_the_second_opinion_does():
    for *cell, decision, expected in GRID:
        assert (decision.verdict.value, decision.code, decision.rules) == expected, cell


def test_starter_matrix_is_the_committed_one():
    lines = ["# Every decision of the starter policy. See test_starter.py for how to write it anew.", ""]
    for operation, target, principal, which, decision, _ in GRID:
        said = f"{decision.verdict:<7}{decision.code:<13}{', '.join(decision.rules)}"
        lines.append(f"{operation:<20}{target:<36}{principal:<15}{which:<18}{said}".rstrip())
    found = "\n".join(lines) + "\n"
    if os.environ.get("ASSENT_WRITE_MATRIX") == "1":
        MATRIX.write_text(found, encoding="utf-8")
    assert found == MATRIX.read_text(encoding="utf-8")


def test_starter_passes_activation_without_a_warning_before_anything_is_declared():
    for principals in ((), tuple(KnownPrincipal(name=name) for name in PRINCIPALS)):
        report = check(TEXT, contracts=CONTRACTS, principals=principals)
        assert (report.faults, report.warnings) == ((), ())
        assert len(report.rules) == len(ENGINE.rules)


def test_starter_passes_its_own_tests():
    engine = Engine(bundle=Bundle(text=TEXT), contracts=CONTRACTS, principals=SUITE.principals)
    results = run(SUITE, engine=engine, operations=OPERATIONS, place=PLACE)
    assert [result.fault for result in results if result.fault] == []
    assert results


@pytest.mark.parametrize("rule", [rule.id for rule in ENGINE.rules])
def test_starter_tests_show_each_rule_both_ways(rule: str):
    engine = Engine(bundle=Bundle(text=TEXT), contracts=CONTRACTS, principals=SUITE.principals)
    results = run(SUITE, engine=engine, operations=OPERATIONS, place=PLACE)
    assert any(case.rule == rule for case in SUITE.cases)
    assert {rule in result.decision.rules for result in results} == {True, False}


def test_starter_explains_every_rule_and_has_a_reason_for_it():
    lines = TEXT.splitlines()
    for rule in ENGINE.rules:
        assert rule.terms.reason
        assert lines[rule.line - 2].startswith("//"), f"`{rule.id}` has no comment"


def test_starter_confines_programs_and_opens_no_host_for_them():
    decision = decide(ENGINE, call("shell.run", {"argv": ["ls"]}))
    assert decision.obligations is not None
    assert (decision.obligations.floor.value, decision.obligations.hosts) == ("namespaced", ())


@pytest.mark.parametrize("listed", ["127.0.0.1:8080", "api.example.org:443"])
def test_starter_reaches_a_host_when_its_list_is_edited(listed: str):
    text = TEXT.replace('"nowhere.invalid:443"', f'"{listed}"')
    engine = Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=[KnownPrincipal(name=PRINCIPALS[0])])
    scheme = "https" if listed.endswith(":443") else "http"
    wish = call("http.get", {"url": f"{scheme}://{listed}/a"})
    decision = decide(engine, wish)
    assert decision.rules == ("http-read",)
    assert decision.obligations is not None
    assert decision.obligations.hosts == (listed,)


def test_starter_keeps_metadata_shut_when_somebody_lists_it():
    text = TEXT.replace('"nowhere.invalid:443"', '"169.254.169.254:80"')
    engine = Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=[KnownPrincipal(name=PRINCIPALS[0])])
    wish = call("http.put", {"url": "http://169.254.169.254/latest/api/token", "body": ""})
    assert decide(engine, wish, wish.approved("person:ann")).rules == ("http-publish-reviewed", "no-metadata")
