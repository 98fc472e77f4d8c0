"""The wasm lane: one WebAssembly module, in an engine that runs inside a confined interpreter.

Language isolation alone is as good as its engine, so the engine has a sandbox of its own, the same as programs have.
What is attested is both: the properties of the process, read from outside before anything ran in it, and those of the
engine, tried in that very process before the module is called: a loop of ours ended by fuel, a memory of ours that did
not grow, the module's imports one by one.

Codes: `ok`, `trapped`, `fuel_limit`, `wall_limit`, `exit_nonzero` and those of any confined interpreter; nothing of the
module ran for `engine_missing`, `module_missing`, `module_changed`, `module_malformed`, `import_refused`,
`export_missing`, `order_malformed`, `sandbox_failed`, `confinement_unmet`.
"""

from __future__ import annotations

import base64
import importlib.util
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from assent.execution.adapters.sandboxes.attest import judged, namespace_facts
from assent.execution.adapters.sandboxes.endings import UNPROVED, End, end_of
from assent.execution.adapters.sandboxes.frames import NONCE_BYTES
from assent.execution.adapters.sandboxes.image import Image, check_order
from assent.execution.adapters.sandboxes.namespaces import NAME as MECHANISM
from assent.execution.adapters.sandboxes.reports import read_report
from assent.execution.adapters.sandboxes.selftest import Report
from assent.execution.adapters.sandboxes.talks import Said, Talk, requested
from assent.execution.adapters.sandboxes.workers import Worker
from assent.execution.adapters.sandboxes.zygotes import Zygotes
from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from assent.execution.orders import Order, ProcessOrder, WasmOrder
from assent.execution.outcomes import Ending, Evidence, Outcome, StreamEvent
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import AssentError, InvariantBroken, Malformed, Refused, Unavailable

NAME = "wasm"
ENGINE = "wasmtime"
ENGINE_BYTES = 134_217_728  # what the engine and its process need of the order's memory
GRANTABLE = frozenset({"wasi_snapshot_preview1"})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_NOTHING_OBSERVED = Attestation(mechanism="none")
_I64 = range(-(2**63), 2**64)


class WasmLane:
    """Carries `WasmOrder`s. Cheap to construct; needs the extra `wasm`, and says so when it is not there."""

    name = NAME
    capabilities = Capabilities(streams=True, summary="one WebAssembly module, in a confined engine")

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy,
        protected: Iterable[Path] = (),
        artefacts: Artefacts | None = None,
        tested: Callable[[], Awaitable[Report]] | None = None,
        engine: str = ENGINE,
    ) -> None:
        self._clock, self._entropy, self._artefacts, self._tested = clock, entropy, artefacts, tested
        self._protected, self._engine = tuple(protected), engine
        self._zygotes: Zygotes | None = None

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry one order to its end.

        Raises:
            InvariantBroken: the order is not a `WasmOrder`.
        """
        if not isinstance(order, WasmOrder):
            raise InvariantBroken("order_of_other_lane", f"the wasm lane was given a `{type(order).__name__}`")
        run = _Run(self, order, floor, on_event, steering)
        try:
            program = planned(order)
            if importlib.util.find_spec(self._engine) is None:
                raise Unavailable(
                    "engine_missing", f"`{self._engine}` is not installed", hint="run `pip install 'assent[wasm]'`"
                )
            return await run.carried(program, self._running(), await self._verdict())
        except AssentError as error:
            return run.failed(error.code, str(error))
        except OSError as error:  # descriptors, memory or disk of this process are used up
            return run.failed("sandbox_failed", f"the node could not supervise the module: {error}")

    async def close(self) -> None:
        """End every sandbox. Idempotent."""
        zygotes, self._zygotes = self._zygotes, None
        if zygotes is not None:
            await zygotes.close()

    async def _verdict(self) -> Mapping[str, bool]:
        if self._tested is None:
            return {}
        report = await self._tested()
        return report.verdict if report.mechanism == MECHANISM else {}

    def _running(self) -> Zygotes:
        if self._zygotes is None:
            self._zygotes = Zygotes(image=Image(protected=self._protected))
        return self._zygotes

    def talk(self, worker: Worker, order: WasmOrder, on_event: OnEvent, steering: Steering | None) -> Talk:
        """One call of the engine's process."""
        return Talk(
            worker, nonce=self._entropy(NONCE_BYTES), limits=order.limits, clock=self._clock, on_event=on_event,
            steering=steering, artefacts=self._artefacts,
        )  # fmt: skip

    @property
    def imports(self) -> tuple[str, ...]:
        """What the zygote has done before."""
        return ("base64", "hashlib", "importlib.metadata", "threading", self._engine)

    @property
    def clock(self) -> Clock:
        """The node's."""
        return self._clock


def planned(order: WasmOrder) -> ProcessOrder:
    """The engine's process.

    Raises:
        Malformed: `order_malformed`.
    """
    program = ProcessOrder(
        argv=(NAME,), workspace=order.workspace, workspace_writable=order.access == "write", limits=order.limits
    )
    check_order(program)
    parts = order.path.split("/")
    if not order.path or order.path.startswith("/") or ".." in parts or "\0" in order.path:
        raise Malformed("order_malformed", f"`{order.path[:200]}` is no path inside the workspace")
    if not _DIGEST.match(order.module):
        raise Malformed("order_malformed", "`module` is no digest", hint="give `sha256:` and 64 hexadecimal digits")
    foreign = sorted(set(order.imports) - GRANTABLE)
    if foreign:
        raise Malformed("order_malformed", f"`{foreign[0][:100]}` cannot be granted", hint=f"grant {sorted(GRANTABLE)}")
    if order.access != "none" and not order.imports:
        raise Malformed(
            "order_malformed", "a module without WASI cannot use the workspace", hint="grant the import too"
        )
    if any(one not in _I64 for one in order.arguments) or not 0 < order.fuel_max < 2**63:
        raise Malformed("order_malformed", "an argument or the fuel is beyond 64 bits, or there is no fuel")
    if order.limits.memory_bytes_max <= ENGINE_BYTES:
        raise Malformed("order_malformed", f"the engine alone needs {ENGINE_BYTES} bytes of memory", hint="allow more")
    return program


class _Run:
    """One carry."""

    def __init__(
        self, lane: WasmLane, order: WasmOrder, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None
    ) -> None:
        self._lane, self._order, self._floor = lane, order, floor
        self._on_event, self._steering = on_event, steering
        self._started_ms, self._started_ns = lane.clock.now_ms(), lane.clock.monotonic_ns()
        self._attestation = _NOTHING_OBSERVED
        self._went = False

    async def carried(self, program: ProcessOrder, zygotes: Zygotes, verdict: Mapping[str, bool]) -> Outcome:
        zygote = await zygotes.lend(workspace=program.workspace, imports=self._lane.imports)
        try:
            worker = await Worker.start(zygote.mechanism, program, beats=False)
            try:
                self._attestation = judged(worker.attestation(), verdict)
                worker.launch.go()
                told = await self._prepared(worker, program)
                self._admit(told)
                self._went = True
                talk = self._lane.talk(worker, self._order, self._on_event, self._steering)
                said = await talk.run(self._request(program), wall_left_ms=self._wall_left_ms(), last=True)
            except BaseException:
                if not await worker.end():
                    return self.failed("death_unproved", UNPROVED)
                raise
            await worker.end()
        finally:
            zygote.back()
        report = read_report(said.report)
        end = end_of(said, talk, report, limits=self._order.limits, lasting=False, alive=zygote.mechanism.alive)
        return self._outcome(_as_module(end), talk, worker, said, told)

    async def _prepared(self, worker: Worker, program: ProcessOrder) -> dict[str, Any]:
        """What the engine says of itself and of the module; nothing of the module has run."""
        order = self._order
        talk = self._lane.talk(worker, order, _ignore, None)
        arguments = {"path": order.path, "digest": order.module, "imports": list(order.imports)}
        request = requested(program, source=_host(), function="prepare", arguments=arguments, last=False)
        said = await talk.run(request, wall_left_ms=self._wall_left_ms(), last=False)
        end = end_of(said, talk, read_report(said.report), limits=order.limits, lasting=True, alive=True)
        told = end.value["result"]
        if end.code != "ok" or not isinstance(told, dict):
            if end.code in ("exception", "result_missing"):
                raise Unavailable("sandbox_failed", f"the engine could not be prepared: {end.message}")
            raise Refused(end.code, f"while the engine was prepared: {end.message}")
        return told

    def _admit(self, told: dict[str, Any]) -> None:
        held = Known.PROBED
        memory = self._order.limits.memory_bytes_max - ENGINE_BYTES
        imports = ", ".join(told["imports"]) or "none"
        own = {
            "engine": Property(value=told["engine"], known=Known.OBSERVED),
            "imports": Property(value=imports[:2_000], known=Known.OBSERVED),
            "fuel": Property(value=str(self._order.fuel_max), known=held if told["fuel"] else Known.ABSENT),
            "engine-memory": Property(value=f"{memory} bytes", known=held if told["memory"] else Known.ABSENT),
        }
        found = self._attestation
        self._attestation = Attestation(mechanism=found.mechanism, properties={**found.properties, **own})
        _check_module(told, self._order.path[:200])
        if not self._attestation.meets(self._floor):
            raise Refused("confinement_unmet", _shortfall(self._attestation, self._floor))

    def _request(self, program: ProcessOrder) -> bytes:
        order = self._order
        arguments = {
            "function": order.function, "arguments": list(order.arguments), "fuel_max": order.fuel_max,
            "stdin": base64.b64encode(order.stdin).decode("ascii"), "access": order.access,
            "memory_bytes_max": order.limits.memory_bytes_max - ENGINE_BYTES, "wall_ms": self._wall_left_ms(),
            "workspace": order.workspace,
        }  # fmt: skip
        return requested(program, source="", function="run", arguments=arguments, last=True)

    def _wall_left_ms(self) -> int:
        return max(0, self._order.limits.wall_ms - (self._lane.clock.monotonic_ns() - self._started_ns) // 1_000_000)

    def failed(self, code: str, message: str) -> Outcome:
        """Nothing of the module ran, unless supervising broke after it was called."""
        ending = Ending.UNKNOWN if self._went else Ending.FAILED
        return self._told(End(ending=ending, code=code, message=message), digests={}, facts={})

    def _outcome(self, end: End, talk: Talk, worker: Worker, said: Said, told: dict[str, Any]) -> Outcome:
        report = read_report(said.report)
        facts = {
            "module": self._order.module, "engine": told["engine"], "imports": told["imports"],
            "fuel_used": end.value["fuel_used"], "pid": worker.launch.program_pid, "init_pid": worker.launch.init_pid,
            "rusage": report.get("rusage", {}), "namespaces": namespace_facts(self._attestation.properties),
            "death": {"proved_by": "pidfd" if said.dead else "nothing"},
        }  # fmt: skip
        digests = {name: talk.kept[name].digest for name in ("stdout", "stderr")}
        return self._told(end, digests=digests, facts=facts)

    def _told(self, end: End, *, digests: dict[str, Any], facts: dict[str, Any]) -> Outcome:
        evidence = Evidence(
            lane=NAME, attestation=self._attestation, started_at_ms=self._started_ms,
            ended_at_ms=self._lane.clock.now_ms(), limit=end.limit, digests=digests, facts=facts,
        )  # fmt: skip
        return Outcome(ending=end.ending, code=end.code, message=end.message, value=end.value, evidence=evidence)


def _check_module(told: dict[str, Any], path: str) -> None:
    """Whether the engine has taken the module.

    Raises:
        Refused: `module_missing`, `module_changed`, `module_malformed`, `import_refused`.
    """
    why = str(told["message"])
    match told["refused"]:
        case "":
            return
        case "module_missing":
            raise Refused("module_missing", f"the module `{path}` cannot be read: {why}")
        case "module_changed":
            raise Refused("module_changed", f"the module `{path}` is not the one that was allowed: {why}")
        case "import_refused":
            raise Refused("import_refused", f"the module `{path}` was not granted what it needs: {why}")
        case _:
            raise Refused("module_malformed", f"the module `{path}` is none that can be run: {why}")


def _as_module(end: End) -> End:
    """The end of the engine's process in the words of the module."""
    told = end.value["result"] if end.code == "ok" and isinstance(end.value["result"], dict) else {}
    value = {
        "results": told.get("results", []), "exit": told.get("exit"), "stdout": end.value["stdout"],
        "stderr": end.value["stderr"], "fuel_used": told.get("fuel_used"), "trap": told.get("trap", ""),
    }  # fmt: skip
    if end.code != "ok":
        return msgspec.structs.replace(end, value=value)
    ending, code, limit, message = _verdict(told)
    return End(ending=ending, code=code, limit=limit, message=message, value=value)


def _verdict(told: dict[str, Any]) -> tuple[Ending, str, str, str]:
    match told.get("ended"), told.get("trap"), told.get("exit"):
        case "returned", _, _:
            return Ending.SUCCEEDED, "ok", "", ""
        case "exited", _, 0:
            return Ending.SUCCEEDED, "ok", "", ""
        case "exited", _, status:
            return Ending.FAILED, "exit_nonzero", "", f"exit status {status}"
        case "refused", _, _:
            return Ending.FAILED, "export_missing", "", str(told.get("message"))
        case _, "OUT_OF_FUEL", _:
            return Ending.FAILED, "fuel_limit", "fuel", "ended by its fuel limit"
        case _, "INTERRUPT", _:
            return Ending.FAILED, "wall_limit", "wall", "ended by its wall limit"
        case _:
            return Ending.FAILED, "trapped", "", str(told.get("message", "")).partition("\n")[0][:500]


def _shortfall(attestation: Attestation, floor: ConfinementClass) -> str:
    missing = sorted(
        name for name, one in attestation.properties.items() if one.known in (Known.ABSENT, Known.CONFIGURED)
    )
    have = f"`{attestation.confinement.value}` by `{attestation.mechanism}`"
    return f"the floor is `{floor.value}`, this run would be {have} (not held: {', '.join(missing)})"


def _host() -> str:
    """The text that the engine's interpreter runs."""
    return (Path(__file__).parent / "engine_host.py").read_text(encoding="utf-8")


def _ignore(_: StreamEvent) -> None:
    return None
