"""The warden's report in the words of the evidence."""

from __future__ import annotations

import os
import signal
from typing import Any

_FIELDS = ("user_us", "system_us", "maxrss_kb", "minor_faults", "major_faults", "switches", "preemptions")


def read_report(text: str | None) -> dict[str, Any]:
    """`exit` or `signal`, `rusage`, and the limit that `tripped`; empty when there is no report."""
    if text is None:
        return {}
    status, *numbers, tripped = text.split()
    code = os.waitstatus_to_exitcode(int(status))
    return {
        "exit": code if code >= 0 else None,
        "signal": _signal_name(-code) if code < 0 else None,
        "rusage": dict(zip(_FIELDS, map(int, numbers), strict=True)),
        "tripped": tripped.strip("-"),
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the two that have names
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
