"""The core stays light: few distributions, all of them locked, and none of the heavy ones loaded by `import assent`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repo.sources import ROOT, project, text

DISTRIBUTIONS_MAX = 25
LOADED_WHEN_USED = ("cedarpy", "cryptography", "cyclopts", "httpx2", "rich", "asyncio", "sqlite3")

CORE = [Requirement(line) for line in project()["project"]["dependencies"]]


def test_core_dependencies_pull_in_at_most_25_distributions() -> None:
    found = _closure(CORE)
    assert len(found) <= DISTRIBUTIONS_MAX, f"{len(found)} distributions: {sorted(found)}"


def test_core_lock_holds_exactly_what_the_core_pulls_in() -> None:
    # What only another Python or platform needs may be locked as well, what this one needs must be.
    assert _closure(CORE) <= set(_locked("core"))


@pytest.mark.parametrize("lock", ["core", "dev"])
def test_lock_satisfies_the_declared_dependencies_and_hashes_all_files(lock: str) -> None:
    wanted = (
        CORE if lock == "core" else [*CORE, *map(Requirement, project()["project"]["optional-dependencies"]["dev"])]
    )
    locked = _locked(lock)
    for requirement in wanted:
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])
    blocks = re.split(r"\n(?=[a-z0-9])", text(ROOT / f"requirements/{lock}.lock"))[1:]
    assert len(blocks) == len(locked)
    assert all("--hash=sha256:" in block for block in blocks)


def test_locks_agree_on_every_version() -> None:
    dev = _locked("dev")
    assert {name: dev[name] for name in _locked("core")} == _locked("core")


def test_policy_engine_is_pinned_to_one_version() -> None:
    (cedar,) = [r for r in CORE if r.name == "cedarpy"]
    assert [s.operator for s in cedar.specifier] == ["=="]


def test_bench_yardsticks_are_not_locked() -> None:
    bench = {canonicalize_name(Requirement(r).name) for r in project()["project"]["optional-dependencies"]["bench"]}
    assert not bench & set(_locked("dev"))


def test_import_assent_loads_nothing_heavy() -> None:
    code = "import sys, json, assent; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert "assent" in loaded
    assert not set(LOADED_WHEN_USED) & set(loaded)


def _closure(wanted: list[Requirement]) -> set[str]:
    """Names of `wanted` and everything they need here, as their installed metadata says."""
    found: set[str] = set()
    queue = [(requirement, "") for requirement in wanted]
    seen: set[tuple[str, str]] = set()
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.add(name)
        for wanted_extra in {"", *requirement.extras}:
            if (name, wanted_extra) not in seen:
                seen.add((name, wanted_extra))
                queue += [(Requirement(line), wanted_extra) for line in metadata.requires(name) or ()]
    return found


def _locked(lock: str) -> dict[str, str]:
    """Name and version of every distribution in a lock."""
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", text(ROOT / f"requirements/{lock}.lock"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}
