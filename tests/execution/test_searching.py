"""Searching files: two engines that find the same, never outside the workspace, never for longer than allowed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assent.execution.adapters.files import FileLane, search_program
from assent.execution.adapters.files import searching as verb
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, Limits, ProcessOrder, Search
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.searches import (
    GLOB_CHARACTERS_MAX,
    LINE_CHARACTERS_MAX,
    PATTERN_CHARACTERS_MAX,
    Line,
    assembled,
    glob_pattern,
    read_pattern,
)
from assent.ledger.connectors.ripgrep import read_said
from assent.ledger.connectors.searches import SEARCH, FilesSearch
from assent.ledger.contracts import contract_digest
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.errors import Malformed
from tests.execution.sites import RealClock

RIPGREP = Path(sys.executable).with_name("rg")  # from the development dependencies
EVIDENCE = Evidence(
    lane="process", attestation=Attestation(mechanism="none", properties={}), started_at_ms=0, ended_at_ms=0
)


def own(workspace: Path, **arguments: Any) -> Outcome:
    """What Assent's own engine finds."""
    order = SEARCH.plan(arguments, Place(workspace=str(workspace)), Obligations(), "")
    lane = FileLane(clock=RealClock())
    return asyncio.run(lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))


def ripgrep(workspace: Path, **arguments: Any) -> Outcome:
    """What ripgrep finds, run as the process lane would run it but for the sandbox."""
    operation = FilesSearch(ripgrep=str(RIPGREP))
    order = operation.plan(arguments, Place(workspace=str(workspace)), Obligations(), "")
    assert isinstance(order, ProcessOrder)
    done = subprocess.run(
        order.argv, cwd=workspace, capture_output=True, text=True, check=False, env={"PATH": os.defpath}
    )
    value = {"exit": done.returncode, "signal": None, "stdout": done.stdout, "stderr": done.stderr}
    return operation.read(Outcome(ending=Ending.SUCCEEDED, code="ok", value=value, evidence=EVIDENCE))


ENGINES = pytest.mark.parametrize("find", [own, ripgrep])


def said(outcome: Outcome) -> tuple[str, str, Any]:
    return str(outcome.ending), outcome.code, outcome.value


def lines_of(outcome: Outcome) -> list[tuple[str, int, str]]:
    return [
        (one["path"], line["line"], line["text"])
        for one in outcome.value["found"]
        for line in one["lines"]
        if line["match"]
    ]


@pytest.fixture
def tree(tmp_path):
    """A workspace with some of everything, and a neighbour that must not be seen."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("needle in secret")
    place = tmp_path / "ws"
    for folder in ("src/deep/er", ".git", "node_modules/x", ".hidden", "empty", "a[b]"):
        (place / folder).mkdir(parents=True)
    files = {
        "src/one.py": "import os\n\ndef needle():\n    return 'needle'\n\n# end\n",
        "src/two.ts": "const needle = 1\r\nconst other = 2\r\n",
        "src/deep/er/three.py": "no newline at the end: needle",
        "src/deep/er.py": "needle before the folder of a like name",
        ".hidden/four.txt": "needle\n",
        ".git/config": "needle",
        "node_modules/x/index.js": "needle",
        "a[b]/five{1}.py": "needle (1) [2] {3}\n",
        "üñí.txt": "größe NEEDLE straße\n",
        "blank.txt": "\n\nneedle\n\n\n",
        "nothing.txt": "",
        "many.txt": "".join(f"needle {number}\n" for number in range(40)),
        ".git.txt": "needle\n",
    }
    for name, text in files.items():
        (place / name).write_bytes(text.encode())
    (place / "latin.txt").write_bytes("caf\xe9 needle\n".encode("latin-1"))
    (place / "binary").write_bytes(b"needle\0needle\n")
    (place / "late.bin").write_bytes(b"needle\n" * 100 + b"x\n" * 100_000 + b"\0")
    (place / "long.txt").write_text("x" * 3_000 + "needle\n")
    (place / b"odd\xff.txt".decode(errors="surrogateescape")).write_text("needle\n")
    (place / "file_link").symlink_to("../outside/secret.txt")
    (place / "folder_link").symlink_to("../outside")
    (place / "loop").symlink_to(".")
    os.mkfifo(place / "fifo")
    return place


CASES: list[dict[str, Any]] = [
    {"pattern": "needle"},
    {"pattern": "needle", "ignore_case": True},
    {"pattern": "(?i)NEEDLE", "glob": "*.txt"},
    {"pattern": "needle", "glob": "*.{py,ts}"},
    {"pattern": "needle", "glob": "src/*.py"},
    {"pattern": "needle", "glob": "src/**/*.py"},
    {"pattern": "needle", "glob": "**/er/*"},
    {"pattern": "needle", "glob": "src/**"},
    {"pattern": "needle", "glob": "[ab]*"},
    {"pattern": "needle", "glob": "[!ab]*.txt"},
    {"pattern": "needle", "glob": "*"},
    {"pattern": "needle", "glob": "?lank.txt"},
    {"pattern": "needle", "path": "src"},
    {"pattern": "needle", "path": "src", "glob": "*.py"},
    {"pattern": "needle", "path": "src/deep/er"},
    {"pattern": "needle", "path": "src/one.py"},
    {"pattern": "needle", "path": "src/one.py", "glob": "*.ts", "context": 1},
    {"pattern": "needle", "path": "a[b]/five{1}.py"},
    {"pattern": "needle", "path": "a[b]"},
    {"pattern": "needle", "path": "nothing.txt"},
    {"pattern": "needle", "path": "empty"},
    {"pattern": "needle", "path": ".git"},
    {"pattern": "needle", "path": "binary"},
    {"pattern": "needle", "path": "late.bin"},
    {"pattern": "needle", "path": "long.txt"},
    {"pattern": "needle", "path": "many.txt", "limit": 3},
    {"pattern": "needle", "path": "many.txt", "limit": 3, "context": 2},
    {"pattern": "needle 1?5$", "path": "many.txt", "context": 2},
    {"pattern": "needle (7|9)$", "path": "many.txt", "context": 3},
    {"pattern": "needle", "limit": 2, "context": 10},
    {"pattern": "needle", "limit": 41},
    {"pattern": "^$"},
    {"pattern": "^", "path": "src"},
    {"pattern": "x*", "path": "blank.txt"},
    {"pattern": "^needle$"},
    {"pattern": r"\bneedle\b"},
    {"pattern": r"\Bneedle", "path": "long.txt"},
    {"pattern": r"gr\u00f6\xdfe\s\w+"},
    {"pattern": r"[^\s]+\s[^x]", "path": "src"},
    {"pattern": r"\(\d\) \[2\] \{3}"},
    {"pattern": "{x|}$|]"},
    {"pattern": r"(?:need|x)le(?P<tail>.*)"},
    {"pattern": "n.{3,4}e\\W??"},
    {"pattern": "\\r$"},
    {"pattern": "[a\\]\\-\\\\n]+eedle"},
    {"pattern": "never there"},
    {"pattern": "needle", "path": "file_link"},
    {"pattern": "needle", "path": "folder_link"},
    {"pattern": "needle", "path": "folder_link/secret.txt"},
    {"pattern": "needle", "path": "loop/src"},
    {"pattern": "needle", "path": "missing"},
    {"pattern": "needle", "path": "fifo"},
]


@pytest.mark.slow
def test_both_engines_find_the_same(tree):
    assert RIPGREP.exists(), "ripgrep is a development dependency: run `make setup`"
    for case in CASES:
        assert said(own(tree, **case)) == said(ripgrep(tree, **case)), case


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    pattern=st.text("ab.*+?|()[]^$ \\wdb{1,}", min_size=1, max_size=8),
    content=st.text("ab \n1{(", max_size=40),
    context=st.integers(0, 2),
    ignore_case=st.booleans(),
)
def test_both_engines_find_the_same_whatever_the_pattern(*, pattern, content, context, ignore_case, tmp_path):
    (tmp_path / "f").write_text(content)
    try:
        read_pattern(pattern)
    except Malformed:
        return
    asked: dict[str, Any] = {"pattern": pattern, "context": context, "ignore_case": ignore_case}
    found = ripgrep(tmp_path, **asked)
    if found.code == "search_failed":  # what Python's grammar takes and ripgrep's does not is refused and not misread
        return
    assert said(own(tmp_path, **asked)) == said(found)


@ENGINES
def test_search_finds_lines_and_passes_by_what_is_no_text_or_is_ignored(find, tree):
    outcome = find(tree, pattern="needle", limit=1_000)
    paths = [one["path"] for one in outcome.value["found"]]
    assert paths == [
        ".git.txt", ".hidden/four.txt", "a[b]/five{1}.py", "blank.txt", "latin.txt", "long.txt", "many.txt",
        "odd\\xff.txt", "src/deep/er/three.py", "src/deep/er.py", "src/one.py", "src/two.ts",
    ]  # fmt: skip
    assert outcome.value["complete"] is True
    assert outcome.value["matches"] == len(lines_of(outcome))
    assert ("blank.txt", 3, "needle") in lines_of(outcome)
    assert ("src/two.ts", 1, "const needle = 1\r") in lines_of(outcome)
    assert max(len(text) for _, _, text in lines_of(outcome)) <= LINE_CHARACTERS_MAX


@ENGINES
def test_search_says_that_there_is_more_when_the_limit_is_reached(find, tree):
    outcome = find(tree, pattern="needle", path="many.txt", limit=40)
    assert (outcome.value["matches"], outcome.value["complete"]) == (40, True)
    outcome = find(tree, pattern="needle", path="many.txt", limit=39)
    assert (outcome.value["matches"], outcome.value["complete"]) == (39, False)


@ENGINES
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("file_link", "symlink_refused"),
        ("folder_link", "symlink_refused"),
        ("folder_link/secret.txt", "symlink_refused"),
        ("loop/src", "symlink_refused"),
        ("missing", "not_found"),
        ("src/missing/x", "not_found"),
        ("fifo", "not_regular"),
    ],
)
def test_search_does_not_begin_where_a_link_leads_or_nothing_is(find, path, code, tree):
    outcome = find(tree, pattern="needle", path=path)
    assert (outcome.ending, outcome.code, outcome.value) == (Ending.FAILED, code, {})


def test_search_neither_waits_nor_opens_when_there_are_sockets_and_pipes(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "sock"))
        assert own(tmp_path, pattern="x").code == "ok"


@pytest.mark.slow
def test_search_ends_by_the_wall_limit_when_a_pattern_would_take_for_ever(tmp_path):
    """And while it goes on, nothing else waits for it."""
    (tmp_path / "a.txt").write_text("needle aaa\n")
    (tmp_path / "b.txt").write_text("a" * 60 + "!\n")
    search = Search(pattern="(a|a)+$|needle")
    order = FileOrder(verb="search", workspace=str(tmp_path), path=".", search=search, limits=Limits(wall_ms=700))
    lane = FileLane(clock=RealClock())

    async def carried() -> tuple[Outcome, int]:
        beats = 0
        async with asyncio.TaskGroup() as group:
            task = group.create_task(lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))
            while not task.done():
                await asyncio.wait([task], timeout=0.02)
                beats += 1
        return task.result(), beats

    before = time.monotonic()
    outcome, beats = asyncio.run(carried())
    assert time.monotonic() - before < 5
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, "wall_limit", "wall_ms")
    assert lines_of(outcome) == [("a.txt", 1, "needle aaa")]
    assert outcome.value["complete"] is False
    assert beats > 10


@pytest.mark.slow
def test_search_is_killed_when_the_caller_gives_up(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 60 + "!\n")
    order = FileOrder(verb="search", workspace=str(tmp_path), path=".", search=Search(pattern="(a|a)+$"))
    lane = FileLane(clock=RealClock())

    async def cancelled() -> None:
        async with asyncio.timeout(0.5):
            await lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [one for one in listed.splitlines() if search_program.__file__ in one and str(os.getpid()) in one]


def test_search_says_so_when_its_room_is_full(tmp_path):
    (tmp_path / "a.txt").write_text(("x" * 400 + "\n") * 1_000)
    search = Search(pattern="x", limit=1_000)
    limits = Limits(output_bytes_max=50_000)
    order = FileOrder(verb="search", workspace=str(tmp_path), path="a.txt", search=search, limits=limits)
    lane = FileLane(clock=RealClock())
    outcome = asyncio.run(lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))
    assert (outcome.code, outcome.evidence.limit) == ("output_limit", "output_bytes_max")
    assert 0 < outcome.value["matches"] < 1_000


def test_search_says_so_when_its_program_breaks(tmp_path, monkeypatch):
    monkeypatch.setattr(
        verb, "_ARGV", (sys.executable, "-c", 'import sys; sys.stdin.read(); print(\'["a",1,"x",true]\')')
    )
    outcome = own(tmp_path, pattern="x")
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "search_failed")
    assert outcome.value["complete"] is False


def test_search_needs_no_more_memory_than_it_may_have(tmp_path):
    (tmp_path / "a.txt").write_text("x\n" * 7_000_000)
    limits = Limits(memory_bytes_max=100_000_000)
    search = Search(pattern="nothing|x$", limit=1_000)
    order = FileOrder(verb="search", workspace=str(tmp_path), path="a.txt", search=search, limits=limits)
    lane = FileLane(clock=RealClock())
    outcome = asyncio.run(lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))
    assert outcome.code == "search_failed"


def test_search_passes_by_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "SEARCHED_BYTES_MAX", 10)
    (tmp_path / "a.txt").write_text("needle, and more")
    (tmp_path / "b.txt").write_text("needle")
    assert lines_of(own(tmp_path, pattern="needle")) == [("b.txt", 1, "needle")]


@pytest.mark.parametrize(
    "pattern",
    ["", "x" * (PATTERN_CHARACTERS_MAX + 1), "a\nb", "(?=x)", "(?!x)", "(?<=x)y", "(?<!x)y", r"(a)\1", "(?P=n)",
     "(?>a)", "a*+", "a++", "a?+", "a{2}+", "a**", "a{1}{2}", "(", ")", "[", "[a", "[]", "[a[b]]", "[a&&b]", "[a--b]",
     "[a||b]", "*a", "a{3,2}", "[z-a]", "\\", "\\q", "\\A", "\\Z", "\\z", "\\1", "\\x1", "\\u12", "\\x0a", "\\p{L}",
     "\\n", "(?s)a", "a(?i)b", "(?P<n>a)(?P<n>b)", "[\\b]", "\0"],
)  # fmt: skip
def test_pattern_is_refused_when_the_engines_do_not_read_it_alike(pattern):
    with pytest.raises(Malformed) as refused:
        read_pattern(pattern)
    assert refused.value.code == "pattern_refused"


@pytest.mark.parametrize(
    "glob",
    ["!a", "/a", "a/", "a\\b", "[a", "[a/b]", "[[a]", "{a", "a}", "{a,{b}}", "x" * (GLOB_CHARACTERS_MAX + 1), "[z-a]"],
)
def test_glob_is_refused_when_it_is_none(glob):
    with pytest.raises(Malformed) as refused:
        glob_pattern(glob)
    assert refused.value.code == "glob_refused"


@given(st.text("*?[]{},/ab!^-.", max_size=12))
def test_glob_is_a_regular_expression_or_refused(glob):
    try:
        made = glob_pattern(glob)
    except Malformed:
        return
    re.compile(made)


def test_search_contract_differs_by_the_engine_only_where_it_matters():
    other = FilesSearch(ripgrep="rg")
    assert SEARCH.contract.floor is ConfinementClass.LOCAL_WEAK
    assert other.contract.floor is ConfinementClass.NAMESPACED
    assert SEARCH.contract.arguments == other.contract.arguments
    assert contract_digest(SEARCH.contract) != contract_digest(other.contract)
    assert SEARCH.judge({}, "ok", {}) is Judgement.UNCLEAR


def test_search_facts_and_order_carry_the_same_path():
    place, asked = Place(workspace="/srv/ws"), {"pattern": "x", "path": "a/../b", "glob": "src/*.py"}
    assert SEARCH.facts(asked, place) == Facts(path="b")
    order = SEARCH.plan(asked, place, Obligations(), "")
    assert isinstance(order, FileOrder)
    assert (order.path, order.search) == ("b", Search(pattern="x", glob="src/*.py"))
    process = FilesSearch(ripgrep="rg").plan(asked, place, Obligations(limits=Limits(output_bytes_max=1_000)), "")
    assert isinstance(process, ProcessOrder)
    assert process.argv[3:9] == ("rg", "b", "", "b", "/src/*.py", "900")
    assert (process.workspace_writable, process.hosts, process.cwd) == (False, (), ".")
    for wrong in ({"context": 11}, {"limit": 0}, {"limit": 1_001}, {"path": ".."}, {"pattern": "("}, {"glob": "["}):
        with pytest.raises(Malformed):
            SEARCH.plan(asked | wrong, place, Obligations(), "")


LINES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.booleans()), max_size=12)


@given(found=LINES, limit=st.integers(1, 4), context=st.integers(0, 2))
def test_assembled_holds_no_more_than_the_limit(found, limit, context):
    lines = [Line(path=path, line=line, text="t", match=match) for path, line, match in sorted(found)]
    value = assembled(lines, limit=limit, context=context)
    told = [line for one in value["found"] for line in one["lines"] if line["match"]]
    assert value["matches"] == len(told) <= limit
    assert value["complete"] == (sum(line.match for line in lines) <= limit)


@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(
                ['{"type":"summary"}', '{"type":"match","data":{}}', '{"type":"end","data":{"binary_offset":3}}', "[]",
                 "{}", '{"type":"match","data":{"path":{"bytes":"%%"},"lines":{"text":"x"},"line_number":1}}',
                 '{"type":"match","data":{"path":{"text":"p"},"lines":{"bytes":"/w=="},"line_number":1}}',
                 '{"type":"asked","data":{"limit":"1"}}', '{"type":"refused","data":"x"}', '{"type":"one"}'],
            ),
        ),
        max_size=8,
    ).map("\n".join)
)  # fmt: skip
def test_what_ripgrep_says_is_read_whatever_it_is(stdout):
    read_said(stdout)
    outcome = Outcome(ending=Ending.SUCCEEDED, code="ok", value={"stdout": stdout, "stderr": 7}, evidence=EVIDENCE)
    assert FilesSearch(ripgrep="rg").read(outcome).ending in {Ending.SUCCEEDED, Ending.FAILED}


def test_what_ripgrep_says_is_not_read_as_nothing_found_when_it_broke():
    for stdout in ("", None, {"artefact": "x"}, '{"type":"asked","data":{"limit":1,"context":0,"prefix":""}}'):
        value = {"stdout": stdout, "stderr": "regex parse error"}
        outcome = Outcome(ending=Ending.SUCCEEDED, code="ok", value=value, evidence=EVIDENCE)
        read = FilesSearch(ripgrep="rg").read(outcome)
        assert (read.ending, read.code, read.message) == (Ending.FAILED, "search_failed", "regex parse error")


def test_ripgrep_does_not_begin_when_the_folder_became_a_link_at_the_last_moment(tree):
    """The shell goes there by name; only the kernel's word about where it is counts."""
    shutil.rmtree(tree / "src")
    (tree / "src").symlink_to("../outside")
    assert ripgrep(tree, pattern="needle", path="src").code == "symlink_refused"
    assert ripgrep(tree, pattern="needle", path="src/secret.txt").code == "symlink_refused"
