"""The wasm lane from outside: what a module is granted, what ends it, and what is said of where it ran."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import wasmtime

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.wasm import WasmLane
from assent.execution.adapters.wasm.lane import ENGINE_BYTES
from assent.execution.attestations import NAMESPACED_NEEDS, ConfinementClass, Known
from assent.execution.orders import HttpOrder, Limits, WasmOrder
from assent.execution.outcomes import Ending, Outcome, StreamEvent
from assent.testing.conformance.lanes import LaneCase, LaneSuite
from tests.execution.python_world import children_of

pytestmark = pytest.mark.slow
T = TypeVar("T")
WASI = ("wasi_snapshot_preview1",)
ADD = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
LOOP = '(module (func (export "f") (loop br 0)))'
GROW = '(module (memory 1) (func (export "f") (param i32) (result i32) (memory.grow (local.get 0))))'
TRAP = '(module (func (export "f") unreachable))'
DEEP = '(module (func $f (export "f") (call $f)))'
WIDE = '(module (func (export "f") (param i64) (result i64) (i64.mul (local.get 0) (i64.const 2))))'
FLOAT = '(module (func (export "f") (result f64) (f64.div (f64.const 1) (f64.const 0))))'
# Reads standard input and writes it to standard output, then ends with status 3 when it was empty.
ECHO = """
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1024))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (if (i32.eqz (i32.load (i32.const 16))) (then (call $exit (i32.const 3))))
    (i32.store (i32.const 4) (i32.load (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))
"""
# Opens a name below the first folder it was given (descriptor 3), to read or to make it; gives back the error number.
OPEN = """
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "kept../outside")
  (func (export "read") (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 0) (i64.const 2) (i64.const 0)
      (i32.const 0) (i32.const 64)))
  (func (export "make") (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 3) (i32.const 1) (i64.const 64) (i64.const 0)
      (i32.const 0) (i32.const 64)))
  (func (export "leave") (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 12) (i32.const 10) (i32.const 0) (i64.const 2) (i64.const 0)
      (i32.const 0) (i32.const 64))))
"""


class World:
    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, folder / "workspace"
        self.workspace.mkdir()
        self.runner = asyncio.Runner()
        self.lane = WasmLane(clock=SystemClock(), entropy=SystemEntropy())
        self.heard: list[StreamEvent] = []

    def run(self, work: Awaitable[T]) -> T:
        async def patiently() -> T:
            async with asyncio.timeout(120):
                return await work

        return self.runner.run(patiently())

    def order(self, text: str, **fields: Any) -> WasmOrder:
        content = bytes(wasmtime.wat2wasm(text))
        digest = hashlib.sha256(content).hexdigest()
        (self.workspace / f"{digest[:8]}.wasm").write_bytes(content)
        return WasmOrder(
            **{
                "workspace": str(self.workspace),
                "path": f"{digest[:8]}.wasm",
                "module": f"sha256:{digest}",
                "function": "f",
                "limits": Limits(wall_ms=30_000),
                **fields,
            }
        )

    def one(self, text: str, *, floor: ConfinementClass = ConfinementClass.NAMESPACED, **fields: Any) -> Outcome:
        return self.carry(self.order(text, **fields), floor=floor)

    def carry(self, order: WasmOrder, *, floor: ConfinementClass = ConfinementClass.NAMESPACED) -> Outcome:
        return self.run(self.lane.carry(order, floor=floor, on_event=self.heard.append))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(Path(tempfile.mkdtemp(prefix="assent-test-")).resolve())
    yield made
    made.run(made.lane.close())
    made.runner.close()
    shutil.rmtree(made.folder)


def test_function_gives_its_result_when_it_is_called(world):
    outcome = world.one(ADD, function="add", arguments=(20, 22))
    assert (outcome.ending, outcome.code) == (Ending.SUCCEEDED, "ok")
    assert outcome.value["results"] == [42]
    assert 0 < outcome.value["fuel_used"] < 100
    assert outcome.evidence.facts["death"] == {"proved_by": "pidfd"}


def test_results_beyond_json_are_described(world):
    assert world.one(WIDE, arguments=(2**60,)).value["results"] == [{"$int": str(2**61)}]
    assert world.one(FLOAT).value["results"] == [{"$float": "inf"}]


def test_attestation_holds_the_properties_of_the_engine_and_of_its_process(world):
    attestation = world.one(ADD, function="add", arguments=(1, 2)).evidence.attestation
    assert attestation.confinement is ConfinementClass.WASM
    assert ConfinementClass.NAMESPACED in attestation.held
    properties = attestation.properties
    assert {name for name in NAMESPACED_NEEDS if properties[name].known is not Known.OBSERVED} == set()
    assert properties["engine"].value.startswith("wasmtime ")
    assert (properties["imports"].value, properties["imports"].known) == ("none", Known.OBSERVED)
    assert (properties["fuel"].known, properties["engine-memory"].known) == (Known.PROBED, Known.PROBED)


def test_module_runs_under_the_floor_of_its_own_class_and_not_above_that_of_its_process(world):
    assert world.one(ADD, function="add", arguments=(1, 2), floor=ConfinementClass.WASM).code == "ok"
    refused = world.one(ADD, function="add", arguments=(1, 2), floor=ConfinementClass.MICROVM)
    assert (refused.ending, refused.code) == (Ending.FAILED, "confinement_unmet")


def test_loop_ends_by_fuel(world):
    outcome = world.one(LOOP, fuel_max=1_000_000)
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, "fuel_limit", "fuel")
    assert outcome.value["fuel_used"] >= 1_000_000 - 10


def test_loop_with_fuel_for_ever_ends_by_its_time(world):
    outcome = world.one(LOOP, fuel_max=2**62, limits=Limits(wall_ms=1_500, grace_ms=5_000))
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, "wall_limit", "wall")


def test_memory_does_not_grow_beyond_its_cap(world):
    limits = Limits(wall_ms=30_000, memory_bytes_max=ENGINE_BYTES + 10 * 65_536)
    assert world.one(GROW, arguments=(9,), limits=limits).value["results"] == [1]
    assert world.one(GROW, arguments=(10,), limits=limits).value["results"] == [-1]


def test_trap_is_told_as_the_engine_names_it(world):
    outcome = world.one(TRAP)
    assert (outcome.ending, outcome.code, outcome.value["trap"]) == (Ending.FAILED, "trapped", "UNREACHABLE")
    assert world.one(DEEP).value["trap"] == "STACK_OVERFLOW"


def test_streams_are_granted_with_wasi(world):
    order = world.order(ECHO, function="", imports=WASI, stdin=b"said\n")
    world.heard.clear()
    outcome = world.carry(order)
    assert (outcome.code, outcome.value["stdout"]) == ("ok", "said\n")
    assert b"".join(event.data for event in world.heard) == b"said\n"
    assert "wasi_snapshot_preview1.fd_write" in outcome.evidence.attestation.properties["imports"].value
    empty = world.one(ECHO, function="", imports=WASI)
    assert (empty.ending, empty.code, empty.value["exit"]) == (Ending.FAILED, "exit_nonzero", 3)


def test_import_that_was_not_granted_is_refused_before_anything_runs(world):
    outcome = world.one(ECHO, function="", stdin=b"said\n")
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "import_refused")
    assert outcome.value == {}


@pytest.mark.parametrize(("access", "read", "make"), [("none", 8, 8), ("read", 0, 69), ("write", 0, 0)])
def test_workspace_is_seen_as_it_is_granted(world, access, read, make):
    """WASI's error numbers: 8 is no such descriptor, 69 a read-only file system, 76 no capability to go there."""
    (world.workspace / "kept").write_text("x")
    (world.workspace / "kep").unlink(missing_ok=True)
    (world.folder / "outside").write_text("a secret beside the workspace")
    assert world.one(OPEN, function="read", imports=WASI, access=access).value["results"] == [read]
    made = world.one(OPEN, function="make", imports=WASI, access=access).value["results"][0]
    assert made in (make, 58, 63, 69, 76) if make else made == 0
    assert (world.workspace / "kep").exists() == (make == 0)
    assert world.one(OPEN, function="leave", imports=WASI, access=access).value["results"][0] != 0


def test_module_that_is_another_than_was_allowed_is_refused(world):
    order = world.order(ADD, function="add", arguments=(1, 2))
    (world.workspace / order.path).write_bytes(bytes(wasmtime.wat2wasm(TRAP)))
    outcome = world.carry(order)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "module_changed")


@pytest.mark.parametrize(
    ("content", "code"), [(b"\0asm", "module_malformed"), (b"", "module_malformed"), (None, "module_missing")]
)
def test_module_that_is_none_is_refused(world, content, code):
    path = world.workspace / "broken.wasm"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    digest = "sha256:" + hashlib.sha256(content or b"").hexdigest()
    outcome = world.carry(WasmOrder(workspace=str(world.workspace), path="broken.wasm", module=digest, function="f"))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, code)


@pytest.mark.parametrize(
    "fields",
    [{"function": "nope"}, {"function": "add", "arguments": (1,)}, {"function": "add", "arguments": (1, 2**40)}],
)
def test_call_that_does_not_fit_the_module_fails(world, fields):
    outcome = world.one(ADD, **{"function": "add", **fields})
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "export_missing")


MALFORMED: dict[str, dict[str, Any]] = {
    "a path outside": {"path": "../x.wasm"},
    "a path from the root": {"path": "/x.wasm"},
    "a digest that is none": {"module": "sha256:abc"},
    "an import that cannot be granted": {"imports": ("env",)},
    "files without WASI": {"access": "read"},
    "an argument beyond 64 bits": {"arguments": (2**64,)},
    "no fuel": {"fuel_max": 0},
    "less memory than the engine needs": {"limits": Limits(memory_bytes_max=1_000_000)},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_order_is_refused_whole_when_it_has(world, case):
    outcome = world.one(ADD, **MALFORMED[case])
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "order_malformed")


def test_lane_says_how_to_install_the_engine_when_it_is_missing(world):
    lane = WasmLane(clock=SystemClock(), entropy=SystemEntropy(), engine="wasmtime_that_is_not_there")
    order = world.order(ADD, function="add", arguments=(1, 2))
    outcome = world.run(lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "engine_missing")
    assert "pip install 'assent[wasm]'" in outcome.message


FLOOD = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "f") (local $n i32)
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 40))))))
"""
ENDLESS = FLOOD.replace("(i32.const 60000)", "(i32.const 10)").replace("(i32.const 40)", "(i32.const 0xffffffff)")


class TestWasmLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def a_world(self, world: World) -> None:
        self.world = world

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        lane = WasmLane(clock=SystemClock(), entropy=SystemEntropy())
        carried = [0]
        carry = lane.carry

        async def counting(*args: Any, **kwargs: Any) -> Outcome:
            outcome = await carry(*args, **kwargs)
            carried[0] += bool(outcome.value.get("fuel_used"))
            return outcome

        lane.carry = counting  # type: ignore[method-assign]

        def running() -> int:
            return sum(len(children_of(pid)) for pid in lane._zygotes.pids) if lane._zygotes is not None else 0

        big = Limits(wall_ms=60_000, output_bytes_max=8_000_000)
        yield LaneCase(
            lane=lane,
            good=self.world.order(ADD, function="add", arguments=(1, 2)),
            foreign=HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=()),
            malformed=self.world.order(ADD, path="../x"),
            deeds=lambda: carried[0],
            running=running,
            floor=ConfinementClass.NAMESPACED,
            endless=self.world.order(ENDLESS, imports=WASI, fuel_max=2**62, limits=Limits(output_bytes_max=2**40)),
            flood=self.world.order(FLOOD, imports=WASI, limits=big),
            flood_bytes=40 * 60_000,
        )
        await lane.close()
