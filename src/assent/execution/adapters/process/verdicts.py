"""How a run ended, told from what is known of its end. Pure."""

from __future__ import annotations

import os
from typing import Any

from assent.execution.adapters.sandboxes.supervision import Ended
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import ProcessOrder
from assent.execution.outcomes import Ending

UNPROVED = "the sandbox was killed but its end was not seen"
_LIMIT_WORDS = {
    "wall": "wall_limit", "output": "output_limit", "line": "line_limit", "cpu": "cpu_limit", "memory": "memory_limit",
    "disk": "disk_limit",
}  # fmt: skip


def verdict(
    ended: Ended, report: dict[str, Any], order: ProcessOrder, *, spawner_alive: bool
) -> tuple[Ending, str, str, str]:
    """Ending, code, limit and message, from what is known; the first thing that explains the end wins."""
    if not ended.dead:
        return Ending.UNKNOWN, "death_unproved", ended.limit, UNPROVED
    if ended.unstartable:
        reason = os.strerror(ended.unstartable).lower()
        return Ending.FAILED, "program_missing", "", f"`{order.argv[0][:200]}` cannot be run: {reason}"
    limit = ended.limit or report.get("tripped", "") or _limit_by_signal(report, order)
    if limit in _LIMIT_WORDS:
        return Ending.FAILED, _LIMIT_WORDS[limit], limit, f"ended by its {limit} limit"
    if not report:
        code = "sandbox_lost" if spawner_alive else "spawner_lost"
        return Ending.UNKNOWN, code, "", "the sandbox died under the program; how far it got is not known"
    if report["signal"]:
        return Ending.FAILED, "signalled", limit, f"ended by {report['signal']}"
    if report["exit"]:
        return Ending.FAILED, "exit_nonzero", "", f"exit status {report['exit']}"
    return Ending.SUCCEEDED, "ok", "", ""


def _limit_by_signal(report: dict[str, Any], order: ProcessOrder) -> str:
    """The kernel's own limits end a process by signal."""
    usage = report.get("rusage", {})
    spent_s = (usage.get("user_us", 0) + usage.get("system_us", 0)) / 1e6
    name = report.get("signal")
    if name == "SIGXCPU" or (name == "SIGKILL" and spent_s >= order.limits.cpu_s_max):
        return "cpu"
    return "file" if name == "SIGXFSZ" else ""


def shortfall(attestation: Attestation, floor: ConfinementClass) -> str:
    """Why an attestation does not meet a floor, for people."""
    missing = sorted(
        name for name, one in attestation.properties.items() if one.known.value in ("absent", "configured")
    )
    have = f"`{attestation.confinement.value}` by `{attestation.mechanism}`"
    return f"the floor is `{floor.value}`, this run would be {have} (not held: {', '.join(missing)})"
