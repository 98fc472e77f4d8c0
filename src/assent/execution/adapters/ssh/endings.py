"""How a run on the far side ended, told in the words of an outcome; and what was said of it, as an attestation."""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import Attestation, Known, Property
from assent.execution.outcomes import Ending

MECHANISM = "ssh"
_LIMITS = {"wall": "wall_limit", "output": "output_limit", "cpu": "cpu_limit"}
_STEPS = {
    "workspace": "the target's workspace, or the folder in it, cannot be entered",
    "limits": "the limits cannot be set",
    "privileges": "privileges cannot be given up",
    "session": "no session can be made",
}


def asserted(hello: dict[str, Any], read: dict[str, Any] | None) -> Attestation:
    """What the far side says of itself and of the waiting program. Nothing of it was seen from here."""

    def says(value: object, *, held: bool = True) -> Property:
        return Property(value=str(value)[:200], known=Known.ASSERTED if held else Known.ABSENT)

    properties = {
        "host": says(f"{hello.get('node')}, {hello.get('system')} {hello.get('release')} {hello.get('machine')}"),
        "account": says(f"uid {hello.get('uid')}"),
        "tree-death": says("a reaper there kills the whole tree, also when the connection ends"),
        "files": says("whatever the account may see", held=False),
        "network": says("whatever the host reaches", held=False),
    }
    if read is not None:
        bits = str(read.get("no_new_privs"))
        properties |= {
            "no-new-privileges": says(f"NoNewPrivs {bits}", held=bits == "1"),
            "syscall-filter": says(f"Seccomp {read.get('seccomp')}", held=read.get("seccomp") == "2"),
            "user": says(f"uid {read.get('uid')}", held=read.get("uid") != 0),
            "limits": says("set before the program began"),
            "environment": says("the order's own"),
        }
    return Attestation(mechanism=MECHANISM, properties=properties)


def not_started(fault: Any) -> tuple[str, str]:
    """Code and message for a program that was never let go, from the supervisor's `F`."""
    step, number = fault if isinstance(fault, list) and len(fault) == 2 else ("session", 0)
    return "target_unusable", f"{_STEPS.get(str(step), 'it cannot be prepared')} (error `{number!s:.20}` there)"


def told(ending: dict[str, Any], *, program: str, cpu_s_max: int) -> tuple[Ending, str, str, str]:
    """Ending, code, limit and message, from the supervisor's last word."""
    if not ending.get("dead"):
        return Ending.UNKNOWN, "death_unproved", "", "it was killed there and its end was not seen"
    if ending.get("fault"):
        return Ending.FAILED, "program_missing", "", f"`{program[:200]}` cannot be run there"
    limit, signal = str(ending.get("limit") or ""), ending.get("signal")
    if limit == "cancelled":
        return Ending.CANCELLED, "cancelled", "", "stopped there, and nothing of it is left"
    usage = ending.get("rusage") or {}
    spent_s = (int(usage.get("user_us", 0)) + int(usage.get("system_us", 0))) / 1e6
    if not limit and (signal == "SIGXCPU" or (signal == "SIGKILL" and spent_s >= cpu_s_max)):
        limit = "cpu"
    if not limit and signal == "SIGXFSZ":
        limit = "file"
    if limit in _LIMITS:
        return Ending.FAILED, _LIMITS[limit], limit, f"ended by its {limit} limit"
    if signal:
        return Ending.FAILED, "signalled", limit, f"ended by {signal}"
    if ending.get("exit") is None:
        return Ending.UNKNOWN, "connection_lost", "", "the far side did not say how it ended"
    if ending["exit"]:
        return Ending.FAILED, "exit_nonzero", "", f"exit status {ending['exit']}"
    return Ending.SUCCEEDED, "ok", "", ""
