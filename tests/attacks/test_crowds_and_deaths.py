"""Many attackers at once, and the deaths of those who watch them: nobody disturbs anybody, and nobody is left."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assent.execution.adapters.sandboxes import namespaces
from assent.execution.adapters.sandboxes.gate import Gate
from assent.execution.outcomes import Ending
from assent.primitives.errors import Unavailable
from tests.attacks.scene import LIMITS
from tests.attacks.test_sandbox_attacks import scene_of
from tests.attacks.world import SOURCES, PlantedLane
from tests.execution.lane_world import Place, eventually, processes_with

CROWD = 40
SEVERAL = 5
EACH_TRIES = (
    "read_inherited_descriptors", "write_outside", "create_outside", "read_key", "read_own_record", "climb_by_proc",
    "environment_of_victim", "list_processes", "signal_victim", "signal_everybody", "attack_process_one",
    "connect_tcp_loopback", "connect_path_in_workspace", "connect_abstract", "send_by_a_socket_pair",
    "nest_user_namespace", "inherit_environment", "bomb_threads", "bomb_disk_in_tmp", "bomb_forks",
)  # fmt: skip
# Daemon children and all: up, then never done.
LASTING = "setsid sleep 600 & (trap '' TERM; sleep 600) & echo up; sleep 600"


@pytest.mark.slow
def test_forty_attackers_get_nowhere_and_do_not_disturb_each_other_when_they_run_at_once(lane, marker):
    with scene_of(lane) as scene:
        orders = [scene.attack(*EACH_TRIES, marker=marker) for _ in range(CROWD)]
        outcomes = lane.carry(*orders)["outcomes"]
        assert [one["code"] for one in outcomes] == ["ok"] * CROWD
        assert [scene.broken(one["value"]["stdout"]) for one in outcomes] == [{}] * CROWD
        # Every bomb reached its own cap: no sandbox took processes from another's.
        forked = [int(one["value"]["stdout"].split()[1]) for one in outcomes]
        assert forked == [LIMITS["processes_max"] - 1] * CROWD
        assert (scene.victim.poll(), scene.mortal.poll()) == (None, None)
        rooms = [one["evidence"]["facts"]["namespaces"]["pid"] for one in outcomes]
        assert all(rooms)
    assert processes_with(marker) == []


def ended(pid: int) -> bool:
    """Whether a process runs no more; who should collect it is nobody of ours."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.fixture
def crowd(mortal_lane: PlantedLane, place: Place, marker: str) -> PlantedLane:
    """A lane with five sandboxes at work, each with children that will not go by themselves."""
    orders = [place.order("sh", "-c", LASTING, env={"MARKER": marker}) for _ in range(SEVERAL)]
    mortal_lane.tell(do="carry", orders=orders, floor="namespaced")
    assert eventually(lambda: len(processes_with(marker)) >= SEVERAL * 4)
    return mortal_lane


@pytest.mark.slow
def test_every_outcome_is_unknown_and_nobody_is_left_when_the_spawner_is_killed(crowd, place, marker):
    os.kill(crowd.spawner_pid, signal.SIGKILL)
    outcomes = crowd.answer()["outcomes"]
    assert [(one["ending"], one["code"]) for one in outcomes] == [(Ending.UNKNOWN, "spawner_lost")] * SEVERAL
    assert processes_with(marker) == []
    assert crowd.run(place.order("true"))["code"] == "ok"


@pytest.mark.slow
def test_nobody_is_left_when_the_assent_process_is_killed(crowd, marker):
    spawner = crowd.spawner_pid
    crowd.kill()
    assert eventually(lambda: processes_with(marker) == [])
    assert eventually(lambda: ended(spawner))


@pytest.mark.slow
def test_nobody_is_left_when_the_assent_process_is_killed_and_the_spawner_hangs(crowd, marker):
    spawner = crowd.spawner_pid
    os.kill(spawner, signal.SIGSTOP)
    try:
        crowd.kill()
        assert eventually(lambda: processes_with(marker) == [])
    finally:
        os.kill(spawner, signal.SIGCONT)
    assert eventually(lambda: ended(spawner))


@pytest.mark.slow
def test_run_ends_as_it_would_and_the_next_one_waits_when_the_spawner_is_stopped(mortal_lane, place, marker):
    go = place.workspace / "go"
    waiting = "echo up; until [ -e go ]; do sleep 0.02; done; echo over"
    mortal_lane.tell(
        do="carry", orders=[place.order("sh", "-c", waiting, marker)], floor="namespaced", announce=True
    )  # fmt: skip
    assert mortal_lane.answer()["heard"] == "up\n"
    spawner = mortal_lane.spawner_pid
    os.kill(spawner, signal.SIGSTOP)
    go.touch()
    assert mortal_lane.answer()["outcomes"][0]["value"]["stdout"] == "up\nover\n"
    mortal_lane.tell(do="carry", orders=[place.order("echo", "next")], floor="namespaced")
    os.kill(spawner, signal.SIGCONT)
    assert mortal_lane.answer()["outcomes"][0]["value"]["stdout"] == "next\n"
    assert processes_with(marker) == []


def test_building_is_given_up_in_time_when_the_spawner_never_answers(monkeypatch):
    monkeypatch.setattr(namespaces, "BUILD_WAIT_S", 0.05)

    async def built():
        gate = Gate()
        try:
            await namespaces._at_the_gate(gate)
        finally:
            gate.close()

    with pytest.raises(Unavailable) as caught:
        asyncio.run(built())
    assert caught.value.code == "sandbox_failed"


@pytest.mark.slow
def test_sandbox_is_ended_when_its_workspace_is_removed_under_it(lane, place, marker):
    program = "echo up; until [ ! -e here ]; do sleep 0.02; done; touch again; sleep 600"
    (place.workspace / "here").touch()
    order = place.order("sh", "-c", program, marker, limits={"wall_ms": 900})
    lane.tell(do="carry", orders=[order], floor="namespaced", announce=True)
    assert lane.answer()["heard"] == "up\n"
    shutil.rmtree(place.workspace)
    assert lane.answer()["outcomes"][0]["code"] == "wall_limit"
    place.workspace.mkdir()
    assert list(place.workspace.iterdir()) == []
    assert processes_with(marker) == []


def test_warden_is_closed_to_the_program_before_there_is_one():
    """Under load the program may be at work before its warden runs again; whatever shuts it out must stand by then."""
    program = (
        "import ctypes, os\n"
        "from assent.execution.adapters.sandboxes import warden\n"
        "def fork():\n"
        "    print('dumpable', ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)\n"  # PR_GET_DUMPABLE
        "    os._exit(0)\n"
        "os.fork = fork\n"
        "warden.split({}, None)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": SOURCES}
    )
    assert said.stdout == "dumpable 0\n"
