"""Run every benchmark, one after the other, and sum up what they print.

Each runs in a process of its own. Results are its closing lines, `ratio …  target …  met|missed  …`; a script without
such lines is shown and not summed up. A missed target does not fail the run: the numbers are for people to judge. A
script that breaks does.

    python -m benchmarks.run_all [--quick] [NAME …]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.reporting import HERE, RESULT

# In the order in which they make sense. What is no benchmark by itself is not among them.
NAMES = (
    "import_time",
    "decision",
    "backtest",
    "governance",
    "halts",
    "ledger",
    "governed_call",
    "sandbox",
    "python_lane",
    "active",
    "egress",
    "verify",
    "http_lane",
    "output",
    "mcp_stdio",
    "registry_find",
    "agents",
)


class Result(NamedTuple):
    """One closing line."""

    script: str
    ratio: str
    target: str
    end: str
    about: str


def main() -> None:
    """Run them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs, where a script knows them")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(NAMES)}")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark `{unknown[0]}`")
    results: list[Result] = []
    broken: list[str] = []
    for name in options.names or NAMES:
        if (HERE / f"{name}.py").exists():
            ended, lines = _run(name, quick=options.quick)
            results += _results(name, lines)
            broken += [name] if ended else []
    _print_table(results)
    if broken:
        sys.exit(f"broken: {', '.join(broken)}")


def _run(name: str, *, quick: bool) -> tuple[int, list[str]]:
    """Run one script and pass on what it prints; its exit status and its lines."""
    print(f"== {name}", flush=True)
    began_s, lines = time.monotonic(), []
    knows_quick = "--quick" in (HERE / f"{name}.py").read_text()
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick and knows_quick else [])]
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    print(f"== {name}: {time.monotonic() - began_s:.0f} s\n", flush=True)
    return process.returncode, lines


def _results(name: str, lines: list[str]) -> Iterator[Result]:
    for line in lines:
        found = re.fullmatch(RESULT, line)
        if found:
            yield Result(name, found["ratio"], found["target"], found["end"], found["about"])


def _print_table(results: list[Result]) -> None:
    rows = [Result("script", "ratio", "target", "", "what was measured"), *results]
    widths = [max(len(row[column]) for row in rows) for column in range(len(Result._fields) - 1)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:-1], widths, strict=True)]
        print("  ".join([*cells, row.about]).rstrip())
    count = {end: sum(row.end == end for row in results) for end in ("met", "missed")}
    print(f"{count['met']} targets met, {count['missed']} missed")


if __name__ == "__main__":
    main()
