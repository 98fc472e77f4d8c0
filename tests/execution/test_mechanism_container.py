"""Containers: what the runtime says is read back and compared, and a runtime that lies claims nothing."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import msgspec
import pytest

from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.sandboxes import bundle, kernels, seccomp, syscalls
from assent.execution.adapters.sandboxes.leftovers import HeldFolder
from assent.execution.adapters.sandboxes.user_kernel import is_another_kernel
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import ProcessOrder
from tests.components import need
from tests.execution.lane_world import DAEMON, eventually, processes_with
from tests.execution.sites import RealClock

pytestmark = pytest.mark.slow
# By the name of a runtime with a kernel of its own, and the host's kernel all the same.
PRETENDER = """#!/bin/sh
words=""
for word in "$@"; do
  case "$word" in
    --rootless|--ignore-cgroups|--network=none|--pass-fd=*) ;;
    run) words="$words run --preserve-fds 5" ;;
    *) words="$words $word" ;;
  esac
done
exec {runc} $words
"""


@pytest.fixture(scope="module", autouse=True)
def runtime():
    need("runc")


@pytest.fixture
def owned(lane, place):
    if lane.user == "root":
        place.own(60_001)
    return place


def run(lane, order, **options):
    return lane.run(order, floor="container", mechanism="container", **options)


def test_container_is_read_back_when_a_program_runs_in_one(lane, owned):
    outcome = run(lane, owned.order("sh", "-c", "id -u; echo made > made; cat /proc/1/comm; ls /"))
    assert (outcome["code"], outcome["class"]) == ("ok", "container"), outcome["message"]
    properties = outcome["evidence"]["attestation"]["properties"]
    assert {properties[name]["known"] for name in ("runtime-state", "image", "files", "user")} == {"observed"}
    assert properties["user"]["value"] != "uid 0"
    assert outcome["value"]["stdout"].splitlines()[0] == "0"  # the container's own root, who is nobody outside
    made = (owned.workspace / "made").stat()
    assert made.st_uid == owned.workspace.stat().st_uid


def test_nothing_is_left_when_containers_ended(lane, owned, marker):
    for order in (
        owned.python(DAEMON, marker),
        owned.python(DAEMON + "import time; time.sleep(600)", marker, limits={"wall_ms": 900}),
    ):
        run(lane, order)
        assert processes_with(marker) == []
    lane.ask(do="forget")
    found = Path("/tmp").glob("assent-container-*/*/bundle/config.json")
    assert not [path for path in found if str(owned.workspace) in path.read_text()]


def test_container_ends_when_its_supervisor_is_killed(mortal_lane, place, marker):
    if mortal_lane.user == "root":
        place.own(60_001)
    order = place.python("import time; print('up', flush=True); time.sleep(600)", marker)
    mortal_lane.tell(do="carry", orders=[order], floor="container", mechanism="container", announce=True)
    assert json.dumps(mortal_lane.answer())
    mortal_lane.kill()
    assert eventually(lambda: processes_with(marker) == [])


def test_folder_goes_with_its_maker_and_not_before(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    held = HeldFolder("assent-x-")
    (held.within() / "file").touch()
    child = os.fork()
    if child == 0:  # a node that is killed with its folder in use
        HeldFolder("assent-x-")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 2
    second = HeldFolder("assent-x-")
    assert set(tmp_path.iterdir()) == {held.path, second.path}
    for one in (held, second, held):
        one.remove()
    assert list(tmp_path.iterdir()) == []


def test_bundle_says_what_the_format_can_of_our_filter_when_it_is_written(tmp_path):
    spec = {"folders": [("/etc", 0o755)], "files": [("/etc/hosts", b"x")], "links": [("usr/bin", "/bin")],
            "mounts": [("/usr", "path", "/usr", False, None), ("/tmp", "tmpfs", 4096, True, None)]}  # fmt: skip
    said = bundle.write(tmp_path, spec, ["true"], owner=(60_001, 60_001))
    assert said == bundle.digest_of(tmp_path)
    made = json.loads((tmp_path / bundle.CONFIGURATION).read_text())
    refused, missing = seccomp.named_refusals(syscalls.MACHINE)
    rules = {(rule["errnoRet"], name) for rule in made["linux"]["seccomp"]["syscalls"] for name in rule["names"]}
    assert rules == {(1, name) for name in [*refused, "clone"]} | {(38, name) for name in missing}
    assert not any(made["process"]["capabilities"].values())
    assert made["root"]["readonly"]
    assert {one["type"] for one in made["linux"]["namespaces"]} == {
        "pid", "network", "ipc", "uts", "mount", "user", "cgroup"}  # fmt: skip
    usr = next(one for one in made["mounts"] if one["destination"] == "/usr")
    assert {"ro", "nosuid", "nodev"} <= set(usr["options"])


def test_user_kernel_is_not_claimed_when_runsc_is_only_a_name(tmp_path, monkeypatch):
    """The one thing of this class that can be tried without the real program: a liar by its name is not believed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    runc = next(found for found in ("/usr/sbin/runc", "/usr/bin/runc") if Path(found).exists())
    (folder / "runsc").write_text(PRETENDER.format(runc=runc))
    (folder / "runsc").chmod(0o755)
    for step in (folder, *folder.parents):
        if step.stat().st_uid == os.getuid() and not step.stat().st_mode & stat.S_IXOTH and step != Path("/root"):
            step.chmod(step.stat().st_mode | 0o055)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    offer, outcome, ran = asyncio.run(_offered(tmp_path))
    assert offer.works, offer.reason
    assert offer.attestation.properties["runtime-state"].known == "observed"
    assert offer.attestation.properties["sentry"].known == "absent"
    assert offer.held == (ConfinementClass.LOCAL_WEAK,)
    assert (outcome.code, ran) == ("confinement_unmet", False)
    assert "sentry" in outcome.message


async def _offered(tmp_path):
    lane = ProcessLane(clock=RealClock(), state_dir=tmp_path / "state", mechanism="user-kernel")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    try:
        [offer] = await lane.offers()
        outcome = await lane.carry(
            ProcessOrder(argv=("touch", "ran"), workspace=str(workspace)),
            floor=ConfinementClass.USER_KERNEL,
            on_event=lambda _: None,
        )
    finally:
        await lane.close()
    return offer, outcome, (workspace / "ran").exists()


@pytest.mark.parametrize(
    ("answers", "believed"),
    [
        ({"release": "4.4.0", "boot": "none", "missing": "process_mrelease", "log": "gvisor"}, True),
        ({"release": "4.4.0", "boot": "none", "missing": "process_mrelease", "log": "other"}, False),
        ({"release": "4.4.0", "boot": "none", "missing": "none", "log": "gvisor"}, False),
        ({"release": "", "boot": "none", "missing": "process_mrelease", "log": "gvisor"}, False),
        ({"log": "gvisor", "missing": "process_mrelease"}, False),
        ({}, False),
    ],
)
def test_kernel_is_another_only_when_every_sign_says_so(answers, believed):
    assert is_another_kernel(answers, kernels.answers()) is believed


def test_kernel_is_not_another_when_it_is_this_one():
    here = kernels.answers()
    assert not is_another_kernel({**here, "log": "gvisor"}, here)
    assert kernels.read_word(kernels.word().decode()[2:]) == kernels.answers()
    assert msgspec.json.encode(here)
