"""Running the command line: as a process of its own, as users do, or inside this one, where that is enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import assent

SOURCES = str(Path(assent.__file__).resolve().parent.parent)
DEADLINE_S = 60


class Ran(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, "HOME": "/nonexistent", "TERM": "dumb", **more}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "assent", *words]


def process(*words: str, cwd: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ran:
    """Run `assent` as users do."""
    done = subprocess.run(
        command(*words),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        env=env or environment(),
    )
    ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in ran.err + ran.out
    return ran
