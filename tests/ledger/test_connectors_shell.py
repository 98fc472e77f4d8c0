from __future__ import annotations

import posixpath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations, breach
from assent.execution.orders import Limits, ProcessOrder
from assent.ledger.connectors import programs, shell
from assent.ledger.contracts import EffectClass, Idempotency
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.errors import Malformed

PLACE = Place(workspace="/srv/ws")
LIMITS = Limits(wall_ms=10_000, memory_bytes_max=5)
OBLIGATIONS = Obligations(limits=LIMITS)


def plan(arguments: dict[str, Any]) -> ProcessOrder:
    return shell.RUN.plan(arguments, PLACE, OBLIGATIONS, "some-key")


def test_shell_contract_leaves_confinement_to_policy_when_read():
    contract = shell.RUN.contract
    assert (contract.effect, contract.idempotency) == (EffectClass.WRITE, Idempotency.NONE)
    assert (contract.floor, contract.hosts, contract.observer) == (ConfinementClass.LOCAL_WEAK, "", "")
    assert {a.name: a.required for a in contract.arguments} == {
        "argv": True,
        "cwd": False,
        "stdin": False,
        "stdin_open": False,
        "env": False,
        "target": False,
        "wall_s": False,
    }
    assert {a.name for a in contract.arguments if a.authority} == {"argv", "cwd", "env", "target"}


@pytest.mark.parametrize(
    ("written", "cwd", "program"),
    [
        ("git", ".", "git"),
        ("/usr/bin/git", ".", "git"),
        ("/bin/../usr//bin/git", ".", "git"),
        ("../../usr/bin/git", ".", "git"),
        ("./git", ".", "/srv/ws/git"),
        ("./git", "sub", "/srv/ws/sub/git"),
        ("bin/git", "/srv/ws/sub", "/srv/ws/sub/bin/git"),
        ("/srv/ws/git", ".", "/srv/ws/git"),
        ("/proc/self/cwd/git", ".", "/proc/self/cwd/git"),
        ("/tmp/git", ".", "/tmp/git"),
        ("/usr/bin/x/git", ".", "/usr/bin/x/git"),
        ("//usr/bin/git", ".", "git"),
        ("git log", ".", "git log"),
    ],
)
def test_shell_facts_give_a_base_name_only_when_the_system_owns_the_program(written, cwd, program):
    arguments = {"argv": [written, "x"], "cwd": cwd}
    assert shell.RUN.facts(arguments, PLACE).program == program
    carried = plan(arguments).argv
    assert carried[1:] == ("x",)
    assert carried[0] == program or posixpath.split(carried[0]) == (posixpath.dirname(carried[0]), program)
    assert "/" not in carried[0] or carried[0] == posixpath.normpath(carried[0])


def test_shell_facts_take_the_folder_and_the_input_when_given():
    facts = shell.RUN.facts({"argv": ["cat"], "cwd": "a/../b", "stdin": "é"}, PLACE)
    assert facts == Facts(path="b", program="cat", payload_bytes=2)


@pytest.mark.parametrize("cwd", ["..", "/", "/etc", "a/../.."])
def test_shell_refuses_to_plan_when_it_would_run_outside_the_workspace(cwd):
    arguments = {"argv": ["ls"], "cwd": cwd}
    assert shell.RUN.facts(arguments, PLACE) == Facts(path=cwd, inside_workspace=False, program="ls")
    with pytest.raises(Malformed) as refused:
        plan(arguments)
    assert refused.value.code == "outside_workspace"


def test_shell_plan_is_the_exact_order_when_everything_is_given():
    arguments = {
        "argv": ["printf", "%s\n", "$HOME; rm -rf *", ""],
        "cwd": "./a/",
        "stdin": "é\n",
        "env": {"LC_ALL": "C", "_x": ""},
        "wall_s": 3,
    }
    assert plan(arguments) == ProcessOrder(
        argv=("printf", "%s\n", "$HOME; rm -rf *", ""),
        workspace="/srv/ws",
        cwd="a",
        stdin=b"\xc3\xa9\n",
        env={"LC_ALL": "C", "_x": ""},
        limits=Limits(wall_ms=3_000, memory_bytes_max=5),
    )


def test_shell_plan_takes_the_obligations_when_only_argv_is_given():
    assert plan({"argv": ["true"]}) == ProcessOrder(argv=("true",), workspace="/srv/ws", limits=LIMITS)


@pytest.mark.parametrize(
    ("wall_s", "wall_ms"), [(1, 1_000), (9, 9_000), (10, 10_000), (11, 10_000), (2**53 - 1, 10_000)]
)
def test_shell_plan_only_tightens_when_a_time_is_given(wall_s, wall_ms):
    order = plan({"argv": ["true"], "wall_s": wall_s})
    assert order.limits == Limits(wall_ms=wall_ms, memory_bytes_max=5)
    assert breach(order, OBLIGATIONS) == ""


@pytest.mark.parametrize("wall_s", [0, -1])
def test_shell_plan_refuses_when_no_time_is_left(wall_s):
    with pytest.raises(Malformed) as refused:
        plan({"argv": ["true"], "wall_s": wall_s})
    assert refused.value.code == "wall_malformed"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"argv": []}, "argv_malformed"),
        ({"argv": ["a", "b\0c"]}, "argv_malformed"),
        ({"argv": ["a"] * (programs.ARGV_MAX + 1)}, "argv_malformed"),
        ({"argv": ["a", *["x" * 65_536] * 16]}, "argv_malformed"),
        ({"argv": [""]}, "path_malformed"),
        ({"argv": ["a\nb"]}, "path_malformed"),
        ({"argv": ["/"]}, "program_malformed"),
        ({"argv": ["bin/"]}, "program_malformed"),
        ({"argv": ["."]}, "program_malformed"),
        ({"argv": ["bin/.."]}, "program_malformed"),
        ({"argv": ["a"], "cwd": ""}, "path_malformed"),
        ({"argv": ["a"], "env": {"PATH": "/srv/ws"}}, "env_malformed"),
        ({"argv": ["a"], "env": {"LD_PRELOAD": "/srv/ws/x.so"}}, "env_malformed"),
        ({"argv": ["a"], "env": {"A=B": "x"}}, "env_malformed"),
        ({"argv": ["a"], "env": {"A\n": "x"}}, "env_malformed"),
        ({"argv": ["a"], "env": {"": "x"}}, "env_malformed"),
        ({"argv": ["a"], "env": {"1A": "x"}}, "env_malformed"),
        ({"argv": ["a"], "env": {"A": "x\0"}}, "env_malformed"),
        ({"argv": ["a"], "env": {f"A{n}": "" for n in range(programs.ENV_MAX + 1)}}, "env_malformed"),
        ({"argv": "rm -rf /"}, "arguments_invalid"),
        ({"argv": ["a", 1]}, "arguments_invalid"),
        ({"argv": ["a"], "wall_s": True}, "arguments_invalid"),
        ({"argv": ["a"], "stdin": "x" * (programs.STDIN_BYTES_MAX + 1)}, "arguments_invalid"),
        ({"command": "ls"}, "arguments_invalid"),
    ],
)
def test_shell_refuses_before_policy_when_no_program_could_be_given_this(arguments, code):
    for call in (lambda: shell.RUN.facts(arguments, PLACE), lambda: plan(arguments)):
        with pytest.raises(Malformed) as refused:
            call()
        assert refused.value.code == code
        assert refused.value.message.isprintable()


@settings(max_examples=150)
@given(
    argv=st.lists(st.text(alphabet="./ab -\0\n\u202e\ud800", max_size=8), max_size=3),
    cwd=st.text(alphabet="./ab\0é", max_size=8),
    env=st.dictionaries(st.text(alphabet="AP=\0_", max_size=3), st.text(max_size=3), max_size=2),
)
def test_shell_plan_runs_what_policy_judged_when_facts_could_be_computed(argv, cwd, env):
    arguments = {"argv": argv, "cwd": cwd, "env": env}
    try:
        facts = shell.RUN.facts(arguments, PLACE)
    except Malformed:
        return
    if not facts.inside_workspace:
        with pytest.raises(Malformed):
            plan(arguments)
        return
    order = plan(arguments)
    assert order.cwd == facts.path
    assert facts.program in {order.argv[0], posixpath.basename(order.argv[0])}
    assert "/" in facts.program or not order.argv[0].startswith("/srv/ws")
    assert order.argv[1:] == tuple(argv[1:])


def test_shell_leaves_an_unknown_outcome_to_people_when_it_is_asked():
    assert shell.RUN.observation({"argv": ["true"]}) is None
    assert shell.RUN.judge({"argv": ["true"]}, "ok", {"exists": True}) is Judgement.UNCLEAR
