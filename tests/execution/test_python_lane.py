"""The python lane from outside: what a call gives back, what it can reach, and what the next call finds."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.python import PythonLane
from assent.execution.attestations import NAMESPACED_NEEDS, ConfinementClass, Known
from assent.execution.orders import HttpOrder, Limits, PythonOrder
from assent.execution.outcomes import Ending
from assent.execution.steering import Signal
from assent.testing.conformance.lanes import LaneCase, LaneSuite
from assent.testing.steerings import HeldSteering
from tests.execution.python_world import QUICK, PythonWorld, children_of, python_world
from tests.execution.sites import pinned
from tests.execution.test_egress_sandbox import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> Iterator[PythonWorld]:
    with python_world() as made:
        yield made


# ------------------------------------------------------------------------------------------------------------ results


def test_last_expression_is_the_result_when_the_source_has_run(world):
    outcome = world.one("x = 20\nprint('counting')\nx * 2 + 2")
    assert (outcome.ending, outcome.code) == (Ending.SUCCEEDED, "ok")
    assert outcome.value["result"] == 42
    assert outcome.value["stdout"] == "counting\n"
    assert outcome.evidence.facts["program"] == "python"
    assert outcome.evidence.facts["death"] == {"proved_by": "pidfd"}


def test_source_without_a_last_expression_has_no_result(world):
    assert world.one("x = 1").value["result"] is None


def test_function_is_called_with_the_arguments_when_one_is_named(world):
    outcome = world.one("def area(w, h=2): return w * h\n", function="area", arguments='{"w": 21}')
    assert outcome.value["result"] == 42


def test_arguments_are_a_name_of_the_source_when_no_function_is_named(world):
    assert world.one("sum(arguments['numbers'])", arguments='{"numbers": [1, 2, 39]}').value["result"] == 42


def test_function_that_is_not_there_is_a_name_error(world):
    outcome = world.one("x = 1", function="nope")
    assert outcome.code == "exception"
    assert outcome.value["exception"]["type"] == "NameError"


def test_coroutine_is_awaited_when_it_is_the_result(world):
    assert (
        world.one("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 7\nf()").value["result"] == 7
    )


VALUES: dict[str, Any] = {
    "None": None,
    "[1, 'a', True, 1.5, (2, 3)]": [1, "a", True, 1.5, [2, 3]],
    "float('nan')": {"$float": "nan"},
    "float('-inf')": {"$float": "-inf"},
    "1e300": {"$float": "1e+300"},
    "2**53 - 1": 2**53 - 1,
    "2**53": {"$int": "9007199254740992"},
    "-2**70": {"$int": "-1180591620717411303424"},
    "10**6000": {"$int": "an integer of 19932 bits"},
    "b'\\x00\\xff'": {"$bytes": "AP8="},
    "'a\\udc80'": {"$text": "a\\udc80"},
    "'äöü €'": "äöü €",
    "{'a': {'b': []}}": {"a": {"b": []}},
    "{1: 'x'}": {"$map": [[1, "x"]]},
    "{'$int': 'forged'}": {"$map": [["$int", "forged"]]},
    "{3}": {"$set": [3]},
    "1+2j": {"$complex": [1, 2]},
    "__import__('datetime').datetime(2026, 1, 2, 3, 4, 5)": "2026-01-02T03:04:05",
    "__import__('datetime').timedelta(seconds=90)": {"$duration_s": 90},
    "__import__('decimal').Decimal('1.10')": "1.10",
    "__import__('pathlib').Path('/tmp/x')": "/tmp/x",
    "__import__('enum').Enum('Colour', {'RED': 'r'}).RED": "r",
    "__import__('collections').namedtuple('P', 'x y')(1, 2)": {"x": 1, "y": 2},
    "__import__('dataclasses').make_dataclass('D', ['x'])(5)": {"x": 5},
    "range(3)": [0, 1, 2],
    "object": {"$unserialisable": "type", "repr": "<class 'object'>"},
}


@pytest.fixture(scope="module")
def described(world: PythonWorld) -> object:
    return world.one("[" + ",\n".join(VALUES) + "]").value["result"]


@pytest.mark.parametrize(("place", "text"), list(enumerate(VALUES)), ids=list(VALUES))
def test_value_is_described_as_promised(described, place, text):
    assert described[place] == VALUES[text]


def test_marker_leaves_out_what_it_looks_like_when_that_is_not_wanted(world):
    assert world.one("object()", reprs=False).value["result"] == {"$unserialisable": "object"}


def test_value_whose_repr_fails_is_described_all_the_same(world):
    outcome = world.one("class Bad:\n    def __repr__(self): raise ValueError\nBad()")
    assert outcome.value["result"] == {"$unserialisable": "Bad", "repr": "(its `__repr__` fails)"}


def test_value_without_end_is_cut_where_it_is_too_deep(world):
    text = json.dumps(world.one("a = []\na.append(a)\na").value["result"])
    assert '{"$cut": "depth"}' in text


def test_large_result_goes_to_an_artefact(world):
    outcome = world.one("'x' * 3_000_000", limits=Limits(output_bytes_max=4_000_000))
    told = outcome.value["result"]
    assert outcome.code == "ok"
    assert told["bytes"] == 3_000_002
    kept = world.artefacts.path(told["artefact"]).read_bytes()
    assert kept == b'"' + b"x" * 3_000_000 + b'"'


# --------------------------------------------------------------------------------------------------------- exceptions


def test_exception_is_told_with_the_places_in_the_callers_code_alone(world):
    outcome = world.one("def inner():\n    return {}['missing']\n\ndef outer():\n    return inner()\n\nouter()")
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "exception")
    told = outcome.value["exception"]
    assert (told["type"], told["message"]) == ("KeyError", "'missing'")
    assert [(place["line"], place["function"]) for place in told["traceback"]] == [
        (7, "<module>"),
        (5, "outer"),
        (2, "inner"),
    ]
    assert told["traceback"][-1]["text"] == "return {}['missing']"
    assert outcome.message == "KeyError: 'missing'"


def test_cause_is_told_when_an_exception_has_one(world):
    told = world.one("try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('v') from e").value[
        "exception"
    ]
    assert (told["type"], told["cause"]["type"]) == ("ValueError", "ZeroDivisionError")


def test_syntax_error_names_its_line(world):
    told = world.one("x = 1\nif x\n").value["exception"]
    assert (told["type"], told["line"]) == ("SyntaxError", 2)


@pytest.mark.parametrize(("code", "ending", "word", "status"), [
    ("0", Ending.SUCCEEDED, "ok", 0), ("", Ending.SUCCEEDED, "ok", 0), ("4", Ending.FAILED, "exit_nonzero", 4),
    ("'because'", Ending.FAILED, "exit_nonzero", 1),
])  # fmt: skip
def test_exit_is_a_status_and_no_exception(world, code, ending, word, status):
    outcome = world.one(f"import sys\nsys.exit({code})")
    assert (outcome.ending, outcome.code, outcome.value["exit"]) == (ending, word, status)
    assert outcome.value["exception"] is None


# ---------------------------------------------------------------------------------------------------------- streaming


def test_items_of_a_generator_come_up_one_by_one_and_its_end_is_the_result(world):
    steering = HeldSteering()
    outcome = world.one(
        "def count(n):\n    for i in range(n):\n        yield {'i': i}\n    return 'done'\n",
        function="count",
        arguments='{"n": 3}',
        steering=steering,
    )
    assert [json.loads(event.data) for event in steering.heard if event.stream == "item"] == [
        {"i": 0},
        {"i": 1},
        {"i": 2},
    ]
    assert outcome.value["items"] == [{"i": 0}, {"i": 1}, {"i": 2}]
    assert outcome.value["result"] == "done"


def test_generator_waits_while_nobody_takes_its_items(world):
    async def body() -> None:
        steering = HeldSteering()
        source = (
            "def f():\n    for i in range(40):\n        open('made', 'w').write(str(i))\n        yield 'x' * 50_000\n"
        )

        def first_then_no_more(event: object) -> None:
            steering.hear(event)  # type: ignore[arg-type]
            steering.take_no_more()

        order = PythonOrder(
            source=source, function="f", workspace=str(world.workspace), limits=Limits(output_bytes_max=4_000_000)
        )
        work = asyncio.ensure_future(
            world.lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=first_then_no_more, steering=steering)
        )
        await steering.piece.wait()
        await asyncio.sleep(0.5)  # whatever it can make, it has made
        assert int(world.written("made")) < 39
        while not work.done():
            steering.give_room()
            await asyncio.sleep(0.001)
        assert (await work).code == "ok"
        assert len([event for event in steering.heard if event.stream == "item"]) == 40

    world.run(body())


def test_output_comes_up_while_the_code_still_runs(world):
    async def body() -> None:
        steering = HeldSteering()
        source = "import time\nprint('begun')\ntime.sleep(60)"
        work = asyncio.ensure_future(world.carry(source, steering=steering))
        await steering.piece.wait()
        assert steering.output == b"begun\n"
        assert not work.done()
        steering.say(Signal(name="INT"))
        outcome = await work
        assert outcome.value["exception"]["type"] == "KeyboardInterrupt"

    world.run(body())


# -------------------------------------------------------------------------------------------------------- confinement


def test_attestation_holds_every_property_of_a_program_and_says_what_warm_calls_share(world):
    properties = world.one("1").evidence.attestation.properties
    assert {name for name in NAMESPACED_NEEDS if properties[name].known is not Known.OBSERVED} == set()
    assert properties["own-layout"].known is Known.ABSENT
    assert "shared" in properties["own-layout"].value


def test_nothing_runs_when_the_floor_is_not_met(world):
    outcome = world.one("open('trace', 'w').close()", floor=ConfinementClass.MICROVM)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "confinement_unmet")
    assert not (world.workspace / "trace").exists()


def test_descriptors_inside_are_the_standard_ones_and_the_socket(world):
    found = world.one(
        "import os\n"
        "names = [os.readlink(f'/proc/self/fd/{n}') for n in range(300) if os.path.lexists(f'/proc/self/fd/{n}')]\n"
        "[name.split(':')[0] for name in names]"
    )
    assert found.value["result"] == ["/dev/null", "pipe", "pipe", "/proc/2/stat", "socket"]


def test_environment_is_the_base_and_the_orders_own(world):
    outcome = world.one("import os\nsorted(os.environ)", env={"MINE": "1"})
    assert outcome.value["result"] == ["HOME", "LANG", "MINE", "PATH", "TMPDIR"]


def test_hosts_of_the_order_are_reached_through_the_broker_and_no_others():
    server = Server("127.0.0.1")
    other = Server("127.0.0.1")
    source = (
        "import urllib.request, urllib.error\n"
        "def get(url):\n"
        "    try: return urllib.request.urlopen(url, timeout=10).read().decode()\n"
        "    except urllib.error.URLError as error: return type(error).__name__\n"
        "[get(url) for url in arguments['urls']]"
    )
    urls = [f"http://allowed.test:{server.port}/a", f"http://127.0.0.1:{other.port}/b"]
    try:
        with python_world(resolver=pinned(allowed_test=["127.0.0.1"])) as world:
            outcome = world.one(source, arguments=json.dumps({"urls": urls}), hosts=(*server.hosts,))
    finally:
        server.end()
        other.end()
    assert (outcome.code, outcome.value["result"]) == ("ok", ["hello\n", "HTTPError"])
    assert (server.asked, other.asked) == (["/a"], [])
    assert len(outcome.evidence.facts["egress"]["connections"]) == 2


def test_modules_come_from_the_workspace_last(world):
    (world.workspace / "own_module.py").write_text("value = 'own'")
    (world.workspace / "json.py").write_text("raise RuntimeError('shadowed')")
    try:
        assert world.one("import own_module, json\n(own_module.value, json.dumps(1))").value["result"] == ["own", "1"]
    finally:
        (world.workspace / "json.py").unlink()


def test_module_is_imported_inside_when_the_operator_does_not_preload_it(world):
    (world.workspace / "traced.py").write_text("import os\nopen(f'imported-by-{os.getpid()}', 'w').close()")
    outcome = world.one("import sys\n'traced' in sys.modules", preload=("traced",))
    assert outcome.value["result"] is True
    assert [path.name for path in world.workspace.glob("imported-by-*")] == ["imported-by-2"]  # in the jail


def test_module_is_warm_when_the_operator_preloads_it():
    with python_world(preloadable=["wave"]) as world:
        outcome = world.one("import sys\n'wave' in sys.modules", preload=("wave",))
        assert outcome.value["result"] is True
        assert world.one("import sys\n'wave' in sys.modules").value["result"] is False


MALFORMED: dict[str, dict[str, Any]] = {
    "no source": {"source": " "},
    "a NUL": {"source": "x = '\0'"},
    "half a character": {"source": "x = '\ud800'"},
    "more than a megabyte": {"source": "x" * 1_048_577},
    "arguments that are no JSON": {"arguments": "{"},
    "arguments that are a list": {"arguments": "[]"},
    "arguments deeper than allowed": {"arguments": '{"a":' * 65 + "1" + "}" * 65},
    "a function that is no name": {"function": "a.b"},
    "a module that is no name": {"preload": ("os; x",)},
    "a session that is no name": {"session": "../x"},
    "hosts for a session": {"hosts": ("example.org:443",), "session": "s"},
    "a restart of nothing": {"restart": True},
    "a negative limit": {"limits": Limits(memory_bytes_max=-1)},
    "an environment name with =": {"env": {"A=": "1"}},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_order_is_refused_whole_when_it_has(world, case):
    outcome = world.one(**{"source": "open('begun', 'w')", **MALFORMED[case]})
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "order_malformed")
    assert outcome.message
    assert not (world.workspace / "begun").exists()


# ------------------------------------------------------------------------------------------------------- fresh state


def test_call_sees_nothing_of_the_one_before(world):
    world.one("import builtins, sys\nleft = 1\nbuiltins.left = 1\nsys.modules['left'] = sys\nsys.path.append('/left')")
    outcome = world.one(
        "import builtins, sys\n"
        "('left' in globals(), hasattr(builtins, 'left'), 'left' in sys.modules, '/left' in sys.path)"
    )
    assert outcome.value["result"] == [False] * 4


def test_calls_draw_other_random_numbers_each(world):
    drawn = {world.one("import random\nrandom.random()").value["result"] for _ in range(4)}
    assert len(drawn) == 4


def test_exit_handlers_and_open_files_are_finished_when_a_call_ends(world):
    source = (
        "import atexit\natexit.register(lambda: open('at-exit', 'w').write('ran'))\n"
        "f = open('unflushed', 'w')\nf.write('kept')"
    )
    assert world.one(source).code == "ok"
    assert (world.written("at-exit"), world.written("unflushed")) == ("ran", "kept")


def test_threads_are_waited_for_when_a_call_ends(world):
    source = (
        "import threading, time\ndef late():\n    time.sleep(0.3)\n    open('late', 'w').write('done')\n"
        "threading.Thread(target=late).start()"
    )
    assert world.one(source).code == "ok"
    assert world.written("late") == "done"


def test_spare_serves_a_call_of_its_kind_and_only_for_the_same_folder():
    with python_world(spares_max=2) as world:
        assert world.one("import os\n0").code == "ok"
        assert world.run(world.lane.ready()) is None
        assert world.lane._spares is not None
        assert not world.lane._spares._building, "a call that is made once needs no spare"
        first = world.one("import os\n1")
        world.run(world.lane.ready())
        second = world.one("open('here', 'w').write('x')\n2")
        assert (first.code, second.code, second.value["result"]) == ("ok", "ok", 2)
        assert [one.evidence.facts["built_before"] for one in (first, second)] == [False, True]
        assert second.evidence.attestation.confinement is ConfinementClass.NAMESPACED
        world.run(world.lane.ready())
        world.workspace.rename(world.folder / "moved")
        world.workspace.mkdir()
        third = world.one("import os\nos.listdir('.')")
        assert third.value["result"] == []


def test_nothing_is_left_when_the_lane_is_closed():
    with python_world(spares_max=2) as world:
        world.one("1")
        world.one("1")
        world.one("1", session="s")
        world.run(world.lane.ready())
        zygotes = world.lane._zygotes.pids  # type: ignore[union-attr]
        assert zygotes
        below = [pid for one in zygotes for pid in children_of(one)]
        assert below
        world.run(world.lane.close())
        world.run(world.lane.close())

        assert [pid for pid in (*zygotes, *below) if pathlib.Path(f"/proc/{pid}").exists()] == []


# -------------------------------------------------------------------------------------------------------- conformance


class TestPythonLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def a_folder(self, world: PythonWorld) -> None:
        self.folder = world.workspace
        for path in self.folder.glob("deed-*"):
            path.unlink()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        lane = PythonLane(clock=SystemClock(), entropy=SystemEntropy(), spares_max=0)
        deed = "import os, time, uuid\nopen(f'deed-{uuid.uuid4()}', 'w').close()\n"

        def order(source: str) -> PythonOrder:
            return PythonOrder(source=deed + source, workspace=str(self.folder), limits=QUICK)

        def running() -> int:
            zygotes = lane._zygotes.pids if lane._zygotes is not None else []
            return sum(len(children_of(pid)) for pid in zygotes)

        flood = "for _ in range(40):\n    print('x' * 65_535)"
        yield LaneCase(
            lane=lane,
            good=order("1"),
            foreign=HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=()),
            malformed=PythonOrder(source=deed, workspace="relative"),
            deeds=lambda: len(list(self.folder.glob("deed-*"))),
            running=running,
            floor=ConfinementClass.NAMESPACED,
            endless=order("print('on', flush=True)\nwhile True: time.sleep(1)"),
            flood=PythonOrder(
                source=flood, workspace=str(self.folder), limits=Limits(wall_ms=60_000, output_bytes_max=8_000_000)
            ),
            flood_bytes=40 * 65_536,
        )
        await lane.close()
