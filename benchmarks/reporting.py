"""What the benchmarks share around the measuring: arguments, a folder on a real disk, and how results are printed.

A result ends with a line that people and `run_all` read:

    ratio 7.1 ×  target ≥ 6 ×  met  what was compared with what
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.windows import Window, middle

HERE = Path(__file__).resolve().parent
RESULT = re.compile(r"ratio (?P<ratio>.+?)  target (?P<target>.+?)  (?P<end>met|missed|—)  (?P<about>.+)")
_IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser for the arguments that every benchmark takes; its help is the script's own docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter windows: does it run at all?")
    parser.add_argument(
        "--folder", type=Path, default=HERE.parent / "build" / "bench", help="where databases are put (a real disk)"
    )
    return parser


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A fresh folder below `parent`, removed afterwards. What lives in memory is refused: a flush there is no flush."""
    parent.mkdir(parents=True, exist_ok=True)
    kind = _file_system(parent)
    if kind in _IN_MEMORY:
        sys.exit(f"`{parent}` lives in memory ({kind}), so nothing there is durable: choose another with --folder")
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        _print_machine(Path(folder), kind)
        yield Path(folder)


def row(name: str, windows: list[Window]) -> None:
    """Print one arm's medians."""
    rates = [window.rate for window in windows]
    spread = f"{min(rates):,.0f}–{max(rates):,.0f}"
    print(
        f"  {name:<44} {middle(windows, lambda w: w.rate):>9,.0f}/s  ({spread:>15})"
        f"  p50 {middle(windows, lambda w: w.p50_ms):7.3f} ms  p99 {middle(windows, lambda w: w.p99_ms):7.2f} ms"
        f"  {middle(windows, lambda w: w.cpu_us):6.0f} μs CPU"
    )


def result(
    about: str, value: float, *, unit: str = "×", at_least: float | None = None, at_most: float | None = None
) -> None:
    """Print a closing line. Without a target the figure is for information."""
    target, end = "none", "—"
    if at_least is not None:
        target, end = f"≥ {at_least:,g} {unit}", "met" if value >= at_least else "missed"
    if at_most is not None:
        target, end = f"≤ {at_most:,g} {unit}", "met" if value <= at_most else "missed"
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    print(f"ratio {text} {unit}  target {target}  {end}  {about}", flush=True)


def _print_machine(folder: Path, kind: str) -> None:
    print(
        f"  {platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()},"
        f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {kind}, 4 KiB append and flush p50"
        f" {_flush_ms(folder):.3f} ms"
    )


def _flush_ms(folder: Path) -> float:
    """What one small durable write costs here: the floor under everything that is durable."""
    taken = []
    descriptor = os.open(folder / "probe", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for _ in range(200):
            began_s = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began_s)
    finally:
        os.close(descriptor)
        (folder / "probe").unlink()
    return 1e3 * statistics.median(taken)


def _file_system(folder: Path) -> str:
    """The kind of file system that `folder` is on, from the mount table."""
    kind, longest, place = "unknown", 0, f"{folder.resolve()}/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        point = fields[4].rstrip("/") + "/"
        if place.startswith(point) and len(point) >= longest:
            kind, longest = fields[fields.index("-") + 1], len(point)
    return kind
