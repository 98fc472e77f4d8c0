"""What the confined interpreter runs for a module: the engine, its limits, and what is granted. Its text is sent in.

Two calls. `prepare` tries the engine's own limits on modules of ours (a loop that must end by fuel, a memory that must
not grow), then reads the order's module, compares its digest and lists its imports; nothing of it has run. `run` gives
it what it was granted and calls it. The second call is made only when what the first one said was enough.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import threading
from typing import Any

import wasmtime

MODULE_BYTES_MAX = 67_108_864
WASI = "wasi_snapshot_preview1"
_PAGE_BYTES = 65_536
_PROBE_FUEL = 10_000
_RANGES = {"i32": range(-(2**31), 2**32), "i64": range(-(2**63), 2**64)}  # signed or unsigned, as the caller likes
_LOOP = '(module (func (export "f") (loop br 0)))'
_GROW = '(module (memory 1) (func (export "f") (result i32) (memory.grow (i32.const 16))))'
_held: dict[str, Any] = {}


def prepare(path: str, digest: str, imports: list[str]) -> dict[str, Any]:
    """The engine, whether its limits hold, and the module's imports; `refused` is why it cannot be run."""
    engine = _engine()
    said: dict[str, Any] = {
        "engine": f"wasmtime {importlib.metadata.version('wasmtime')}",
        "fuel": _fuel_holds(engine),
        "memory": _memory_holds(engine),
        "imports": [],
        "refused": "",
        "message": "",
    }
    try:
        with open(path, "rb") as file:
            content = file.read(MODULE_BYTES_MAX + 1)
    except OSError as error:
        return {**said, "refused": "module_missing", "message": f"{error.strerror}"}
    found = "sha256:" + hashlib.sha256(content).hexdigest()
    if found != digest:
        return {**said, "refused": "module_changed", "message": f"its digest is {found}"}
    try:
        module = wasmtime.Module(engine, content)
    except wasmtime.WasmtimeError as error:
        return {**said, "refused": "module_malformed", "message": str(error)[:500]}
    said["imports"] = sorted({f"{one.module}.{one.name}" for one in module.imports})
    foreign = sorted({one.module for one in module.imports} - set(imports))
    if foreign:
        return {**said, "refused": "import_refused", "message": f"it imports `{foreign[0][:100]}`"}
    _held.update(engine=engine, module=module, imports=imports)
    return said


def run(
    *,
    function: str,
    arguments: list[int],
    stdin: str,
    fuel_max: int,
    memory_bytes_max: int,
    wall_ms: int,
    access: str,
    workspace: str,
) -> dict[str, Any]:
    """Call it. `ended`: `returned`, `exited`, `trapped` (with the engine's word for it) or `refused`."""
    engine, module = _held["engine"], _held["module"]
    store = _store(engine, fuel=fuel_max, memory_bytes_max=memory_bytes_max)
    linker = wasmtime.Linker(engine)
    if WASI in _held["imports"]:
        linker.define_wasi()
        store.set_wasi(_granted(stdin, access, workspace))
    alarm = threading.Timer(wall_ms / 1000, engine.increment_epoch)
    alarm.daemon = True
    alarm.start()
    said: dict[str, Any] = {"ended": "returned", "results": [], "exit": None, "message": "", "trap": ""}
    try:
        instance = linker.instantiate(store, module)
        called = instance.exports(store).get(function or "_start")
        if not isinstance(called, wasmtime.Func):
            return {**said, "ended": "refused", "message": f"it has no function `{function or '_start'}`"}
        wanted = [str(one) for one in called.type(store).params]
        fitting = [_RANGES.get(kind, range(0)) for kind in wanted]
        if len(wanted) != len(arguments) or any(one not in fits for one, fits in zip(arguments, fitting, strict=True)):
            return {**said, "ended": "refused", "message": f"it takes ({', '.join(wanted)})"}
        returned = called(store, *arguments)
        said["results"] = returned if isinstance(returned, list) else [] if returned is None else [returned]
    except wasmtime.ExitTrap as leaving:
        said.update(ended="exited", exit=leaving.code)
    except wasmtime.Trap as trap:
        said.update(ended="trapped", trap=trap.trap_code.name if trap.trap_code else "", message=str(trap)[:2_000])
    except (wasmtime.WasmtimeError, OverflowError, TypeError) as error:
        said.update(ended="trapped", message=str(error)[:2_000])
    finally:
        alarm.cancel()
    said["fuel_used"] = fuel_max - store.get_fuel()
    return said


def _engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.parallel_compilation = False  # one processor's work, in the thread that is watched
    config.wasm_threads = False  # shared memory would grow past the store's limit
    return wasmtime.Engine(config)


def _store(engine: wasmtime.Engine, *, fuel: int, memory_bytes_max: int) -> wasmtime.Store:
    store = wasmtime.Store(engine)
    store.set_fuel(fuel)
    store.set_epoch_deadline(1)
    store.set_limits(memory_size=memory_bytes_max, instances=1, memories=4, tables=16, table_elements=1_000_000)
    return store


def _fuel_holds(engine: wasmtime.Engine) -> bool:
    store = _store(engine, fuel=_PROBE_FUEL, memory_bytes_max=_PAGE_BYTES)
    called = wasmtime.Instance(store, wasmtime.Module(engine, _LOOP), []).exports(store)["f"]
    assert isinstance(called, wasmtime.Func)
    try:
        called(store)
    except wasmtime.Trap as trap:
        return trap.trap_code is wasmtime.TrapCode.OUT_OF_FUEL
    return False


def _memory_holds(engine: wasmtime.Engine) -> bool:
    store = _store(engine, fuel=_PROBE_FUEL, memory_bytes_max=_PAGE_BYTES)
    called = wasmtime.Instance(store, wasmtime.Module(engine, _GROW), []).exports(store)["f"]
    assert isinstance(called, wasmtime.Func)
    return bool(called(store) == -1)


def _granted(stdin: str, access: str, workspace: str) -> wasmtime.WasiConfig:
    """Three streams, and the workspace where it is granted: no arguments, no environment, nothing else."""
    wasi = wasmtime.WasiConfig()
    place = "/tmp/stdin"  # noqa: S108 - the sandbox's own
    with open(place, "wb") as file:
        file.write(base64.b64decode(stdin))
    wasi.stdin_file = place
    os.unlink(place)
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    if access != "none":
        wasi.preopen_dir(workspace, "/", access == "write")
    return wasi
