"""How a call ended, from what the supervisor knows. Pure: the first thing that explains the end wins."""

from __future__ import annotations

from typing import Any

import msgspec

from assent.execution.adapters.sandboxes.keeping import HEAD_BYTES_MAX
from assent.execution.adapters.sandboxes.talks import Said, Talk
from assent.execution.orders import Limits
from assent.execution.outcomes import Ending
from assent.primitives.canonical import parse
from assent.primitives.errors import Malformed

UNPROVED = "the interpreter was killed but its end was not seen"
_LIMIT_WORDS = {
    "wall": "wall_limit", "output": "output_limit", "cpu": "cpu_limit", "memory": "memory_limit", "disk": "disk_limit",
}  # fmt: skip


class End(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome without its evidence."""

    ending: Ending
    code: str
    limit: str = ""
    message: str = ""
    value: dict[str, Any] = {}


def end_of(said: Said, talk: Talk, report: dict[str, Any], *, limits: Limits, lasting: bool, alive: bool) -> End:
    """The end of one call. `lasting`: its worker was to live on; `alive`: whether its zygote still does."""
    value = _value(said, talk, report)
    try:
        ending, code, limit, message = _verdict(said, report, limits, lasting=lasting, alive=alive)
        if code == "ok":
            value["result"] = _result(talk)
        value["items"] = _items(talk)
    except Malformed as error:
        ending, code, limit, message = Ending.FAILED, "protocol_broken", "", f"what came back is no result: {error}"
    return End(ending=ending, code=code, limit=limit, message=message, value=value)


def _value(said: Said, talk: Talk, report: dict[str, Any]) -> dict[str, Any]:
    end = said.end or {}
    return {
        "result": None, "items": [], "exception": _fault(end.get("exception")),
        "exit": report.get("exit", end.get("exit")), "signal": report.get("signal"),
        "stdout": talk.kept["stdout"].value, "stderr": talk.kept["stderr"].value,
    }  # fmt: skip


def _fault(told: Any) -> Any:
    """The interpreter's word about an exception; whatever it is, it is a JSON value by now."""
    return told if isinstance(told, dict) else None


def _result(talk: Talk) -> Any:
    """The result, or what says where the text of a large one is kept."""
    value = talk.kept["result"].value
    if isinstance(value, str):
        return parse(value.encode())
    if talk.kept["result"].bytes <= HEAD_BYTES_MAX:
        raise Malformed("result_malformed", "it is not even text", hint="return other values")
    return value


def _items(talk: Talk) -> Any:
    """Every item; of many, what says where their texts are kept, one a line."""
    value = talk.kept["items"].value
    return [parse(line.encode()) for line in value.split("\n") if line] if isinstance(value, str) else value


def _verdict(
    said: Said, report: dict[str, Any], limits: Limits, *, lasting: bool, alive: bool
) -> tuple[Ending, str, str, str]:
    """Ending, code, limit and message."""
    if not said.dead and (not lasting or said.end is None):
        return Ending.UNKNOWN, "death_unproved", said.limit, UNPROVED
    if said.broken:
        return Ending.FAILED, "protocol_broken", "", f"the interpreter was ended, because it sent {said.broken}"
    limit = said.limit or report.get("tripped", "") or _limit_by_signal(report, limits)
    if limit in _LIMIT_WORDS:
        return Ending.FAILED, _LIMIT_WORDS[limit], limit, f"ended by its {limit} limit"
    if said.dead and not report:
        code = "sandbox_lost" if alive else "spawner_lost"
        return Ending.UNKNOWN, code, "", "the sandbox died under the interpreter; how far it got is not known"
    return _told(said.end or {}) or _died(said, report) or (Ending.SUCCEEDED, "ok", "", "")


def _died(said: Said, report: dict[str, Any]) -> tuple[Ending, str, str, str] | None:
    """How the process ended, where that is the news."""
    if report.get("signal"):
        return Ending.FAILED, "signalled", "", f"ended by {report['signal']}"
    if report.get("exit"):
        return Ending.FAILED, "exit_nonzero", "", f"exit status {report['exit']}"
    if said.end is None:
        return Ending.FAILED, "result_missing", "", "the interpreter ended before there was a result"
    return None


def _told(end: dict[str, Any]) -> tuple[Ending, str, str, str] | None:
    """What the interpreter itself says went wrong."""
    if end.get("too_large"):
        return Ending.FAILED, "output_limit", "output", "the result is larger than the output may be"
    fault = _fault(end.get("exception"))
    if fault is not None:
        kind, message = str(fault.get("type")), str(fault.get("message"))
        if kind == "MemoryError":
            return Ending.FAILED, "memory_limit", "memory", "there was no more memory to be had"
        return Ending.FAILED, "exception", "", f"{kind}: {message}"[:500]
    if end.get("exit"):
        return Ending.FAILED, "exit_nonzero", "", f"exit status {end['exit']}"
    return None


def _limit_by_signal(report: dict[str, Any], limits: Limits) -> str:
    """The kernel's own limits end a process by signal."""
    usage = report.get("rusage", {})
    spent_s = (usage.get("user_us", 0) + usage.get("system_us", 0)) / 1e6
    name = report.get("signal")
    return "cpu" if name == "SIGXCPU" or (name == "SIGKILL" and spent_s >= limits.cpu_s_max) else ""
