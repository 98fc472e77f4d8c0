"""One carry of an order: its times, and how its end becomes an outcome with evidence."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from assent.execution.adapters.sandboxes.attest import judged, namespace_facts
from assent.execution.adapters.sandboxes.brokering import NO_WAY_OUT, lacks_way_out
from assent.execution.adapters.sandboxes.endings import End
from assent.execution.adapters.sandboxes.talks import Said, Talk
from assent.execution.adapters.sandboxes.workers import Worker
from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from assent.execution.orders import PythonOrder
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import OnEvent, Steering
from assent.primitives.clock import Clock
from assent.primitives.digests import digest
from assent.primitives.errors import Refused

NAME = "python"
NOTHING_OBSERVED = Attestation(mechanism="none")


class Carried:
    """Begun when the lane is asked; `went` once anything of the order may have run."""

    def __init__(
        self, order: PythonOrder, clock: Clock, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None
    ) -> None:
        self.order, self.floor, self._clock = order, floor, clock
        self.on_event, self.steering = on_event, steering
        self.verdict: Mapping[str, bool] = {}
        self._started_ms, self._started_ns = clock.now_ms(), clock.monotonic_ns()
        self.attestation = NOTHING_OBSERVED
        self.went = False

    def attest(self, worker: Worker) -> None:
        """Read the waiting worker from outside; nothing of the order has run.

        Raises:
            Refused: `confinement_unmet`.
        """
        self.attestation = shared_interpreter(judged(worker.attestation(), self.verdict))
        if lacks_way_out(worker.launch, self.order.hosts):
            raise Refused("confinement_unmet", NO_WAY_OUT)
        self.check_floor()

    def check_floor(self) -> None:
        """Whether what was read is enough.

        Raises:
            Refused: `confinement_unmet`.
        """
        if not self.attestation.meets(self.floor):
            raise Refused("confinement_unmet", shortfall(self.attestation, self.floor))

    def wall_left_ms(self) -> int:
        """What is left of the order's time."""
        return max(0, self.order.limits.wall_ms - (self._clock.monotonic_ns() - self._started_ns) // 1_000_000)

    def failed(self, code: str, message: str, **value: Any) -> Outcome:
        """The order was not carried: nothing of it ran, unless supervising broke after GO."""
        limit = "wall" if code == "wall_limit" else ""
        end = End(
            ending=Ending.UNKNOWN if self.went else Ending.FAILED, code=code, message=message, limit=limit, value=value
        )
        return self.outcome(end, talk=None, facts={})

    def outcome(self, end: End, *, talk: Talk | None, facts: dict[str, Any]) -> Outcome:
        """The whole outcome."""
        evidence = Evidence(
            lane=NAME,
            attestation=self.attestation,
            started_at_ms=self._started_ms,
            ended_at_ms=self._clock.now_ms(),
            limit=end.limit,
            digests={name: kept.digest for name, kept in talk.kept.items()} if talk else {},
            facts=facts,
        )
        return Outcome(ending=end.ending, code=end.code, message=end.message, value=end.value, evidence=evidence)

    def facts(self, worker: Worker, said: Said, report: dict[str, Any]) -> dict[str, Any]:
        """What was seen of the interpreter."""
        order = self.order
        return {
            "program": NAME, "source": digest(order.source.encode()), "function": order.function,
            "env_names": sorted(order.env), "preload": list(order.preload), "pid": worker.launch.program_pid,
            "init_pid": worker.launch.init_pid, "exit": report.get("exit"), "signal": report.get("signal"),
            "rusage": report.get("rusage", {}), "namespaces": namespace_facts(self.attestation.properties),
            "threads_left": (said.end or {}).get("tasks", 0), "unresponsive_ms": said.still_ms,
            "death": {"proved_by": "pidfd" if said.dead else "nothing"},
        }  # fmt: skip


def shared_interpreter(attestation: Attestation) -> Attestation:
    """What is different about a program that was warm before: said, not hidden."""
    own = {
        "interpreter": Property(value=f"{platform.python_implementation()} {platform.python_version()}, warm",
                                known=Known.CONFIGURED),
        "own-layout": Property(value="memory layout and hash seed are shared by the calls of one workspace",
                               known=Known.ABSENT),
    }  # fmt: skip
    return Attestation(mechanism=attestation.mechanism, properties={**attestation.properties, **own})


def shortfall(attestation: Attestation, floor: ConfinementClass) -> str:
    """Why an attestation does not meet a floor."""
    missing = sorted(
        name for name, one in attestation.properties.items() if one.known in (Known.ABSENT, Known.CONFIGURED)
    )
    have = f"`{attestation.confinement.value}` by `{attestation.mechanism}`"
    return f"the floor is `{floor.value}`, this run would be {have} (not held: {', '.join(missing)})"
