"""What breaks inside a call of the python lane: it ends as what it was, and nothing is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from assent.execution.adapters.sandboxes import selftest
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Limits, PythonOrder
from assent.execution.outcomes import Ending
from tests.execution.python_world import QUICK, PythonWorld, children_of, python_world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> Iterator[PythonWorld]:
    with python_world() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left(world: PythonWorld) -> Iterator[None]:
    yield
    left = [pid for one in world.lane._zygotes.pids for pid in children_of(one)] if world.lane._zygotes else []
    assert left == [], "something of a call is still there"
    assert world.one("1 + 1").value["result"] == 2, "the lane does not serve any more"


async def made(path: Path) -> None:
    """Until the code in the sandbox has made `path`."""
    while not path.exists():  # noqa: ASYNC110, ASYNC240 (it happens in another process)
        await asyncio.sleep(0.01)


MANY_SMALL_BOMBS = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        x = bytearray(os.urandom(40_000_000))
        time.sleep(60)
time.sleep(60)
"""
LIMITED = {
    "an endless loop": ("while True: pass", Limits(wall_ms=700, grace_ms=300), "wall_limit"),
    "a loop that is not impressed": (
        "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass",
        Limits(wall_ms=700, grace_ms=300),
        "wall_limit",
    ),
    "sleep": ("import time\ntime.sleep(60)", Limits(wall_ms=500, grace_ms=300), "wall_limit"),
    "too much processor time": ("while True: pass", Limits(wall_ms=30_000, cpu_s_max=1), "cpu_limit"),
    "a memory bomb": ("x = bytearray(400_000_000)", Limits(memory_bytes_max=150_000_000), "memory_limit"),
    "a memory bomb of small things": (
        "x = []\nwhile True: x.append(bytearray(100_000))", Limits(memory_bytes_max=150_000_000), "memory_limit",
    ),
    "a memory bomb of many": (MANY_SMALL_BOMBS, Limits(memory_bytes_max=150_000_000), "memory_limit"),
    "a flood of output": ("while True: print('x' * 1000)", Limits(output_bytes_max=100_000), "output_limit"),
    "a flood of items": (
        "def f():\n    while True: yield 'x' * 1000\nf()", Limits(output_bytes_max=100_000), "output_limit",
    ),
    "a result of 100 MB": ("'x' * 100_000_000", QUICK, "output_limit"),
    "a result of 100 MB of bytes": ("bytes(100_000_000)", QUICK, "output_limit"),
    "a result of endless small things": ("[None] * 2_000_000", QUICK, "output_limit"),
    "a huge number": ("10 ** 10 ** 9", Limits(wall_ms=700, grace_ms=300, memory_bytes_max=200_000_000), None),
}  # fmt: skip


@pytest.mark.parametrize("case", LIMITED)
def test_limit_ends_a_call_and_is_named_when_it_is(world, case):
    source, limits, code = LIMITED[case]
    outcome = world.one(source, limits=limits)
    assert outcome.ending is Ending.FAILED
    assert outcome.code in ({code} if code else {"wall_limit", "memory_limit"})
    assert outcome.evidence.limit == outcome.code.removesuffix("_limit")


STACK_WITHOUT_END = """
import sys
sys.setrecursionlimit(10**7)
class A:
    def __repr__(self): return repr(self)
repr(A())
"""
ENDED = {
    "os._exit": ("import os\nos._exit(7)", "exit_nonzero", 7, None),
    "os._exit(0)": ("import os\nos._exit(0)", "result_missing", 0, None),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", "signalled", None, "SIGSEGV"),
    "an abort": ("import os\nos.abort()", "signalled", None, "SIGABRT"),
    "SIGKILL": ("import os\nos.kill(os.getpid(), 9)", "signalled", None, "SIGKILL"),
    "SIGTERM": ("import os\nos.kill(os.getpid(), 15)", "signalled", None, "SIGTERM"),
    "an exit handler that exits": ("import atexit, os\natexit.register(os._exit, 9)\n1", "exit_nonzero", 9, None),
    "exec": ("import os\nos.execv('/bin/false', ['false'])", "exit_nonzero", 1, None),
    "the loss of its socket": ("import os\nos.closerange(3, 200)\n1", "exit_nonzero", 70, None),
    "a stack without end": (STACK_WITHOUT_END, "signalled", None, "SIGSEGV"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDED)
def test_end_of_the_interpreter_is_told_as_it_was_when_it_is(world, case):
    source, code, status, by = ENDED[case]
    outcome = world.one(source)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, code)
    assert (outcome.value["exit"], outcome.value["signal"]) == (status, by)
    assert outcome.value["result"] is None


RAISES = {
    "a recursion": ("def f(n): return f(n + 1)\nf(0)", "RecursionError"),
    "no more descriptors": ("fs = []\nwhile True: fs.append(open('/dev/null'))", "OSError"),
    "no more threads": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "RuntimeError",
    ),
    "a file that is too large": ("open('big', 'wb').write(bytes(300_000_000))", "OSError"),
    "deleted builtins": (
        "import builtins\nfor name in [n for n in dir(builtins) if n != 'dir']: delattr(builtins, name)\nlen",
        "NameError",
    ),
    "a keyboard interrupt of its own": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "an exception whose text fails": ("class E(Exception):\n    def __str__(self): 1/0\nraise E", "E"),
    "a message without end": ("raise ValueError('x' * 10_000_000)", "ValueError"),
    "half a character": ("raise ValueError('\\ud800')", "ValueError"),
    "a source that is one deep expression": ("(" * 5_000 + ")" * 5_000, None),
}  # fmt: skip


@pytest.mark.parametrize("case", RAISES)
def test_exception_is_a_value_when_it_is(world, case):
    source, kind = RAISES[case]
    outcome = world.one(source, limits=Limits(wall_ms=30_000, open_files_max=64, file_bytes_max=10_000_000))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "exception")
    told = outcome.value["exception"]
    assert kind is None or told["type"] == kind
    assert len(told["message"]) <= 5_000
    assert len(told["traceback"]) <= 40


def test_fork_bomb_stops_at_the_limit_and_is_swept_up(world):
    source = (
        "import os, time\nmade = 0\n"
        "while True:\n    try:\n        if os.fork() == 0:\n            time.sleep(60)\n        made += 1\n"
        "    except OSError:\n        break\nmade"
    )
    outcome = world.one(source, limits=Limits(wall_ms=30_000, processes_max=16))
    assert outcome.code == "ok"
    assert 8 <= outcome.value["result"] <= 16


def test_fork_bomb_without_end_is_ended_by_its_time(world):
    outcome = world.one("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", limits=Limits(
        wall_ms=1_500, grace_ms=200, processes_max=16, cpu_s_max=20))  # fmt: skip
    assert outcome.code in ("wall_limit", "cpu_limit")


def test_fork_of_the_caller_gives_no_second_result(world):
    outcome = world.one("import os\nchild = os.fork()\nif child: os.waitpid(child, 0)\n'parent' if child else 'child'")
    assert (outcome.code, outcome.value["result"]) == ("ok", "parent")


def test_daemon_that_left_its_session_ends_with_the_call(world):
    source = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    if os.fork() == 0:\n        time.sleep(600)\n    os._exit(0)\nos.wait()\n'left'"
    )
    outcome = world.one(source)
    assert (outcome.code, outcome.value["result"]) == ("ok", "left")
    assert outcome.evidence.facts["death"]["proved_by"] == "pidfd"


def test_tracing_and_small_limits_of_the_caller_do_not_reach_the_result(world):
    source = (
        "import sys, threading\n"
        "def trace(*_): sys.stderr.write('.')\n"
        "sys.settrace(trace)\nsys.setprofile(trace)\nthreading.settrace(trace)\n"
        "sys.setrecursionlimit(20)\n[[[[1]]]]"
    )
    assert world.one(source).value["result"] == [[[[1]]]]


def test_streams_that_were_exchanged_or_closed_are_there_again_in_the_next_call(world):
    world.one("import sys, io\nsys.stdout = io.StringIO()\nprint('lost')\nsys.settrace(None)", session="bent")
    assert world.one("print('found')", session="bent").value["stdout"] == "found\n"
    world.one("import builtins\ndel builtins.print, builtins.len", session="bent")
    assert world.one("print(len('four'))", session="bent").value["stdout"] == "4\n"
    world.run(world.lane._sessions.close())


def test_source_of_a_megabyte_runs(world):
    assert world.one("x = 1\n" * 170_000 + "x").value["result"] == 1


def test_cancelled_call_leaves_nothing(world):
    async def body() -> None:
        work = asyncio.ensure_future(
            world.carry("import subprocess\nopen('began', 'w').close()\nsubprocess.run(['sleep', '600'])")
        )
        await made(world.workspace / "began")
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    world.run(body())


def test_call_that_is_cancelled_twice_is_killed_at_once(world):
    async def body() -> None:
        loop = "while True:\n    try: time.sleep(60)\n    except BaseException: pass"
        source = f"open('stubborn', 'w').close()\nimport time\n{loop}"
        work = asyncio.ensure_future(world.carry(source, limits=Limits(wall_ms=60_000, grace_ms=60_000)))
        await made(world.workspace / "stubborn")
        work.cancel()
        await asyncio.sleep(0.2)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(work, 20)

    world.run(body())


def test_call_is_unknown_when_the_zygote_is_killed_under_it_and_the_next_has_another():
    with python_world() as world:

        async def body() -> str:
            work = asyncio.ensure_future(world.carry("open('began', 'w').close()\nimport time\ntime.sleep(60)"))
            await made(world.workspace / "began")
            for pid in world.lane._zygotes.pids:  # type: ignore[union-attr]
                os.kill(pid, signal.SIGKILL)
            outcome = await work
            assert outcome.ending is Ending.UNKNOWN
            return outcome.code

        assert world.run(body()) == "spawner_lost"
        assert world.one("1").code == "ok"


def test_attacks_of_the_self_test_fail_in_an_interpreter_as_in_a_program(world):
    """The very attacks that judge the node's sandboxes, run as source in a warm interpreter."""
    scene = selftest._Scene(world.workspace.stat().st_uid or 65_534)
    try:
        shutil.copy(Path(selftest.__file__).parent / "attacks.py", scene.workspace / "attack_program.py")
        order = PythonOrder(
            source="import runpy, sys\nsys.argv = ['', arguments['target']]\n"
            "runpy.run_path('attack_program.py', run_name='__main__')",
            arguments=json.dumps({"target": json.dumps(scene.target)}),
            workspace=str(scene.workspace),
            limits=selftest.LIMITS,
        )
        outcome = world.run(world.lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))
        probes = selftest._compared(outcome, scene.witness())
    finally:
        scene.clear()
    assert [probe for probe in probes if not probe.held] == []
    assert len(probes) >= 20
