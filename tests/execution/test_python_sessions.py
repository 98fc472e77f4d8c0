"""Sessions of the python lane: state that stays, ends that are told, and a worker that is never taken for another."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assent.execution.adapters.python import SessionRules
from assent.execution.adapters.sandboxes.workers import Condition
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Limits, PythonOrder
from assent.execution.outcomes import Ending, Outcome
from tests.execution.python_world import QUICK, PythonWorld, children_of, python_world

pytestmark = pytest.mark.slow
SHORT = Limits(wall_ms=700, grace_ms=2_000)


@pytest.fixture(scope="module")
def world() -> Iterator[PythonWorld]:
    with python_world(rules=SessionRules(sessions_max=64)) as made:
        yield made


async def until(condition: Callable[[], bool], patience_s: float = 30) -> None:
    """Poll a real condition until it holds."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 (what is waited for happens in another process)
            await asyncio.sleep(0.01)


def condition_of(world: PythonWorld, name: str) -> Condition | None:
    return next((one.condition for one in world.lane.sessions() if one.name == name), None)


def test_session_keeps_names_imports_and_open_files_and_says_which_call_it_was(world):
    first = world.one("import math\ncount = 1\nfile = open('log', 'w')", session="keeps")
    second = world.one("count += 1\nfile.write('x')\nfile.flush()\n(count, math.floor(2.5))", session="keeps")
    assert (first.value["session"]["call"], second.value["session"]["call"]) == (1, 2)
    assert second.value["result"] == [2, 2]
    assert world.written("log") == "x"


def test_function_of_an_earlier_call_can_be_called(world):
    world.one("def double(x): return 2 * x", session="calls")
    assert world.one("", function="double", arguments='{"x": 21}', session="calls").value["result"] == 42


def test_dataclass_of_an_earlier_call_is_found_by_its_module(world):
    world.one("import dataclasses, pickle\n@dataclasses.dataclass\nclass P:\n    x: int", session="classes")
    outcome = world.one("pickle.loads(pickle.dumps(P(3)))", session="classes")
    assert outcome.value["result"] == {"x": 3}


def test_sessions_see_nothing_of_each_other_when_they_run_at_once(world):
    async def body() -> list[Outcome]:
        source = (
            "import os\nif 'mine' not in globals(): mine = []\nmine.append({})\n"
            "(mine, [n for n in ('one', 'two') if os.path.exists(f'/tmp/{{n}}')])"
        )
        sources = [source.format(repr(name)) for name in ("a", "b")]
        for text, name in zip(sources, ("one", "two"), strict=True):
            await world.carry(f"open('/tmp/{name}', 'w').close()\n{text}", session=name)
        return list(
            await asyncio.gather(*(world.carry(t, session=n) for t, n in zip(sources, ("one", "two"), strict=True)))
        )

    one, two = world.run(body())
    assert one.value["result"] == [["a", "a"], ["one"]]
    assert two.value["result"] == [["b", "b"], ["two"]]


def test_workspace_is_part_of_a_sessions_name(world):
    other = world.folder / "other"
    other.mkdir()
    world.one("secret = 1", session="same")
    order = PythonOrder(source="'secret' in globals()", workspace=str(other), session="same", limits=QUICK)
    outcome = world.run(world.lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))
    assert outcome.value["result"] is False


# ---------------------------------------------------------------------------------------------------- taking turns


def test_second_call_waits_until_the_first_has_ended(world):
    async def body() -> list[Outcome]:
        await world.carry("import time\norder = []", session="turns")
        slow = "order.append('a')\ntime.sleep(0.5)\norder.append('b')"
        first = asyncio.ensure_future(world.carry(slow, session="turns"))
        await until(lambda: condition_of(world, "turns") is Condition.BUSY)
        return [await world.carry("order", session="turns"), await first]

    second, first = world.run(body())
    assert first.code == "ok"
    assert second.value["result"] == ["a", "b"]


def test_call_is_refused_when_too_many_wait_and_when_its_time_is_over():
    with python_world(rules=SessionRules(waiting_max=1)) as world:

        async def body() -> list[Outcome]:
            await world.carry("import time", session="s")
            first = asyncio.ensure_future(world.carry("time.sleep(3)", session="s"))
            await until(lambda: condition_of(world, "s") is Condition.BUSY)
            waiting = asyncio.ensure_future(world.carry("1", session="s", limits=Limits(wall_ms=300)))
            await until(lambda: world.lane.sessions()[0].waiting == 1)
            refused = await world.carry("1", session="s")
            return [refused, await waiting, await first]

        refused, late, first = world.run(body())
        assert (refused.ending, refused.code) == (Ending.FAILED, "session_busy")
        assert (late.ending, late.code, late.evidence.limit) == (Ending.FAILED, "wall_limit", "wall")
        assert first.code == "ok"


def test_session_is_refused_when_there_are_too_many():
    with python_world(rules=SessionRules(sessions_max=1)) as world:
        assert world.one("1", session="one").code == "ok"
        assert world.one("1", session="two").code == "session_limit"
        assert world.one("1", session="one").code == "ok"


def test_session_is_refused_when_a_call_allows_less_than_it_was_started_with(world):
    world.one("1", session="limits")
    tighter = world.one("1", session="limits", limits=Limits(memory_bytes_max=200_000_000))
    other = world.one("1", session="limits", env={"A": "1"})
    closed = world.one("1", session="limits", workspace_writable=False)
    assert {tighter.code, other.code, closed.code} == {"session_mismatch"}
    assert world.one("2", session="limits").value["result"] == 2


# ------------------------------------------------------------------------------------------------------ being lost

ENDS = {
    "exits": ("import os\nos._exit(3)", "exit_nonzero"),
    "exits well": ("import os\nos._exit(0)", "result_missing"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "signalled"),
    "kills itself": ("import os\nos.kill(os.getpid(), 9)", "signalled"),
}


@pytest.mark.parametrize("how", ENDS)
def test_session_is_lost_and_stays_lost_until_it_is_restarted_when_its_worker(world, how):
    source, code = ENDS[how]
    name = how.replace(" ", "-")
    world.one("state = 1", session=name)
    ended = world.one(source, session=name)
    assert (ended.ending, ended.code) == (Ending.FAILED, code)
    assert ended.value["session"]["ended"] == "crashed"
    for _ in range(2):
        told = world.one("'state' in globals()", session=name)
        assert (told.ending, told.code) == (Ending.FAILED, "session_lost")
        assert "crashed" in told.message
    again = world.one("'state' in globals()", session=name, restart=True)
    assert (again.code, again.value["result"], again.value["session"]["call"]) == ("ok", False, 1)


def test_session_is_lost_when_its_worker_dies_between_two_calls(world):
    world.one("1", session="idle-death")
    pid = int(world.one("1", session="idle-death").evidence.facts["pid"])
    os.kill(pid, signal.SIGKILL)
    world.run(until(lambda: condition_of(world, "idle-death") is None))
    assert world.one("1", session="idle-death").code == "session_lost"


def test_restart_ends_what_runs_and_begins_anew(world):
    first = world.one("state = 1", session="restarts")
    second = world.one("'state' in globals()", session="restarts", restart=True)
    assert (second.value["result"], second.value["session"]["call"]) == (False, 1)
    assert second.evidence.facts["pid"] != first.evidence.facts["pid"]
    assert not Path(f"/proc/{first.evidence.facts['pid']}").exists()


def test_session_ends_when_it_has_idled_and_says_so():
    with python_world(rules=SessionRules(idle_ms=200)) as world:
        pid = world.one("1", session="s").evidence.facts["pid"]
        world.run(until(lambda: not Path(f"/proc/{pid}").exists() and not world.lane.sessions()))
        told = world.one("1", session="s")
        assert told.code == "session_lost"
        assert "idle" in told.message


def test_session_ends_when_it_has_had_its_calls_and_says_so():
    with python_world(rules=SessionRules(calls_max=2)) as world:
        assert world.one("1", session="s").value["session"]["ended"] == ""
        last = world.one("2", session="s")
        assert (last.code, last.value["result"], last.value["session"]["ended"]) == ("ok", 2, "calls")
        assert world.one("3", session="s").code == "session_lost"


def test_session_ends_when_it_holds_too_much_memory_and_says_so(world):
    small = Limits(memory_bytes_max=150_000_000)
    world.one("held = []", session="grows", limits=small)
    outcome = world.one("held.append(bytearray(120_000_000))", session="grows", limits=small)
    for _ in range(8):
        if outcome.value["session"]["ended"]:
            break
        assert outcome.code == "ok"
        outcome = world.one("1", session="grows", limits=small)
    assert outcome.value["session"]["ended"] == "memory"
    assert world.one("1", session="grows", limits=small).code == "session_lost"


def test_every_session_is_lost_when_the_zygote_is_killed():
    with python_world() as world:
        world.one("1", session="a")
        world.one("1", session="b")
        for pid in world.lane._zygotes.pids:  # type: ignore[union-attr]
            os.kill(pid, signal.SIGKILL)
        world.run(until(lambda: not world.lane.sessions()))
        assert world.one("1", session="a").code == "session_lost"
        assert world.one("1", session="b").code == "session_lost"
        assert world.one("1", session="a", restart=True).code == "ok"
        assert world.one("1").code == "ok"


# ----------------------------------------------------------------------------------------------- stopping and looking


def test_session_lives_on_when_a_call_that_was_too_long_obeys(world):
    world.one("import time\nstate = 1", session="obeys")
    stopped = world.one("time.sleep(60)", session="obeys", limits=SHORT)
    assert (stopped.ending, stopped.code, stopped.evidence.limit) == (Ending.FAILED, "wall_limit", "wall")
    assert stopped.value["exception"]["type"] == "KeyboardInterrupt"
    assert stopped.value["session"]["ended"] == ""
    assert world.one("state", session="obeys").value["result"] == 1


def test_session_is_lost_when_a_call_that_was_too_long_does_not_obey(world):
    world.one("import time", session="stubborn")
    source = "while True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass"
    stopped = world.one(source, session="stubborn", limits=Limits(wall_ms=500, grace_ms=200))
    assert (stopped.code, stopped.value["session"]["ended"]) == ("wall_limit", "wall")
    assert world.one("1", session="stubborn").code == "session_lost"


def test_session_is_lost_when_a_stopped_call_leaves_a_thread_running(world):
    source = (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\ntime.sleep(60)"
    )
    stopped = world.one(source, session="threads", limits=SHORT)
    assert (stopped.code, stopped.value["session"]["ended"]) == ("wall_limit", "wall")
    assert world.one("1", session="threads").code == "session_lost"


def test_threads_that_are_left_running_are_counted_and_their_output_belongs_to_no_call(world):
    source = (
        "import threading, time\ndef late():\n    time.sleep(0.2)\n    print('late', flush=True)\n"
        "    open('was-late', 'w').close()\n    time.sleep(60)\nthreading.Thread(target=late, daemon=True).start()"
    )
    first = world.one(source, session="late")
    assert first.value["session"]["threads"] == 1
    world.run(until((world.workspace / "was-late").exists))
    second = world.one("print('own')", session="late")
    assert second.value["stdout"] == "own\n"
    assert second.evidence.facts["stray_bytes"] == 5


@pytest.mark.parametrize("stubborn", [False, True])
def test_cancelled_call_leaves_a_session_that_is_idle_or_none(world, stubborn):
    name = f"cancelled-{stubborn}"

    async def body() -> None:
        await world.carry("import time\nstate = 1", session=name)
        loop = "while True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass"
        work = asyncio.ensure_future(world.carry(loop if stubborn else "time.sleep(60)", session=name))
        await until(lambda: condition_of(world, name) is Condition.BUSY)
        await asyncio.sleep(0.3)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert condition_of(world, name) is (None if stubborn else Condition.IDLE)

    world.run(body())
    after = world.one("state", session=name)
    assert after.code == ("session_lost" if stubborn else "ok")


def test_worker_in_a_long_foreign_call_is_unresponsive_and_not_dead():
    with python_world(rules=SessionRules(unresponsive_ms=600)) as world:

        async def body() -> Outcome:
            await world.carry("import ctypes\nsleep = ctypes.PyDLL(None).usleep", session="s")
            # PyDLL keeps the interpreter lock: for three seconds nothing of Python runs in there.
            work = asyncio.ensure_future(world.carry("sleep(3_000_000)\n'awake'", session="s"))
            await until(lambda: condition_of(world, "s") is Condition.UNRESPONSIVE)
            return await work

        outcome = world.run(body())
        assert (outcome.code, outcome.value["result"]) == ("ok", "awake")
        assert outcome.evidence.facts["unresponsive_ms"] >= 1_000


def test_busy_worker_is_busy_and_a_stopped_one_is_stopped(world):
    async def body() -> None:
        await world.carry("import os, signal", session="looks")
        work = asyncio.ensure_future(
            world.carry("while True: pass", session="looks", limits=Limits(wall_ms=2_000, grace_ms=300))
        )
        await until(lambda: condition_of(world, "looks") is Condition.BUSY)
        assert (await work).code == "wall_limit"
        stopping = asyncio.ensure_future(
            world.carry("os.kill(os.getpid(), signal.SIGSTOP)", session="looks", limits=Limits(wall_ms=3_000))
        )
        await until(lambda: condition_of(world, "looks") is Condition.STOPPED)
        assert (await stopping).code == "wall_limit"

    world.run(body())


def test_processor_time_is_each_calls_own(world):
    limits = Limits(wall_ms=30_000, cpu_s_max=1)
    burn = "import time\nend = time.process_time() + 0.7\nwhile time.process_time() < end: pass"
    for _ in range(2):  # together more than one call may have
        assert world.one(burn, session="cpu", limits=limits).code == "ok"
    outcome = world.one("while True: pass", session="cpu", limits=limits)
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, "cpu_limit", "cpu")
    assert world.one("1", session="cpu", limits=limits).code == "session_lost"


# -------------------------------------------------------------------------------------------------------- forgeries

# Finds the socket that a worker answers on, and writes a frame of its own there.
FORGE = """
import os, json, struct
def forge(kind, nonce, payload):
    for fd in range(3, 64):
        try:
            if os.readlink(f'/proc/self/fd/{fd}').startswith('socket:'):
                os.write(fd, struct.pack('>I16sc', len(payload), nonce, kind) + payload)
        except OSError:
            pass
head = json.dumps({'items': 0, 'tasks': 0}).encode()
end = str(len(head)).encode() + b':' + head
"""


def test_result_forged_without_the_nonce_is_not_believed(world):
    outcome = world.one(FORGE + "forge(b'e', bytes(16), end + b'\"forged\"')\n'real'", session="forges")
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "protocol_broken")
    assert outcome.value["result"] is None
    assert world.one("1", session="forges").code == "session_lost"


def test_result_forged_in_advance_is_not_taken_for_the_next_calls(world):
    source = (
        FORGE + "import threading, time\n"
        "def later():\n    time.sleep(0.3)\n    forge(b'e', b'0123456789abcdef', end + b'\"forged\"')\n"
        "    open('forged', 'w').close()\n"
        "threading.Thread(target=later, daemon=True).start()"
    )
    assert world.one(source, session="plants").code == "ok"
    world.run(until((world.workspace / "forged").exists))
    outcome = world.one("'real'", session="plants")
    assert outcome.code == "protocol_broken"
    assert world.one("1", session="plants").code == "session_lost"


def test_forger_that_knows_the_nonce_reaches_its_own_call_alone(world):
    """The nonce of a call lies in the memory of the code that is called: it can speak for itself, and nobody else."""
    steal = (
        "import gc\n"
        "calls = [o for o in gc.get_objects() if type(o).__name__ == 'Frame' and getattr(o, 'kind', b'') == b'C']\n"
        "nonce = calls[0].nonce\n"
    )

    async def body() -> tuple[Outcome, Outcome]:
        await world.carry("import time", session="bystander")
        bystander = asyncio.ensure_future(world.carry("time.sleep(1)\n'own'", session="bystander"))
        forged = await world.carry(FORGE + steal + "forge(b'e', nonce, end + b'\"forged\"')\n'real'", session="thief")
        return forged, await bystander

    forged, bystander = world.run(body())
    assert forged.code in ("ok", "protocol_broken", "exception")
    assert bystander.value["result"] == "own"


@pytest.mark.parametrize(
    "frame", ["struct.pack('>I', 2**31)", "b'\\xff' * 4096", "struct.pack('>I16sc', 3, bytes(16), b'z') + b'abc'"]
)
def test_garbage_on_the_socket_ends_the_session_and_nothing_else(world, frame):
    source = (
        "import os, struct\nfor fd in range(3, 64):\n"
        "    try:\n"
        f"        if os.readlink(f'/proc/self/fd/{{fd}}').startswith('socket:'): os.write(fd, {frame})\n"
        "    except OSError: pass\n'real'"
    )
    name = f"garbage-{abs(hash(frame))}"
    assert world.one(source, session=name).code == "protocol_broken"
    assert world.one("1", session=name).code == "session_lost"
    assert world.one("1").code == "ok"


def test_worker_that_has_lost_its_socket_is_ended(world):
    outcome = world.one("import os\nos.closerange(3, 200)\n'unheard'", session="closes")
    assert outcome.ending is Ending.FAILED
    assert outcome.code in ("exit_nonzero", "protocol_broken", "signalled")
    assert world.one("1", session="closes").code == "session_lost"


def test_protocol_that_was_replaced_inside_fools_nobody(world):
    source = (
        "import sys\n"
        "frame = sys._getframe()\n"
        "while 'nonce' not in frame.f_locals: frame = frame.f_back\n"
        "worker = type(frame.f_locals['self'])\n"
        "worker._send = lambda self, kind, nonce, payload: self._channel.sendall(b'\\0' * 21)\n"
        "'real'"
    )
    assert world.one(source, session="patched").code == "protocol_broken"
    assert world.one("1", session="patched").code == "session_lost"


def test_nothing_of_a_session_is_left_when_the_lane_is_closed(world):
    with python_world() as other:
        other.one("import subprocess\nsubprocess.Popen(['sleep', '600'])", session="s")
        pids = [pid for one in other.lane._zygotes.pids for pid in children_of(one)]  # type: ignore[union-attr]
        assert len(pids) >= 3
        other.run(other.lane.close())
        assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
