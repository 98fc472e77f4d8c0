"""Programs that will not die, and runs that are given up at any moment: nothing of them is left."""

from __future__ import annotations

import pytest

from tests.execution.lane_world import eventually, processes_with

QUICK = {"wall_ms": 20_000}
# Whenever its child dies another one is started, from a session of its own and deaf to everything that can be ignored.
RESPAWNER = """
import os, signal, sys, time
for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    while True:
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "0.05", ])
        os.wait()
print("up", flush=True)
time.sleep(600)
"""
STOPPED = """
import os, signal, time
child = os.fork()
if child == 0:
    time.sleep(600)
os.kill(child, signal.SIGSTOP)
os.waitpid(child, os.WUNTRACED)
print("up", flush=True)
time.sleep(600)
"""
FORKS = """
import os, time
print("up", flush=True)
while True:
    try: os.fork()
    except OSError: time.sleep(0.001)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [RESPAWNER, STOPPED, FORKS], ids=["respawner", "stopped", "fork-bomb"])
def test_nothing_survives_when_a_run_is_cancelled(lane, place, marker, program):
    answer = lane.carry(place.python(program, marker, limits={**QUICK, "grace_ms": 50}), on_output="cancel")
    assert answer["cancelled"] == [True]
    assert not processes_with(marker)


@pytest.mark.slow
@pytest.mark.parametrize("program", [RESPAWNER, STOPPED, FORKS], ids=["respawner", "stopped", "fork-bomb"])
def test_nothing_survives_when_the_time_is_up(lane, place, marker, program):
    outcome = lane.run(place.python(program, marker, limits={"wall_ms": 500, "grace_ms": 50}))
    assert (outcome["code"], outcome["evidence"]["limit"]) == ("wall_limit", "wall")
    assert outcome["evidence"]["facts"]["death"]["proved_by"] == "pidfd"
    assert not processes_with(marker)


@pytest.mark.slow
@pytest.mark.parametrize("program", [RESPAWNER, STOPPED, FORKS], ids=["respawner", "stopped", "fork-bomb"])
def test_nothing_survives_when_the_node_is_killed(mortal_lane, place, marker, program):
    mortal_lane.tell(do="carry", orders=[place.python(program, marker)], floor="namespaced", announce=True)
    assert mortal_lane.answer()["heard"]
    mortal_lane.kill()
    assert eventually(lambda: not processes_with(marker))


@pytest.mark.slow
def test_nothing_survives_and_nothing_is_held_when_runs_are_cancelled_at_every_moment(lane, place, marker):
    order = place.order("sh", "-c", "echo up; sleep 600", marker, limits={**QUICK, "grace_ms": 20})
    lane.ask(do="cancelled_after", order=order, floor="namespaced", delays_ms=[0])
    before = lane.carry(place.order("true"))["open_files"]
    answer = lane.ask(do="cancelled_after", order=order, floor="namespaced", delays_ms=[*range(0, 30, 2), 50, 100])
    assert set(answer["ends"]) == {"cancelled"}
    assert not processes_with(marker)
    assert lane.carry(place.order("true"))["open_files"] == before


@pytest.mark.slow
def test_grace_is_given_when_a_cancelled_program_cleans_up(lane, place):
    program = "trap 'sleep 0.2; echo tidied > tidied; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    answer = lane.carry(place.order("sh", "-c", program, limits={**QUICK, "grace_ms": 10_000}), on_output="cancel")
    assert answer["cancelled"] == [True]
    assert (place.workspace / "tidied").read_text() == "tidied\n"


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["confined", "local-weak", "bubblewrap"])
def test_terminal_and_words_work_when_another_mechanism_carries_them(lane, place, mechanism):
    if lane.user == "root" and mechanism == "bubblewrap":
        return  # it is not used as root: see `test_process_lane`
    if lane.user == "root":
        place.own(60_001)
    program = "test -t 0 && test -t 1 && stty size && read line && echo got $line && exec sleep 600"
    order = place.order("sh", "-c", program, pty={"rows": 30, "columns": 100}, stdin_open=True, limits=QUICK)
    steps = [["expect", "30 100"], ["input", "hello\n"], ["expect", "got hello"], ["signal", "TERM"]]
    answer = lane.steer(order, *steps, floor="local-weak", mechanism=mechanism)
    assert (answer["code"], answer["value"]["signal"]) == ("signalled", "SIGTERM"), answer
    assert answer["outcome"]["evidence"]["attestation"]["properties"]["terminal"]["known"] == "observed"
