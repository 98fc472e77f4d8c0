"""A driver: a system under load in a process of its own, which runs one window whenever it is told to.

The driver's first line of output says that it is ready and in which forms it can do the work; then it reads requests
and answers each with a window, one JSON line each. So systems that cannot live in one environment still take turns on
one machine, and the idle ones wait for their next line. Standard library only: yardsticks' environments import it too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.windows import Window

ROOT = Path(__file__).resolve().parent.parent
Form = Callable[[int, float], Window]
"""Runs the load of so many callers for so many seconds."""


def serve(forms: Mapping[str, Form], *, about: str, settled: Callable[[], int]) -> None:
    """The driver's side: announce the forms, then answer requests until there are no more. `settled` counts what is in
    the database at the end, so that nobody can be fast by not doing the work."""
    _say({"forms": list(forms), "about": about})
    for line in sys.stdin:
        asked = json.loads(line)
        _say(forms[asked["form"]](asked["callers"], asked["seconds"]))
    _say({"settled": settled()})


class Driver:
    """The other side: a driver process as a context. `forms` and `about` are what it announced."""

    def __init__(self, python: str, module: str, folder: Path) -> None:
        folder.mkdir()
        self._name = module
        self._process = subprocess.Popen(
            [python, "-m", module, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "errors").open("wb"),
            text=True,
        )
        self._folder = folder
        self._calls = 0

    def __enter__(self) -> Self:
        told = self._hear()
        self.forms: Sequence[str] = told["forms"]
        self.about: str = told["about"]
        return self

    def window(self, form: str, *, callers: int, seconds: float) -> Window:
        """One window of `form`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"form": form, "callers": callers, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        window = Window(*self._hear())
        self._calls += window.calls
        return window

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if kind is None:
            self._process.stdin.close()
            settled = self._hear()["settled"]
            assert settled >= self._calls, f"{self._name}: {self._calls} calls were timed, {settled} are recorded"
        else:
            self._process.kill()
        self._process.stdout.close()
        self._process.wait()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self._name} ended unexpectedly:\n{(self._folder / 'errors').read_text()}")
        return json.loads(line)


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)
