"""Programs that are spoken to while they run, and whose output is taken no faster than its asker likes."""

from __future__ import annotations

import base64
import hashlib
import signal

import pytest

from assent.execution.adapters.sandboxes import warden
from assent.execution.outcomes import Ending
from tests.execution.lane_world import processes_with

QUICK = {"wall_ms": 20_000}


def test_program_hears_what_is_said_while_it_runs_when_its_input_is_open(lane, place):
    order = place.order("cat", stdin=base64.b64encode(b"first ").decode(), stdin_open=True, limits=QUICK)
    answer = lane.steer(order, ["expect", "first "], ["input", "second "], ["expect", "second "], ["end"])
    assert (answer["code"], answer["value"]["stdout"]) == ("ok", "first second ")
    assert answer["steps_left"] == 0


def test_program_sees_the_end_of_its_input_when_it_was_not_opened(lane, place):
    answer = lane.steer(place.order("cat", limits=QUICK), ["input", "never"])
    assert (answer["code"], answer["value"]["stdout"]) == ("ok", "")
    assert answer["outcome"]["evidence"]["facts"].get("words_ignored", 0) <= 1


def test_input_is_taken_as_it_is_without_steering_when_it_could_be_open(lane, place):
    order = place.order("cat", stdin=base64.b64encode(b"all").decode(), stdin_open=True, limits=QUICK)
    assert lane.run(order)["value"]["stdout"] == "all"


def test_input_arrives_whole_when_it_is_larger_than_the_pipe_and_the_program_is_slow(lane, place):
    pieces = [["input", f"{n:06d}" * 20_000] for n in range(20)]  # 120 kB each
    program = "import hashlib, sys, time; time.sleep(0.2); print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    answer = lane.steer(place.python(program, stdin_open=True, limits=QUICK), *pieces, ["end"])
    expected = hashlib.sha256("".join(f"{n:06d}" * 20_000 for n in range(20)).encode()).hexdigest()
    assert answer["value"]["stdout"].strip() == expected


def test_input_is_dropped_and_counted_when_the_program_closed_it(lane, place):
    program = "import os, time; os.close(0); print('closed', flush=True); time.sleep(0.3)"
    order = place.python(program, stdin_open=True, limits=QUICK)
    answer = lane.steer(order, ["expect", "closed"], ["input", "x"], ["input", "late"])
    assert answer["code"] == "ok"
    assert answer["outcome"]["evidence"]["facts"]["input_bytes_dropped"] >= 4


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH"])
def test_program_is_sent_the_signal_when_the_word_names_it(lane, place, name):
    program = (
        f"import os, signal; signal.signal(signal.SIG{name}, lambda *_: (os.write(1, b'got\\n'), os._exit(5)))\n"
        "os.write(1, b'up\\n')\nwhile True: signal.pause()"
    )
    answer = lane.steer(place.python(program, limits=QUICK), ["expect", "up"], ["signal", name])
    assert (answer["value"]["exit"], answer["value"]["stdout"]) == (5, "up\ngot\n")


def test_program_ends_by_the_signal_when_it_cannot_be_caught(lane, place):
    answer = lane.steer(place.order("sh", "-c", "echo up; exec sleep 60", limits=QUICK), ["expect", "up"],
                        ["signal", "KILL"])  # fmt: skip
    assert (answer["code"], answer["value"]["signal"]) == ("signalled", "SIGKILL")


def test_relays_are_one_to_one_when_signals_are_named():
    numbers = [warden.relay_of(name) for name in warden.RELAYED]
    assert len(set(numbers)) == len(numbers)
    assert all(signal.SIGRTMIN < number <= signal.SIGRTMAX for number in numbers)


@pytest.mark.slow
def test_program_is_held_and_memory_stays_when_nobody_takes_its_output(lane, place, marker):
    before_kb = lane.carry(place.order("true"))["resident_kb"]
    program = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    order = place.python(program, marker, limits={"wall_ms": 1_500, "output_bytes_max": 2**40})
    answer = lane.steer(order, ["expect", "x"], ["hold"])
    assert (answer["outcome"]["ending"], answer["code"]) == (Ending.FAILED, "wall_limit")
    assert answer["overran"] == 0
    assert sum(len(text) for _stream, text in answer["heard"]) <= 65_536
    assert answer["outcome"]["evidence"]["facts"]["output_bytes_withheld"] > 0
    assert answer["resident_kb"] - before_kb < 20_000
    assert not processes_with(marker)


def test_output_comes_whole_and_in_order_when_it_is_taken_piece_by_piece(lane, place):
    program = "import sys\nfor n in range(100_000): print(n)"
    answer = lane.steer(place.python(program, limits=QUICK), ["take_one"])
    expected = "".join(f"{n}\n" for n in range(100_000))
    assert "".join(text for _stream, text in answer["heard"]) == answer["value"]["stdout"] == expected
    assert answer["overran"] == 0


@pytest.mark.slow
def test_no_execution_is_lost_when_many_run_at_once(lane, place):
    order = place.order("cat", stdin_open=True, limits={"wall_ms": 300_000})
    answer = lane.ask(do="crowd", order=order, floor="namespaced", count=150)
    assert answer == {"running": 150, "whole": 150, "codes": ["ok"]}
