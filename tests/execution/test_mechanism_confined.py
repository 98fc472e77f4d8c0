"""The mechanism without namespaces: what its fence refuses, how that is known, and what its watcher leaves behind."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import pytest

from assent.execution.adapters.sandboxes import fence, landlock, seccomp, syscalls
from tests.execution.lane_world import DAEMON, eventually, processes_with

pytestmark = pytest.mark.slow
MANY = """
import os, socket, sys
from pathlib import Path
canary, owner, number = sys.argv[1], os.getuid(), int(sys.argv[2])
def refused(deed):
    try:
        deed()
    except OSError as error:
        return type(error).__name__
    return "done"
print({
    "mode": refused(lambda: os.chmod(canary, 0o600)), "owner": refused(lambda: os.chown(canary, owner, -1)),
    "times": refused(lambda: os.utime(canary)), "times_here": refused(lambda: os.utime("here")),
    "attribute": refused(lambda: os.setxattr(canary, "user.x", b"y")), "cut": refused(lambda: os.truncate(canary, 0)),
    "mode_by_descriptor": refused(lambda: os.fchmod(os.open("here", os.O_RDWR), 0o700)),
    "priority": refused(lambda: os.setpriority(os.PRIO_PROCESS, number, 5)),
    "affinity": refused(lambda: os.sched_setaffinity(number, {0})),
    "own_affinity": refused(lambda: os.sched_setaffinity(0, os.sched_getaffinity(0))),
    "memory": refused(lambda: open("/proc/meminfo").read()), "own": refused(lambda: open("/proc/self/status").read()),
    "tmp": refused(lambda: open("/tmp/planted-by-%d" % number, "w")), "list": refused(lambda: os.listdir("/proc")),
    "of_another": refused(lambda: open("/proc/%d/status" % number).read()),
    "home": refused(lambda: Path(os.environ["HOME"], "made").write_text("x")),
    "socket": refused(lambda: socket.socket(socket.AF_UNIX)),
})
"""


@pytest.fixture
def owned(lane, place):
    """A place whose owner is no root."""
    if lane.user == "root":
        place.own(60_001)
    return place


def run(lane, order, **options):
    return lane.run(order, floor="confined", mechanism="confined", **options)


def test_attestation_says_what_was_tried_and_what_is_open_when_a_program_is_fenced(lane, owned):
    outcome = run(lane, owned.order("true"))
    assert (outcome["code"], outcome["class"]) == ("ok", "confined")
    properties = outcome["evidence"]["attestation"]["properties"]
    tried = {name for name, one in properties.items() if one["known"] == "probed"}
    assert tried >= {"files", "network", "other-processes", "landlock"}
    assert {"process-namespace", "private-root", "network-namespace"} <= {
        name for name, one in properties.items() if one["known"] == "absent"
    }
    assert properties["user"]["known"] == "observed"
    assert properties["user"]["value"] != "uid 0"


def test_what_landlock_does_not_govern_is_refused_by_the_second_filter_when_it_is_tried(lane, owned):
    (owned.workspace / "here").write_text("x")
    if os.geteuid() == 0:
        os.chown(owned.workspace / "here", *owned.workspace.stat()[4:6])
    before = owned.canary.stat()
    outcome = run(lane, owned.python(MANY, str(owned.canary), str(os.getpid())))
    assert outcome["code"] == "ok", outcome["value"]
    said = eval(outcome["value"]["stdout"])
    done = {name for name, how in said.items() if how == "done"}
    assert done == {"mode_by_descriptor", "own_affinity", "memory", "own", "home"}
    after = owned.canary.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)


def test_no_number_is_both_refused_and_needed_when_the_second_filter_is_made():
    words = [struct.unpack_from("=HBBI", fence.program(), at) for at in range(0, len(fence.program()), 8)]
    numbers = [value for code, _, _, value in words if code == 0x15]
    assert len(fence._REFUSED["x86_64"]) + len(fence._REFUSED_EVERYWHERE) <= len(numbers)
    assert set(fence._REFUSED["x86_64"]) >= set(
        fence._REFUSED["aarch64"]
    )  # the newer table has no call the older lacks
    refused, missing = seccomp.named_refusals(syscalls.MACHINE)
    assert not {*refused, *missing} & {*fence._REFUSED[syscalls.MACHINE], *fence._REFUSED_EVERYWHERE}


def test_scratch_folder_is_gone_when_the_program_ended_however(lane, owned, marker):
    left = "mkdir -p $HOME/a/b; echo x > $HOME/a/b/c; chmod 0 $HOME; ln -s / $HOME/link; echo $HOME"
    for script, limits in ((left, {}), (left + "; sleep 60", {"wall_ms": 5_000})):
        outcome = run(lane, owned.order("sh", "-c", script, limits=limits))
        folder = outcome["value"]["stdout"].splitlines()[0]
        assert Path(folder).name.startswith("assent-scratch-")
        assert not Path(folder).exists()


def test_nothing_is_left_when_the_supervisor_is_killed(mortal_lane, place, marker):
    if mortal_lane.user == "root":
        place.own(60_001)
    order = place.python(DAEMON + "import os, time; print(os.environ['HOME'], flush=True); time.sleep(600)", marker)
    mortal_lane.tell(do="carry", orders=[order], floor="confined", mechanism="confined", announce=True)
    mortal_lane.answer()
    assert processes_with(marker)
    mortal_lane.kill()
    assert eventually(lambda: processes_with(marker) == [])
    assert eventually(lambda: not _scratch_of(marker))


def _scratch_of(marker):
    return [name for name in processes_with("sandboxes import stage") if name in processes_with(marker)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR1])
def test_watcher_lives_when_its_program_attacks_it(lane, owned, number):
    program = "import os, sys; os.kill(os.getppid(), int(sys.argv[1]))"
    outcome = run(lane, owned.python(program, str(int(number))))
    assert outcome["code"] == "exit_nonzero"
    assert "PermissionError" in outcome["value"]["stderr"]


def test_daemon_and_respawner_are_gone_when_the_program_ends(lane, owned, marker):
    respawner = """
import os, sys, time
if os.fork() == 0:
    while True:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        time.sleep(0.005)
time.sleep(0.3)
"""
    for program in (DAEMON, respawner):
        outcome = run(lane, owned.python(program, marker, limits={"processes_max": 12}))
        assert outcome["code"] == "ok"
        assert outcome["evidence"]["facts"]["death"]["proved_by"] == "pidfd"
        assert processes_with(marker) == []


def test_tree_is_ended_when_it_holds_too_much_memory_together(lane, owned):
    program = "import mmap,time\nm=mmap.mmap(-1,2**28)\nfor i in range(0,len(m),4096): m[i]=1\ntime.sleep(5)"
    outcome = run(lane, owned.python(program, limits={"memory_bytes_max": 134_217_728}))
    assert (outcome["code"], outcome["evidence"]["limit"]) == ("memory_limit", "memory")


@pytest.mark.parametrize(
    "program",
    ["for n in range(4): open(str(n), 'wb').write(bytes(3_000_000))",
     "for n in range(5000): os.mkdir(str(n))"],
    ids=["bytes", "entries"],
)  # fmt: skip
def test_run_is_ended_when_it_fills_its_scratch_folder(lane, owned, program):
    program = f"import os, time\nos.chdir(os.environ['HOME'])\n{program}\ntime.sleep(20)"
    outcome = run(lane, owned.python(program, limits={"file_bytes_max": 4_194_304}))
    assert (outcome["code"], outcome["evidence"]["limit"]) == ("disk_limit", "disk")


def test_nothing_runs_when_the_workspace_is_roots(lane, place):
    if lane.user != "root":
        assert run(lane, place.order("true"))["code"] == "ok"
        return
    place.own(0)
    outcome = run(lane, place.order("touch", "ran"))
    assert (outcome["code"], outcome["ending"]) == ("sandbox_failed", "failed")
    assert "ordinary user" in outcome["message"]
    assert not (place.workspace / "ran").exists()


def test_stage_says_nothing_was_refused_when_nothing_is_restricted(monkeypatch):
    """The proof is an attempt: where Landlock does nothing, it says so, whatever the calls returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(landlock, "restrict", lambda **_: None)
        monkeypatch.setattr(seccomp, "install", lambda _program: None)
        os.write(writing, fence.enter({"landlock": 7, "readable": [], "writable": [], "devices": []}))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 200) == b"L "
    os.close(reading)
    os.close(writing)
