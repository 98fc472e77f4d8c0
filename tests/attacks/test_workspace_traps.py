"""What one call leaves in the workspace for the next one to fall into, and what takes the workspace's place."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assent.execution.adapters.files.beneath import Mechanism
from assent.execution.adapters.files.lane import FileLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Edit, FileOrder
from assent.execution.outcomes import Ending, Outcome
from tests.attacks.world import PlantedLane
from tests.execution.lane_driver import RealClock
from tests.execution.lane_world import DEADLINE_S, Place

SECRET = "a secret beside the workspace"
# A program that fills the workspace with everything that leads out or does not end.
TRAPS = """
ln -s ../canary file; ln -s .. up; ln -s / root; ln -s loop loop; ln -s /proc/self/cwd here; ln -s /dev/zero endless
ln -s /proc/self/environ environ; mkfifo fifo; mkdir -p deep/er; ln -s ../../.. deep/er/away; ln -s nowhere dangling
mknod device c 1 5; ln ../canary hard; ln /etc/passwd passwd; echo done
"""
LEADING_OUT = ("file", "up/canary", "root/etc/passwd", "here/../canary", "deep/er/away/canary", "environ", "dangling")
NOT_A_FILE = ("loop", "endless", "fifo", "socket")
VERBS = ("read", "write", "append", "edit")


@pytest.fixture
def trapped(lane: PlantedLane, place: Place) -> Iterator[Place]:
    """A workspace in which a jailed program has set every trap it can, and the host one more."""
    outcome = lane.run(place.order("sh", "-c", TRAPS))
    assert outcome["value"]["stdout"] == "done\n"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.workspace / "socket"))
        yield place


def carried(workspace: Path, verb: Any, path: str, mechanism: Mechanism | None = None) -> Outcome:
    """What the file lane does, within a time after which it hangs."""
    order = FileOrder(verb=verb, workspace=str(workspace), path=path, content=b"changed", edit=Edit(old=b"secret"))
    lane = FileLane(clock=RealClock(), mechanism=mechanism)

    async def run() -> Outcome:
        async with asyncio.timeout(DEADLINE_S):
            return await lane.carry(order, floor=ConfinementClass.BUILTIN, on_event=lambda _event: None)

    return asyncio.run(run())


def test_program_makes_no_second_name_and_no_device_when_it_tries(trapped):
    names = {path.name for path in trapped.workspace.iterdir()}
    assert names >= {"file", "up", "root", "fifo"}
    assert not names & {"hard", "passwd", "device"}


@pytest.mark.parametrize("mechanism", ["openat2", "walk"])
@pytest.mark.parametrize("verb", VERBS)
def test_file_operation_does_not_follow_when_a_program_left_a_link(trapped, verb, mechanism):
    for path in LEADING_OUT:
        outcome = carried(trapped.workspace, verb, path, mechanism)
        assert outcome.ending is Ending.FAILED
        assert outcome.code == ("outside_workspace" if ".." in path else "symlink_refused"), path
        assert SECRET not in str(outcome)
    assert trapped.canary.read_text() == SECRET
    assert not (trapped.folder / "nowhere").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_file_operation_neither_waits_nor_opens_when_a_program_left_no_file(trapped, verb):
    for path in NOT_A_FILE:
        outcome = carried(trapped.workspace, verb, path)
        assert outcome.ending is Ending.FAILED, path
        assert outcome.code in ("not_regular", "symlink_refused"), path
    assert stat.S_ISFIFO((trapped.workspace / "fifo").lstat().st_mode)


def test_listing_and_deleting_stay_inside_when_the_workspace_is_full_of_traps(trapped):
    order = FileOrder(verb="list", workspace=str(trapped.workspace), path=".", recursive=True)
    lane = FileLane(clock=RealClock())
    listed = asyncio.run(lane.carry(order, floor=ConfinementClass.BUILTIN, on_event=lambda _event: None))
    names = {entry["name"] for entry in listed.value["entries"]}
    assert {"up", "root", "deep/er/away"} <= names
    assert not any(name.startswith(("up/", "root/", "deep/er/away/")) for name in names)
    for path in ("up", "root", "deep"):
        delete = FileOrder(verb="delete", workspace=str(trapped.workspace), path=path, recursive=True)
        outcome = asyncio.run(lane.carry(delete, floor=ConfinementClass.BUILTIN, on_event=lambda _event: None))
        assert outcome.code == "ok"
    assert trapped.canary.read_text() == SECRET


def test_later_program_gets_nowhere_by_the_links_when_it_follows_them(lane, trapped):
    program = "cat file up/canary here/../canary deep/er/away/canary; echo x >> file; echo x >> up/canary; ls up"
    outcome = lane.run(trapped.order("sh", "-c", program))
    assert SECRET not in outcome["value"]["stdout"]
    assert trapped.canary.read_text() == SECRET
    assert set(outcome["value"]["stdout"].split()) <= {"canary", "workspace", "x"}  # of the private /tmp


@pytest.mark.parametrize("cwd", ["up", "root/etc", "deep/er/away", "here/.."])
def test_program_starts_in_the_private_root_when_its_folder_is_a_link(lane, trapped, cwd):
    outcome = lane.run(trapped.order("sh", "-c", f"cat canary {trapped.canary} /etc/shadow; ls /root /home", cwd=cwd))
    assert outcome["ending"] == Ending.FAILED
    assert SECRET not in str(outcome["value"])


@pytest.mark.parametrize("where", ["the_workspace", "a_folder_above"])
def test_neither_lane_follows_when_the_workspace_was_exchanged_for_a_link(lane, place, where):
    """Between two calls: somebody who may write the folder above decides what the next call would see."""
    above = place.folder / "above"
    (above / "workspace").mkdir(parents=True)
    workspace = above / "workspace"
    order = {**place.order("sh", "-c", "ls; echo x > made"), "workspace": str(workspace)}
    if os.geteuid() == 0:
        for path in (above, workspace):
            os.chown(path, place.uid, place.uid)
    assert lane.run(order)["code"] == "ok"
    prize = place.folder / "prize"
    (prize / "workspace").mkdir(parents=True)
    (prize / "workspace" / "treasure").write_text(SECRET)
    taken = workspace if where == "the_workspace" else above
    shutil.rmtree(taken)
    taken.symlink_to(prize / "workspace" if where == "the_workspace" else prize)
    outcome = lane.run(order)
    assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "order_malformed")
    assert "treasure" not in str(outcome["value"])
    for verb, path in (("read", "treasure"), ("write", "made"), ("list", ".")):
        read = carried(workspace, verb, path)
        assert (read.ending, read.code) == (Ending.FAILED, "workspace_malformed")
    assert [path.name for path in (prize / "workspace").iterdir()] == ["treasure"]


def test_program_cannot_change_its_own_workspaces_place_when_it_tries(lane, place):
    program = (
        f"mv {place.workspace} {place.workspace}-old; rmdir {place.workspace}; ln -sfn /etc {place.workspace};"
        f"mv -T /tmp/x {place.workspace}; cd ..; rm -rf workspace; umount {place.workspace}; ls -d {place.workspace}"
    )
    inode = place.workspace.stat().st_ino
    lane.run(place.order("sh", "-c", program))
    assert place.workspace.lstat().st_ino == inode
    assert not place.workspace.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave a program of root's")
def test_program_of_roots_runs_without_root_when_it_lies_in_the_workspace(lane, place):
    planted = place.workspace / "id"
    shutil.copy("/usr/bin/id", planted)
    planted.chmod(0o6755)
    place.workspace.chmod(0o755)
    outcome = lane.run(place.order("./id"))
    assert outcome["code"] == "ok"
    assert "uid=0" not in outcome["value"]["stdout"]
    assert "euid" not in outcome["value"]["stdout"]
