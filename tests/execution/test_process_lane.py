"""The process lane from outside: what a caller gets back, and what is left on the machine afterwards."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.process.verdicts import verdict as verdict_of
from assent.execution.adapters.sandboxes import supervision
from assent.execution.adapters.sandboxes.gate import Gate
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import HttpOrder, Limits, ProcessOrder
from assent.execution.outcomes import Ending
from assent.primitives.errors import InvariantBroken
from tests.execution.lane_driver import RealClock
from tests.execution.lane_world import DAEMON, eventually, processes_with

QUICK = {"wall_ms": 10_000}


def test_lane_starts_nothing_when_it_is_constructed(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    ProcessLane(clock=None, state_dir=tmp_path / "absent")  # type: ignore[arg-type]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not (tmp_path / "absent").exists()


def test_lane_refuses_as_a_bug_when_the_order_is_another_lanes(tmp_path):
    lane = ProcessLane(clock=None, state_dir=tmp_path)  # type: ignore[arg-type]
    order = HttpOrder(method="GET", url="http://127.0.0.1/", hosts=())
    with pytest.raises(InvariantBroken):
        asyncio.run(lane.carry(order, floor=ConfinementClass.LOCAL_WEAK, on_event=lambda _event: None))


def test_death_is_unproved_when_the_killed_sandbox_does_not_end(monkeypatch):
    monkeypatch.setattr(supervision, "DEATH_WAIT_S", 0.05)
    never_readable, writing = os.pipe()
    sent: list[int] = []
    launch = Launch(gate=Gate(), init_pid=0, init_pidfd=never_readable, program_pid=0)
    monkeypatch.setattr(launch, "_signal", sent.append)

    async def supervised():
        streams = Streams(b"")
        watch = supervision.Supervision(launch=launch, streams=streams, limits=Limits(grace_ms=10), clock=RealClock())
        try:
            return await watch.run(lambda _event: None, wall_left_ms=0)
        finally:
            streams.close()

    ended = asyncio.run(supervised())
    launch.close()
    os.close(writing)
    assert (ended.dead, ended.limit, ended.report) == (False, "wall", None)
    assert sent[:2] == [signal.SIGTERM, signal.SIGKILL]
    verdict = verdict_of(ended, {}, ProcessOrder(argv=("x",), workspace="/w"), spawner_alive=True)
    assert verdict[:2] == (Ending.UNKNOWN, "death_unproved")


def test_program_gives_its_output_and_proof_when_it_succeeds(lane, place):
    outcome = lane.run(place.order("sh", "-c", "echo out; echo err >&2"))
    assert (outcome["ending"], outcome["code"]) == (Ending.SUCCEEDED, "ok")
    assert outcome["value"] == {"exit": 0, "signal": None, "stdout": "out\n", "stderr": "err\n"}
    evidence = outcome["evidence"]
    assert evidence["digests"]["stdout"] == "sha256:" + hashlib.sha256(b"out\n").hexdigest()
    assert evidence["facts"]["argv"] == ["sh", "-c", "echo out; echo err >&2"]
    assert evidence["facts"]["death"] == {"proved_by": "pidfd", "after_kill_ms": 0}
    assert evidence["facts"]["rusage"]["maxrss_kb"] > 0
    assert sorted(outcome["events"]) == [["stderr", 4], ["stdout", 4]]


def test_run_is_namespaced_by_what_was_read_when_it_succeeds(lane, place):
    outcome = lane.run(place.order("true"))
    assert outcome["class"] == "namespaced"
    attestation = outcome["evidence"]["attestation"]
    assert attestation["mechanism"] == "assent-namespaces"
    absent = [name for name, one in attestation["properties"].items() if one["known"] == "absent"]
    assert not absent
    links = outcome["evidence"]["facts"]["namespaces"]
    own = {kind: str(Path("/proc/self/ns", kind).readlink()) for kind in links}
    assert set(links) == {"user", "pid", "mnt", "net", "ipc", "uts", "cgroup"}
    assert all(links[kind] != own[kind] for kind in own)


def test_two_runs_share_no_namespace_when_they_run_at_once(lane, place):
    outcomes = lane.carry(place.order("sleep", "0.05"), place.order("sleep", "0.05"))["outcomes"]
    first, second = (one["evidence"]["facts"]["namespaces"] for one in outcomes)
    assert not set(first.values()) & set(second.values())


def test_program_is_never_root_when_it_runs(lane, place):
    outcome = lane.run(place.order("cat", "/proc/self/status"))
    fields = dict(line.split(":\t", 1) for line in outcome["value"]["stdout"].splitlines() if ":\t" in line)
    assert 0 not in {int(one) for one in fields["Uid"].split()}
    if lane.user == "ordinary":
        assert fields["Uid"].split() == [str(lane.uid)] * 4
    assert {fields[one] for one in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_program_reads_stdin_whole_when_it_is_larger_than_a_pipe(lane, place):
    content = os.urandom(300_000)
    order = place.order("sha256sum", stdin=base64.b64encode(content).decode())
    assert lane.run(order)["value"]["stdout"].split()[0] == hashlib.sha256(content).hexdigest()


def test_output_is_base64_when_it_is_not_utf8(lane, place):
    assert lane.run(place.order("printf", r"\377\376"))["value"]["stdout"] == {"base64": "//4="}


def test_program_sees_only_the_base_and_its_own_variables_when_the_parent_has_more(lane, place):
    outcome = lane.run(place.order("env", env={"ASKED": "yes"}))
    names = {line.split("=")[0] for line in outcome["value"]["stdout"].splitlines()}
    assert names == {"PATH", "HOME", "LANG", "TMPDIR", "ASKED"}
    assert outcome["evidence"]["facts"]["env_names"] == ["ASKED"]
    assert "yes" not in str(outcome["evidence"])


def test_program_starts_in_its_folder_when_cwd_is_given(lane, place):
    place.workspace.joinpath("deep").mkdir()
    (place.workspace / "deep").chmod(0o755)
    assert lane.run(place.order("pwd", cwd="deep"))["value"]["stdout"] == f"{place.workspace}/deep\n"


@pytest.mark.parametrize("cwd", ["..", "/etc", "a/../../b"])
def test_order_is_refused_when_cwd_leaves_the_workspace(lane, place, cwd):
    outcome = lane.run(place.order("pwd", cwd=cwd))
    assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "order_malformed")


def test_exit_status_is_told_when_it_is_not_zero(lane, place):
    outcome = lane.run(place.order("sh", "-c", "exit 7"))
    assert (outcome["ending"], outcome["code"], outcome["value"]["exit"]) == (Ending.FAILED, "exit_nonzero", 7)


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (9, "SIGKILL"), (11, "SIGSEGV"), (36, "SIGRTMIN+2")])
def test_signal_is_told_by_name_when_it_ends_the_program(lane, place, number, name):
    outcome = lane.run(place.order("sh", "-c", f"kill -{number} $$"))
    assert (outcome["code"], outcome["value"]["exit"], outcome["value"]["signal"]) == ("signalled", None, name)


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "./not-executable"])
def test_program_is_missing_when_it_cannot_be_run(lane, place, program):
    (place.workspace / "not-executable").write_text("text")
    outcome = lane.run(place.order(program))
    assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "program_missing")


def test_python_of_the_caller_works_inside_when_it_lies_outside_the_system(lane, place):
    outcome = lane.run(place.order("python3", "-c", "import msgspec, sys; print(sys.prefix)"))
    assert outcome["value"]["stdout"].strip() == sys.prefix, outcome["value"]["stderr"]


@pytest.mark.slow
def test_wall_limit_kills_when_the_program_ignores_sigterm(lane, place, marker):
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    outcome = lane.run(place.python(program, marker, limits={"wall_ms": 300}))
    assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "wall_limit")
    assert outcome["value"]["stdout"] == "deaf\n"
    assert outcome["evidence"]["limit"] == "wall"
    assert outcome["evidence"]["facts"]["death"]["after_kill_ms"] < 1000
    assert not processes_with(marker)


@pytest.mark.slow
def test_wall_limit_lets_the_program_clean_up_when_it_hears_sigterm(lane, place):
    program = "trap 'echo tidied; exit 0' TERM; while :; do sleep 0.01; done"
    outcome = lane.run(place.order("sh", "-c", program, limits={"wall_ms": 300}))
    assert (outcome["code"], outcome["value"]["exit"]) == ("wall_limit", 0)
    assert "tidied" in outcome["value"]["stdout"]


@pytest.mark.slow
def test_flood_is_cut_at_the_cap_when_the_program_wants_100_mb(lane, place, marker):
    before_kb = lane.carry(place.order("true"))["resident_kb"]
    program = "import sys\nfor _ in range(1600): sys.stdout.write('x' * 65536)"
    answer = lane.carry(place.python(program, marker, limits={"output_bytes_max": 1_000_000, **QUICK}))
    outcome = answer["outcomes"][0]
    assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "output_limit")
    assert outcome["value"]["stdout"] == "x" * 1_000_000
    assert outcome["evidence"]["digests"]["stdout"] == "sha256:" + hashlib.sha256(b"x" * 1_000_000).hexdigest()
    assert all(size <= 65_536 for _stream, size in answer["events"])
    assert answer["resident_kb"] - before_kb < 20_000
    assert not processes_with(marker)


def test_cap_counts_both_streams_when_each_alone_is_below_it(lane, place):
    program = "import sys; sys.stdout.write('o' * 600); sys.stdout.flush(); sys.stderr.write('e' * 600)"
    outcome = lane.run(place.python(program, limits={"output_bytes_max": 1000}))
    assert outcome["code"] == "output_limit"
    assert len(outcome["value"]["stdout"]) + len(outcome["value"]["stderr"]) == 1000


@pytest.mark.slow
def test_fork_bomb_stops_at_the_cap_when_it_goes_off(lane, place, marker):
    program = (
        "import os, sys, time\nn = 0\ntry:\n  while n < 500:\n    if os.fork() == 0: time.sleep(600)\n    n += 1\n"
        "except OSError: pass\nprint(n)"
    )
    outcome = lane.run(place.python(program, marker, limits={"processes_max": 20, **QUICK}))
    assert outcome["value"]["stdout"] == "19\n"
    assert not processes_with(marker)


def test_memory_is_refused_to_one_process_when_it_asks_beyond_the_limit(lane, place):
    program = "try: bytearray(200_000_000)\nexcept MemoryError: print('refused')"
    assert lane.run(place.python(program, limits={"memory_bytes_max": 100_000_000}))["value"]["stdout"] == "refused\n"


@pytest.mark.slow
def test_memory_limit_ends_the_tree_when_its_sum_exceeds_it(lane, place, marker):
    program = (
        "import os, time\nfor _ in range(4):\n  if os.fork() == 0:\n    held = bytearray(b'x') * 40_000_000\n"
        "    time.sleep(600)\ntime.sleep(600)"
    )
    outcome = lane.run(place.python(program, marker, limits={"memory_bytes_max": 100_000_000, **QUICK}))
    assert (outcome["ending"], outcome["code"], outcome["evidence"]["limit"]) == (
        Ending.FAILED,
        "memory_limit",
        "memory",
    )
    assert not processes_with(marker)


@pytest.mark.slow
def test_cpu_limit_ends_the_tree_when_no_single_process_reaches_it(lane, place, marker):
    program = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    outcome = lane.run(place.python(program, marker, limits={"cpu_s_max": 1, **QUICK}))
    assert (outcome["code"], outcome["evidence"]["limit"]) == ("cpu_limit", "cpu")
    assert not processes_with(marker)


@pytest.mark.slow
def test_run_ends_at_once_and_whole_when_a_daemon_holds_the_output(lane, place, marker):
    outcome = lane.run(place.python(DAEMON, marker, limits=QUICK))
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "left\n")
    assert outcome["evidence"]["ended_at_ms"] - outcome["evidence"]["started_at_ms"] < 5_000
    assert not processes_with(marker)


@pytest.mark.slow
def test_cancellation_passes_through_and_leaves_nothing_when_the_program_runs(lane, place, marker):
    program = "import time; print('up', flush=True); time.sleep(600)"
    answer = lane.carry(place.python(DAEMON + program, marker), on_output="cancel")
    assert answer["cancelled"] == [True]
    assert not processes_with(marker)


@pytest.mark.slow
def test_outcome_is_unknown_and_the_next_run_works_when_the_spawner_is_killed(lane, place, marker):
    program = "import time; print('up', flush=True); time.sleep(600)"
    outcome = lane.run(place.python(program, marker), on_output="kill_spawner")
    assert (outcome["ending"], outcome["code"]) == (Ending.UNKNOWN, "spawner_lost")
    assert not processes_with(marker)
    assert lane.run(place.order("true"))["code"] == "ok"


@pytest.mark.slow
def test_tree_dies_when_the_assent_process_is_killed(mortal_lane, place, marker):
    program = DAEMON + "import time; print('up', flush=True); time.sleep(600)"
    mortal_lane.tell(do="carry", orders=[place.python(program, marker)], floor="namespaced", announce=True)
    assert mortal_lane.answer()["heard"]
    inside = [pid for pid in processes_with(marker) if pid != mortal_lane.pid]
    assert inside
    mortal_lane.kill()
    assert eventually(lambda: not processes_with(marker))


def test_nothing_is_left_when_the_lane_is_closed(mortal_lane, place):
    assert mortal_lane.run(place.order("true"))["code"] == "ok"
    assert mortal_lane.ask(do="forget")["children"] == []
    assert mortal_lane.run(place.order("true"))["code"] == "ok"


def test_workspace_cannot_be_changed_when_it_is_read_only(lane, place):
    (place.workspace / "kept").write_text("as it was")
    program = "echo x > kept; echo x > new; rm kept; chmod 777 .; cat kept"
    outcome = lane.run(place.order("sh", "-c", program, workspace_writable=False))
    assert outcome["value"]["stdout"] == "as it was"
    assert [path.name for path in place.workspace.iterdir()] == ["kept"]
    assert (place.workspace / "kept").read_text() == "as it was"


def test_files_land_owned_by_the_workspaces_owner_when_the_program_makes_them(lane, place):
    assert lane.run(place.order("sh", "-c", "mkdir made && echo x > made/file && ln -s file made/link"))["code"] == "ok"
    owner = place.workspace.stat()
    for path in ("made", "made/file", "made/link"):
        found = (place.workspace / path).lstat()
        assert (found.st_uid, found.st_gid) == (owner.st_uid, owner.st_gid)


def test_secret_beside_the_workspace_is_not_there_when_it_is_looked_for(lane, place):
    (place.workspace / "link").symlink_to(place.canary)
    outcome = lane.run(place.order("sh", "-c", f"cat {place.canary} ../canary link; ls ..; echo x >> {place.canary}"))
    assert "secret" not in outcome["value"]["stdout"]
    assert outcome["value"]["stdout"].split() == ["workspace"]
    assert place.canary.read_text() == "a secret beside the workspace"


def test_state_folder_is_refused_as_a_workspace_when_it_would_be_shown(lane, place):
    order = {**place.order("ls"), "workspace": str(lane.state_dir)}
    assert lane.run(order)["code"] == "order_malformed"
    assert lane.run({**order, "workspace": str(lane.state_dir.parent)})["code"] == "order_malformed"


def test_live_listener_gets_no_visitor_when_the_program_calls_it(lane, place):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        program = f"import socket; socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), 1)"
        outcome = lane.run(place.python(program))
        assert outcome["code"] == "exit_nonzero"
        assert "PermissionError" in outcome["value"]["stderr"]
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.slow
def test_twenty_runs_overlap_when_they_are_carried_at_once(lane, place):
    # Each says that it is there and waits until all twenty have: only a true overlap can succeed.
    program = "touch here-$0; while [ $(ls here-* | wc -l) -lt 20 ]; do sleep 0.01; done; echo $0"
    answer = lane.carry(*(place.order("sh", "-c", program, str(n), limits=QUICK) for n in range(20)))
    assert [one["code"] for one in answer["outcomes"]] == ["ok"] * 20
    assert [one["value"]["stdout"] for one in answer["outcomes"]] == [f"{n}\n" for n in range(20)]


@pytest.mark.slow
def test_descriptors_do_not_grow_when_runs_end_every_way(lane, place):
    ways: list[Any] = [
        [place.order("true")],
        [place.order("nope")],
        [place.order("pwd", cwd="..")],
        [place.order("yes", limits={"output_bytes_max": 10})],
        [place.order("sh", "-c", "kill -9 $$")],
    ]
    lane.carry(*(one for way in ways for one in way))
    before = lane.carry(place.order("true"))["open_files"]
    for _ in range(3):
        lane.carry(*(one for way in ways for one in way))
    lane.carry(place.order("sh", "-c", "echo x; sleep 9"), on_output="cancel")
    assert lane.carry(place.order("true"))["open_files"] == before


def test_floor_refuses_before_anything_runs_when_it_is_not_met(lane, place):
    outcome = lane.run(place.order("touch", "ran"), floor="builtin")
    assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "confinement_unmet")
    assert not (place.workspace / "ran").exists()
    assert "nothing here reaches it" in outcome["message"]
    attestation = outcome["evidence"]["attestation"]  # nothing was built for this run
    assert (attestation["mechanism"], attestation["properties"]) == ("none", {})


def test_files_of_other_owners_stay_closed_when_the_workspace_is_somebody_elses(lane, place):
    foreign = place.workspace / "closed"
    foreign.write_text("x")
    foreign.chmod(0o600)
    order = place.order("sh", "-c", "touch made && echo y > closed")
    if lane.user == "root":  # the workspace is a third user's, the file in it root's: the one is mapped, the other not
        place.own(60_001)
        assert lane.run(order)["code"] == "exit_nonzero"
        assert (place.workspace / "made").stat().st_uid == 60_001
    else:
        place.workspace.chmod(0o555)
        assert lane.run(order)["code"] == "exit_nonzero"
        assert not (place.workspace / "made").exists()
        place.workspace.chmod(0o755)
    assert foreign.read_text() == "x"


def test_victim_of_the_same_user_survives_when_the_program_signals_everybody(lane, place):
    with subprocess.Popen(["sleep", "600"]) as victim:
        lane.run(place.order("sh", "-c", f"kill -9 {victim.pid}; kill -9 -1"))
        assert victim.poll() is None
        victim.send_signal(signal.SIGKILL)


def test_path_is_quoted_not_run_when_the_workspace_has_a_strange_name(lane, place):
    odd = place.folder / "a b\\c\t'd"
    odd.mkdir()
    if os.geteuid() == 0:
        os.chown(odd, place.uid, place.uid)
    outcome = lane.run({**place.order("sh", "-c", "pwd; touch here"), "workspace": str(odd)})
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", f"{odd}\n")
    assert Path(odd / "here").exists()
