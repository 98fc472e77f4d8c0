"""The python lane in a process of its own, as root and as an ordinary user: whose files are made, and who survives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.execution.lane_world import Lane, Place, eventually, processes_with
from tests.execution.python_world import children_of

pytestmark = pytest.mark.slow


def order(place: Place, source: str, **fields: Any) -> dict[str, Any]:
    return {"type": "python", "source": source, "workspace": str(place.workspace), **fields}


def test_call_and_session_are_carried_and_files_belong_to_the_workspaces_owner(lane: Lane, place: Place) -> None:
    made = "open('made', 'w').write('x')\nimport os\nos.getuid()"
    fresh, first, second = lane.ask(
        do="python",
        orders=[order(place, made), order(place, "n = 1", session="s"), order(place, "n + 1", session="s")],
    )
    assert [one["code"] for one in (fresh, first, second)] == ["ok"] * 3
    assert second["value"]["result"] == 2
    assert fresh["value"]["result"] not in (0, None)
    owner, found = place.workspace.stat(), (place.workspace / "made").stat()
    assert (found.st_uid, found.st_gid) == (owner.st_uid, owner.st_gid)
    assert fresh["evidence"]["attestation"]["properties"]["user"]["known"] == "observed"


def test_secret_beside_the_workspace_is_not_there_and_nothing_is_inherited(lane: Lane, place: Place) -> None:
    source = f"import os\n(os.path.exists({str(place.canary)!r}), 'PLANTED' in os.environ, os.listdir('..'))"
    (outcome,) = lane.ask(do="python", orders=[order(place, source)])
    assert outcome["value"]["result"] == [False, False, ["workspace"]]


def test_nothing_survives_when_the_node_is_killed(mortal_lane: Lane, place: Place, marker: str) -> None:
    daemon = (
        "import os, subprocess\n"
        f"subprocess.Popen(['sleep', '600'], env={{'MARKER': {marker!r}}}, start_new_session=True)\n"
        "open('began', 'w').close()\n"
    )
    mortal_lane.ask(do="python", orders=[order(place, daemon, session="s")])
    mortal_lane.tell(do="python", orders=[order(place, daemon + "import time\ntime.sleep(600)")])
    below = children_of(mortal_lane.pid)
    assert eventually(lambda: len(processes_with(marker)) == 2)
    mortal_lane.kill()
    assert eventually(lambda: processes_with(marker) == [])
    assert eventually(lambda: not [pid for pid in below if Path(f"/proc/{pid}").exists() and _is_python(pid)])


def _is_python(pid: int) -> bool:
    """Whether the process still is one of ours, and not another that has its number by now."""
    try:
        return b"sandboxes" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.getpgid(pid) > 0
    except OSError:
        return False
