"""The warden's report in the words of the evidence."""

from __future__ import annotations

import os
import signal
from typing import Any

_SEEN_FIELDS = ("looks", "processes", "memory_bytes", "disk_bytes")  # the most of each that was seen in so many looks
_FIELDS = ("user_us", "system_us", "maxrss_kb", "minor_faults", "major_faults", "switches", "preemptions")


def read_report(text: str | None) -> dict[str, Any]:
    """`exit` or `signal`, `rusage`, what was `seen` at most, and the limit that `tripped`; empty without a report."""
    if text is None:
        return {}
    status, *numbers = text.split()
    tripped, *seen = numbers[len(_FIELDS) :]
    code = os.waitstatus_to_exitcode(int(status))
    return {
        "exit": code if code >= 0 else None,
        "signal": _signal_name(-code) if code < 0 else None,
        "rusage": dict(zip(_FIELDS, map(int, numbers[: len(_FIELDS)]), strict=True)),
        "seen": dict(zip(_SEEN_FIELDS, map(int, seen), strict=True)),
        "tripped": tripped.strip("-"),
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the two that have names
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
