"""Descriptions of command lines: how a call is written, and that an argument never becomes an option."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assent.execution.attestations import Attestation
from assent.execution.obligations import Obligations
from assent.execution.orders import ProcessOrder
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.ledger.connectors.families.admissions import Said, admit, decode, encode, say
from assent.ledger.connectors.families.command_line import read_command_line
from assent.ledger.connectors.families.entries import Draft
from assent.ledger.contracts import EffectClass
from assent.ledger.operations import Operation, Place, reading_of
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed

PLACE = Place(workspace="/srv/ws")
TEXT = """
program = "git"
words = ["--no-pager"]

[[operation]]
name = "log"
summary = "show what was committed"
effect = "read"
words = ["log"]
output = "json"
wall_s = 5
[[operation.option]]
name = "count"
flag = "--max-count"
type = "integer"
minimum = 1
[[operation.option]]
name = "author"
flag = "--author"
[[operation.option]]
name = "all"
flag = "--all"
type = "boolean"
[[operation.option]]
name = "grep"
flag = "--grep"
type = "texts"
[[operation.option]]
name = "lines"
flag = "-n"
type = "integer"
[[operation.positional]]
name = "file"
type = "path"

[[operation]]
name = "commit"
summary = "commit"
workspace = "write"
cwd = "repo"
words = ["commit", "-F", "-"]
stdin = "the message"
separator = false
environment = { GIT_AUTHOR_NAME = "assent" }
[[operation.positional]]
name = "paths"
type = "texts"
"""


def made(text: str = TEXT, **more: Any) -> Draft:
    return read_command_line(text.encode(), name="git", where="git.toml", source_digest=digest(text.encode()), **more)


def operations(draft: Draft | None = None) -> dict[str, Operation]:
    return {o.contract.name: o for o in admit(draft or made(), by="person:ann").offered()}


def order(operation: str, /, **arguments: Any) -> ProcessOrder:
    found = operations()[operation]
    found.facts(arguments, PLACE)
    planned = found.plan(arguments, PLACE, Obligations(), "k")
    assert isinstance(planned, ProcessOrder)
    return planned


def test_call_is_written_word_by_word():
    planned = order("git.log", count=3, author="ann", all=True, grep=["a", "b"], lines=2, file="src/a.py")
    assert planned.argv == (
        "git", "--no-pager", "log", "--max-count=3", "--author=ann", "--all", "--grep=a", "--grep=b", "-n2", "--",
        "src/a.py",
    )  # fmt: skip
    assert (planned.workspace_writable, planned.limits.wall_ms, planned.hosts) == (False, 5_000, ())
    committed = order("git.commit", paths=["a"], stdin="why")
    assert committed.argv == ("git", "--no-pager", "commit", "-F", "-", "a")
    assert (committed.stdin, committed.cwd, committed.workspace_writable) == (b"why", "repo", True)
    assert committed.env == {"GIT_AUTHOR_NAME": "assent"}


@pytest.mark.parametrize("evil", ["--upload-pack=evil", "-x", "--", "-"])
def test_argument_never_becomes_an_option(evil):
    argv = order("git.log", author=evil, grep=[evil], file=f"./{evil}").argv
    assert argv == ("git", "--no-pager", "log", f"--author={evil}", f"--grep={evil}", "--", f"./{evil}")
    assert order("git.log", file=evil).argv[-2:] == ("--", evil)
    with pytest.raises(Malformed):
        order("git.commit", paths=["a", evil])


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("git.log", {"count": 0}),
        ("git.log", {"count": "3"}),
        ("git.log", {"author": "a\0b"}),
        ("git.log", {"file": "../x"}),
        ("git.log", {"file": "/etc/passwd"}),
        ("git.log", {"file": "a\x1b[31m"}),
        ("git.log", {"evil": "x"}),
    ],
)
def test_call_that_does_not_fit_is_refused(operation, arguments):
    with pytest.raises(Malformed):
        order(operation, **arguments)


def test_path_is_judged_from_the_folder_that_the_program_runs_in():
    draft = made(TEXT.replace('name = "log"', 'name = "log"\ncwd = "deep/er"'))
    found = operations(draft)["git.log"]
    assert found.facts({"file": "../x"}, PLACE).path == "deep/x"
    assert found.facts({"file": "../../../x"}, PLACE).inside_workspace is False
    assert found.facts({}, PLACE).program == "git"


def test_effect_is_irreversible_unless_a_person_wrote_otherwise():
    entries = {e.name: e for e in made().entries}
    assert entries["git.log"].contract.effect is EffectClass.READ
    assert entries["git.commit"].contract.effect is EffectClass.IRREVERSIBLE
    assert entries["git.commit"].why == "a program may do anything"


def test_operation_that_is_said_to_read_cannot_write():
    admission = admit(made(), by="person:ann")
    assert decode(encode(admission), name="git") == admission
    entry = admission.entry("commit")
    word = Said(effect=EffectClass.READ, by="person:ann", reason="dry run", definition=entry.definition)
    told = {o.contract.name: o for o in say(admission, entry, word).offered()}["git.commit"]
    planned = told.plan({}, PLACE, Obligations(), "k")
    assert isinstance(planned, ProcessOrder)
    assert planned.workspace_writable is False


@pytest.mark.parametrize(
    ("stdout", "ending", "value"),
    [
        ('{"a": 1}', "succeeded", {"output": {"a": 1}, "exit_code": 0}),
        ("null", "succeeded", {"output": None, "exit_code": 0}),
        ("no", "failed", {"stdout": "no", "exit_code": 0}),
        ({"base64": "AA=="}, "failed", {"stdout": {"base64": "AA=="}, "exit_code": 0}),
    ],
)
def test_output_is_taken_as_what_it_is_said_to_be(stdout, ending, value):
    evidence = Evidence(lane="process", attestation=Attestation(mechanism="x"), started_at_ms=0, ended_at_ms=1)
    given = Outcome(ending=Ending.SUCCEEDED, code="ok", value={"stdout": stdout, "exit_code": 0}, evidence=evidence)
    found = reading_of(operations()["git.log"])(given)
    assert (found.ending.value, found.value) == (ending, value)
    assert reading_of(operations()["git.commit"])(given) == given


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('program = "git"', 'program = ""'),
        ('program = "git"', 'program = "a\\u0000b"'),
        ('program = "git"', 'program = "./"'),
        ('program = "git"', "program = 3"),
        ('program = "git"', 'programme = "git"'),
        ('flag = "--author"', 'flag = "-a"'),
        ('flag = "--author"', 'flag = "author"'),
        ('flag = "--author"', 'flag = "--author=x"'),
        ('flag = "--author"', 'flag = "--"'),
        ('flag = "--author"', ""),
        ('name = "author"', 'name = "count"'),
        ('name = "author"', 'name = "as"'),
        ('name = "author"', 'name = "\u0430uthor"'),
        ('name = "file"', 'name = "file"\nflag = "--file"'),
        ('effect = "read"', 'effect = "read"\nworkspace = "write"'),
        ('effect = "read"', 'effect = "harmless"'),
        ('effect = "read"', 'effect = "read"\nhost = "nowhere"'),
        ('environment = { GIT_AUTHOR_NAME = "assent" }', 'environment = { PATH = "/tmp" }'),
        ('environment = { GIT_AUTHOR_NAME = "assent" }', 'environment = { LD_PRELOAD = "x" }'),
        ("minimum = 1", 'minimum = "1"'),
        ('type = "path"', 'type = "boolean"'),
        ("[[operation]]", "[[operations]]"),
        ('name = "log"', 'name = "l o g"'),
    ],
)
def test_description_with_a_mistake_is_refused(old, new):
    assert old in TEXT
    with pytest.raises(Malformed):
        admit(made(TEXT.replace(old, new)), by="person:ann")


def test_description_is_bounded():
    for data in (b"\xff", b"[" * 5_000, b"x = 1" * 400_000, json.dumps({}).encode()):
        with pytest.raises(Malformed):
            read_command_line(data, name="git", where="x", source_digest=digest(data))
