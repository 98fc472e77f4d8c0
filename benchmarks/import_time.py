"""What it costs to start: `import assent` against a bare interpreter, the size of the core, and `assent --help`.

The yardstick is `python -c pass` in the same run. CPU is user and system time of the child, best of several runs. What
needs the installed package (its metadata, its command) is not measured where it is not installed.

    python -m benchmarks.import_time
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.reporting import result

RUNS = 15
DISTRIBUTIONS_MAX = 25
IMPORT_CPU_MS_MAX = 150
HELP_WALL_MS_MAX = 300


def main() -> None:
    """Print one line per figure."""
    bare = min(cpu_ms("pass") for _ in range(RUNS))
    ours = min(cpu_ms("import assent") for _ in range(RUNS))
    print(f"python -c pass       {bare:7.1f} ms CPU  (yardstick)")
    print(f"import assent        {ours:7.1f} ms CPU  {ours / bare:.2f} × the yardstick; limit {IMPORT_CPU_MS_MAX} ms")
    result("CPU of `import assent`", ours, unit="ms", at_most=IMPORT_CPU_MS_MAX)
    try:
        distributions = len(core())
    except metadata.PackageNotFoundError:
        print("core distributions   not measured: the package is not installed here")
    else:
        print(f"core distributions   {distributions:7d}         limit {DISTRIBUTIONS_MAX}")
        result("distributions of the core", distributions, unit="distributions", at_most=DISTRIBUTIONS_MAX)
    command = shutil.which("assent", path=str(Path(sys.executable).parent))
    if command is None or subprocess.run([command, "--help"], capture_output=True, check=False).returncode != 0:
        print("assent --help        not measured: the command does not run here")
        return
    wall = min(wall_ms([command, "--help"]) for _ in range(RUNS))
    floor = min(wall_ms([sys.executable, "-c", "pass"]) for _ in range(RUNS))
    print(
        f"assent --help        {wall:7.1f} ms wall {wall / floor:.2f} × a bare interpreter; limit {HELP_WALL_MS_MAX} ms"
    )
    result("wall time of `assent --help`", wall, unit="ms", at_most=HELP_WALL_MS_MAX)


def cpu_ms(code: str) -> float:
    """User and system time of a child that runs `code`, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def wall_ms(command: list[str]) -> float:
    """Wall time of one run of `command`, in milliseconds."""
    started_ns = time.perf_counter_ns()
    subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter_ns() - started_ns) / 1e6


def core() -> set[str]:
    """The distributions that installing the package without extras brings, as installed metadata tells."""
    found: set[str] = set()
    queue = ["assent"]
    while queue:
        for requirement in map(Requirement, metadata.requires(queue.pop()) or ()):
            name = canonicalize_name(requirement.name)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and name not in found:
                found.add(name)
                queue.append(name)
    return found


if __name__ == "__main__":
    main()
