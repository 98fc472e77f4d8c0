"""Guests: a real order runs in a real one, and what does not boot, or is not what it says, is no microvm."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.sandboxes import guest_image, kernels
from assent.execution.adapters.sandboxes.microvm import guest_properties
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import ProcessOrder
from assent.primitives.errors import Unavailable
from tests.components import need
from tests.execution.lane_world import USERS, processes_with, started_lane
from tests.execution.sites import RealClock

PATIENCE = {"wall_ms": 600_000, "memory_bytes_max": 134_217_728}  # an emulated processor on a busy machine
HERE = {"boot": "b-host", "release": "6.9", "missing": "none", "log": "other"}


@pytest.fixture(scope="module")
def machinery():
    need("qemu-system-x86", "busybox-static", "linux-image-amd64")


@pytest.fixture
def lane():
    """Root's where root runs the tests: the harder of the two, and a guest takes its time."""
    driver = started_lane(USERS[0])
    yield driver
    driver.end()
    shutil.rmtree(driver.state_dir)


def run(lane, order):
    return lane.run(order, floor="microvm")


@pytest.mark.slow
def test_order_runs_in_a_guest_when_its_floor_is_microvm(machinery, lane, place, marker):
    script = "uname -r; cat; echo made > made; echo err >&2; id -u; sh -c 'sleep 600' & exit 3"
    outcome = run(lane, place.order("sh", "-c", script, marker, stdin="aW4K", limits=PATIENCE))
    assert (outcome["code"], outcome["class"]) == ("exit_nonzero", "microvm"), outcome["message"]
    release, told, uid = outcome["value"]["stdout"].splitlines()
    assert release != os.uname().release
    assert (told, outcome["value"]["stderr"], outcome["value"]["exit"]) == ("in", "err\n", 3)
    assert uid != "0"
    assert (place.workspace / "made").read_text() == "made\n"
    assert (place.workspace / "made").stat().st_uid == place.workspace.stat().st_uid
    properties = outcome["evidence"]["attestation"]["properties"]
    assert {properties[name]["known"] for name in ("guest-boot", "guest-kernel", "monitor", "network", "files")} == {
        "observed"
    }
    assert properties["limits"]["known"] == "probed"
    assert processes_with(marker) == []
    ended = run(lane, place.order("sh", "-c", "echo up; sleep 600", limits={**PATIENCE, "output_bytes_max": 1}))
    assert (ended["code"], ended["evidence"]["facts"]["death"]["proved_by"]) == ("output_limit", "pidfd")
    report = lane.ask(do="selftest", mechanism="microvm")
    broken = {probe["name"] for probe in report["probes"] if not probe["held"]}
    # A guest's own kernel may be asked for these: what they reach is that kernel, not the host's.
    assert broken <= {"write_where_only_landlock_forbids", "nest_user_namespace", "set_up_io_uring", "call_bpf",
                      "call_keyctl", "inject_into_terminal", "trace_victim"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("program", ["exit 1", "sleep 600"], ids=["ends", "hangs"])
def test_no_guest_is_claimed_when_the_monitor_does_not_boot_one(machinery, tmp_path, monkeypatch, program):
    monkeypatch.setattr("assent.execution.adapters.sandboxes.microvm.BOOT_WAIT_S", {"kvm": 2.0, "tcg": 2.0})
    (tmp_path / "bin").mkdir()
    made = tmp_path / "bin" / "qemu-system-x86_64"
    made.write_text(f"#!/bin/sh\n{program}\n")
    made.chmod(0o755)
    monkeypatch.setenv("PATH", f"{made.parent}:{os.environ['PATH']}")
    offer, outcome = asyncio.run(_offered(tmp_path))
    assert not offer.works
    assert "did not boot" in offer.reason
    assert outcome.code == "sandbox_failed"


async def _offered(tmp_path):
    lane = ProcessLane(clock=RealClock(), state_dir=tmp_path / "state", mechanism="microvm")
    (tmp_path / "workspace").mkdir()
    order = ProcessOrder(argv=("true",), workspace=str(tmp_path / "workspace"))
    try:
        [offer] = await lane.offers()
        return offer, await lane.carry(order, floor=ConfinementClass.MICROVM, on_event=lambda _: None)
    finally:
        await lane.close()


@pytest.mark.parametrize(
    ("said", "boot", "kernel"),
    [
        ({"nonce": "n", "boot": "b-guest", "release": "6.1"}, "observed", "observed"),
        ({"nonce": "n", "boot": "b-guest", "release": "6.9"}, "observed", "absent"),
        ({"nonce": "n", "boot": "b-host", "release": "6.1"}, "absent", "absent"),
        ({"nonce": "old", "boot": "b-guest", "release": "6.1"}, "absent", "absent"),
        ({"boot": "b-guest", "release": "6.1"}, "absent", "absent"),
        ({}, "absent", "absent"),
    ],
)
def test_guest_proves_itself_only_when_its_first_words_fit(said, boot, kernel):
    found = guest_properties(said, HERE, nonce="n")
    assert (found["guest-boot"].known, found["guest-kernel"].known) == (boot, kernel)


def test_host_is_no_guest_of_its_own():
    here = kernels.answers()
    found = guest_properties({**here, "nonce": "n"}, here, nonce="n")
    assert {one.known for one in found.values()} == {"absent"}


def test_kernel_is_refused_with_a_reason_when_it_lacks_what_a_guest_needs(tmp_path):
    boot, library = tmp_path / "boot", tmp_path / "modules"
    boot.mkdir()
    with pytest.raises(Unavailable, match="it holds none"):
        guest_image.find_kernel(boot=boot, library=library)
    (boot / "vmlinuz-9").touch()
    with pytest.raises(Unavailable, match="no module"):
        guest_image.find_kernel(boot=boot, library=library)
    (library / "9").mkdir(parents=True)
    (library / "9" / "modules.builtin").write_text("kernel/virtio_pci.ko\nkernel/virtio_console.ko\n")
    dep = library / "9" / "modules.dep"
    dep.write_text("a/9p.ko.xz: a/9pnet.ko\n")
    with pytest.raises(Unavailable, match="9pnet_virtio"):
        guest_image.find_kernel(boot=boot, library=library)
    dep.write_text("a/9p.ko.xz: a/9pnet.ko\na/9pnet.ko:\na/9pnet_virtio.ko: a/9pnet.ko\n")
    found = guest_image.find_kernel(boot=boot, library=library)
    assert [Path(path).name for path in found.modules] == ["9pnet.ko", "9p.ko.xz", "9pnet_virtio.ko"]


@pytest.mark.slow
def test_initial_file_system_is_an_archive_that_others_read(machinery, tmp_path):
    made = guest_image.archive(guest_image.find_kernel(), python="/usr/bin/python3", guest="/x/guest.py", needed=["/x"])
    said = subprocess.run(["busybox", "cpio", "-t"], input=made, capture_output=True, check=True).stdout.decode()
    assert {"init", "bin/busybox", "modules", "proc"} <= set(said.split())
    assert b"/x/guest.py" in made
