"""Every probe of the attack list, tried for real inside the lane and checked from outside, as root and as an ordinary
user; and tried where nothing confines it, which proves that the check would see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attacks.scene import LIMITS, PLANTED, PROBES, Scene
from tests.attacks.world import EXECUTION, SOURCES, PlantedLane
from tests.execution.lane_world import DEADLINE_S, processes_with
from tests.execution.ordinary_user import ORDINARY_UID

ALONE = ("bomb_forks", "bomb_memory", "bomb_shared_memory")  # they may end the run
TOGETHER = tuple(name for name in PROBES if name not in ALONE)
THIRD_UID = 60_001
# What succeeds for any user of any machine where nothing is in the way.
WON_WHEN_WEAK = {
    "write_outside", "create_outside", "write_through_link", "read_key", "read_own_record", "climb_by_proc",
    "climb_by_folders", "hard_link_outside", "move_the_workspace", "make_set_id_file", "environment_of_victim",
    "list_processes", "signal_victim", "connect_tcp_loopback", "connect_tcp_interface", "send_udp_loopback",
    "connect_path_outside", "connect_path_in_workspace", "send_path_in_workspace", "send_by_a_socket_pair",
    "connect_abstract", "open_netlink", "open_other_devices", "hide_memory", "write_to_terminal",
}  # fmt: skip
# What depends on the machine's settings, or on a container around the tests.
MAY_WIN_WHEN_WEAK = {
    "open_by_handle", "trace_victim", "read_memory_of_victim", "read_memory_file_of_victim", "open_vsock",
    "take_descriptor_of_victim", "enter_namespaces_of_one", "nest_user_namespace", "mount_something", "call_bpf",
    "mount_by_new_calls", "set_up_io_uring", "call_keyctl", "call_userfaultfd", "open_perf", "open_kvm",
    "speak_another_dialect", "read_shadow", "write_cgroup", "raise_disk_priority",
}  # fmt: skip
WON_WHEN_BARE = {
    "inherit_environment", "read_inherited_descriptors", "gain_privileges", "bomb_forks", "bomb_threads",
    "bomb_memory", "bomb_shared_memory", "bomb_descriptors", "bomb_disk_in_tmp", "bomb_disk_in_workspace",
    "bomb_inodes_in_tmp",
}  # fmt: skip
A_LITTLE_MORE = {"memory_tried": 150_994_944, "disk_tried": 20_971_520, "inodes_tried": 17_000}


@contextmanager
def scene_of(lane: PlantedLane) -> Iterator[Scene]:
    """A scene whose victims have the very user that the lane's programs get."""
    here = Scene(owner=lane.uid, attacker=lane.uid)
    said = lane.run(here.order("id", "-u"))["value"]["stdout"]
    here.clear()
    made = Scene(owner=lane.uid, attacker=int(said))
    try:
        yield made
    finally:
        made.clear()


@pytest.fixture
def scene(lane: PlantedLane) -> Iterator[Scene]:
    with scene_of(lane) as made:
        yield made


@pytest.fixture(scope="module")
def assault(lane: PlantedLane) -> Iterator[dict[str, str]]:
    """What got anywhere when everything was tried in one sandbox."""
    with scene_of(lane) as made:
        outcome = lane.run(made.attack(*TOGETHER))
        assert outcome["code"] == "ok", (outcome["code"], outcome["message"], outcome["value"])
        assert set(json.loads(outcome["value"]["stdout"].splitlines()[-1])) == set(TOGETHER)
        yield made.broken(outcome["value"]["stdout"])


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_probe_gets_nowhere_when_it_is_tried_in_the_sandbox(assault, name):
    assert name not in assault, assault[name]


@pytest.mark.slow
def test_host_is_as_it_was_when_everything_has_been_tried(lane, scene):
    outcome = lane.run(scene.attack(*TOGETHER))
    assert not any(scene.traces().values())
    assert not scene.leaked(outcome["value"]["stdout"] + outcome["value"]["stderr"])
    assert scene.victim.poll() is None
    assert scene.mortal.poll() is None
    left = {path.name for path in scene.workspace.iterdir()}
    assert "hard" not in left
    assert (scene.workspace / "link-to-canary").is_symlink()  # made, and led nowhere


@pytest.mark.slow
def test_fork_bomb_is_counted_at_its_cap_from_outside_when_it_goes_off(lane, scene, marker):
    counted = scene.workspace / "counted"
    order = scene.attack("bomb_forks", marker=marker, counted=str(counted))
    lane.tell(do="carry", orders=[order], floor="namespaced", announce=True)
    forked = int(lane.answer()["heard"].split()[1])
    alive = processes_with(marker)
    counted.touch()
    outcome = lane.answer()["outcomes"][0]
    assert len(alive) == forked + 1 == LIMITS["processes_max"]
    assert outcome["code"] == "ok"
    assert scene.broken(outcome["value"]["stdout"]) == {}
    assert processes_with(marker) == []


@pytest.mark.slow
def test_memory_bomb_stays_below_the_limit_by_the_kernels_count_when_it_goes_off(lane, scene):
    outcome = lane.run(scene.attack("bomb_memory"))
    assert outcome["code"] == "ok"
    assert scene.broken(outcome["value"]["stdout"]) == {}
    assert outcome["evidence"]["facts"]["rusage"]["maxrss_kb"] * 1024 < LIMITS["memory_bytes_max"] * 1.25


@pytest.mark.slow
def test_shared_memory_bomb_is_ended_when_the_tree_holds_too_much(lane, scene):
    outcome = lane.run(scene.attack("bomb_shared_memory"))
    assert (outcome["code"], outcome["evidence"]["limit"]) == ("memory_limit", "memory")


@pytest.mark.slow
def test_probes_win_when_only_the_weak_mechanism_runs_them(lane):
    owner = THIRD_UID if lane.user == "root" else lane.uid
    scene = Scene(owner=owner, attacker=owner)
    try:
        wanted = [name for name in TOGETHER if not name.startswith("bomb")]
        outcome = lane.run(scene.attack(*wanted, confined=False), floor="local-weak", mechanism="local-weak")
        won = set(scene.broken(outcome["value"]["stdout"]))
    finally:
        scene.clear()
    assert outcome["class"] == "local-weak"
    assert won >= WON_WHEN_WEAK
    # What it does promise holds: nothing inherited, no privileges gained, no terminal, no limit lifted.
    assert won <= WON_WHEN_WEAK | MAY_WIN_WHEN_WEAK


@pytest.mark.slow
def test_probes_win_when_a_plain_process_runs_them(tmp_path):
    """What even the weak mechanism stops: inheritance and bombs."""
    as_other = [str(EXECUTION / "ordinary_user.py")] if os.geteuid() == 0 else []
    attacker = ORDINARY_UID if os.geteuid() == 0 else os.getuid()
    scene = Scene(owner=attacker, attacker=attacker)
    planted = os.open(scene.key, os.O_RDONLY)
    try:
        said = subprocess.run(
            [sys.executable, *as_other, str(Path(__file__).parent / "probes.py")],
            input=json.dumps(scene.target(*sorted(WON_WHEN_BARE), confined=False, **A_LITTLE_MORE)),
            capture_output=True,
            text=True,
            check=True,
            pass_fds=(planted,),
            cwd="/",
            timeout=DEADLINE_S,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, "PLANTED": PLANTED},
        )
        assert set(scene.broken(said.stdout)) == WON_WHEN_BARE
    finally:
        os.close(planted)
        scene.clear()
