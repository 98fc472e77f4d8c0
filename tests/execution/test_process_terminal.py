"""Programs under a terminal of their own: what they see of it, what it does with what is typed, and how it ends."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.execution.lane_world import processes_with

QUICK = {"wall_ms": 20_000}
PTY = {"rows": 30, "columns": 100}
INSIDE = """
import os, json, sys, termios
def tried(path):
    try: return os.close(os.open(path, os.O_RDWR)) or "opened"
    except OSError as error: return error.strerror
print(json.dumps({
    "ttys": [os.isatty(fd) for fd in (0, 1, 2)], "leads": os.getsid(0) == os.getpid(),
    "foreground": os.tcgetpgrp(0) == os.getpgrp(), "size": tuple(os.get_terminal_size(0)), "term": os.environ["TERM"],
    "own": tried("/dev/tty"), "pts": os.path.exists("/dev/pts"), "multiplexer": os.path.exists("/dev/ptmx"),
    "echo": bool(termios.tcgetattr(0)[3] & termios.ECHO),
}))
"""


def test_program_has_a_terminal_of_its_own_when_the_order_asks_for_one(lane, place):
    order = place.python(INSIDE, pty=PTY, limits=QUICK)
    outcome = lane.run(order)
    assert outcome["code"] == "ok", outcome["value"]
    seen = __import__("json").loads(outcome["value"]["stdout"])
    assert seen == {
        "ttys": [True] * 3, "leads": True, "foreground": True, "size": [100, 30], "term": "xterm-256color",
        "own": "opened", "pts": False, "multiplexer": False, "echo": True,
    }  # fmt: skip
    assert outcome["class"] == "namespaced"
    assert outcome["evidence"]["attestation"]["properties"]["terminal"] == {"value": "its own", "known": "observed"}
    assert set(outcome["value"]) == {"exit", "signal", "stdout"}


def test_program_has_no_terminal_when_the_order_asks_for_none(lane, place):
    outcome = lane.run(place.python("import os\ntry: os.open('/dev/tty', 2)\nexcept OSError as e: print(e.errno)"))
    assert outcome["value"]["stdout"] == "2\n"
    assert "terminal" not in outcome["evidence"]["attestation"]["properties"]


def test_two_runs_have_two_terminals_when_they_run_at_once(lane, place):
    program = "import os, time; print(os.fstat(0).st_rdev, flush=True); time.sleep(0.3)"
    outcomes = lane.carry(*(place.python(program, pty=PTY, limits=QUICK) for _ in range(2)))["outcomes"]
    assert len({one["value"]["stdout"] for one in outcomes}) == 2


def test_what_is_typed_is_echoed_when_the_program_reads_lines(lane, place):
    order = place.order("cat", pty=PTY, stdin_open=True, limits=QUICK)
    answer = lane.steer(order, ["input", "hello\n"], ["expect", "hello\r\nhello\r\n"], ["end"])
    assert (answer["code"], answer["value"]["stdout"]) == ("ok", "hello\r\nhello\r\n")


def test_input_ends_within_a_line_when_it_is_ended_there(lane, place):
    order = place.order("cat", pty=PTY, stdin_open=True, limits=QUICK)
    answer = lane.steer(order, ["input", "half"], ["expect", "half"], ["end"])
    assert (answer["code"], answer["value"]["stdout"]) == ("ok", "halfhalf")


def test_input_of_the_order_is_typed_and_ended_when_nothing_else_comes(lane, place):
    order = place.order("cat", pty=PTY, stdin=base64.b64encode(b"once\n").decode(), limits=QUICK)
    outcome = lane.run(order)
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "once\r\nonce\r\n")


def test_program_is_told_of_the_new_size_when_the_terminal_is_resized(lane, place):
    program = (
        "import os, signal; signal.signal(signal.SIGWINCH, lambda *_: (os.write(1, b'%d x %d' % "
        "os.get_terminal_size(0)), os._exit(0)))\nos.write(1, b'up')\nwhile True: signal.pause()"
    )
    answer = lane.steer(place.python(program, pty=PTY, limits=QUICK), ["expect", "up"], ["resize", 50, 132])
    assert answer["value"]["stdout"].endswith("132 x 50")


@pytest.mark.parametrize("word", [["signal", "INT"], ["input", "\x03"]])
def test_interrupt_reaches_the_foreground_and_not_the_shell_when_a_shell_waits(lane, place, word):
    program = "trap : INT; sh -c 'echo up; exec sleep 60'; echo after $?"
    answer = lane.steer(
        place.order("sh", "-c", program, pty=PTY, stdin_open=True, limits=QUICK), ["expect", "up"], word
    )
    assert answer["code"] == "ok"
    assert "after 130" in answer["value"]["stdout"]


def test_word_is_ignored_and_counted_when_it_does_not_fit(lane, place):
    order = place.order("sh", "-c", "echo up; sleep 0.3", limits=QUICK)
    answer = lane.steer(order, ["expect", "up"], ["resize", 10, 10])
    assert answer["outcome"]["evidence"]["facts"]["words_ignored"] == 1


@pytest.mark.parametrize("pty", [{"rows": 0}, {"columns": 100_000}, {"term": "a b"}, {"term": ""}])
def test_order_is_refused_when_its_terminal_is_none(lane, place, pty):
    assert lane.run(place.order("true", pty=pty))["code"] == "order_malformed"


def test_run_ends_whole_when_a_daemon_keeps_the_terminal(lane, place, marker):
    program = "(setsid sleep 600 &) ; echo done"
    order = place.order("sh", "-c", program, marker, pty=PTY, limits=QUICK)
    outcome = lane.run(order)
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "done\r\n")
    assert not processes_with(marker)


def test_output_goes_on_when_the_program_lets_go_of_the_terminal_and_takes_it_again(lane, place):
    program = (
        "import os, time\nfor fd in (0, 1, 2): os.close(fd)\ntime.sleep(0.2)\n"
        "again = os.open('/dev/tty', os.O_RDWR); os.write(again, b'again')"
    )
    outcome = lane.run(place.python(program, pty=PTY, limits=QUICK))
    assert outcome["code"] == "ok", outcome
    assert outcome["value"]["stdout"] == "again"


def test_terminal_is_never_the_testers_own_when_there_is_one(lane, place):
    outcome = lane.run(place.order("cat", "/proc/self/stat", pty=PTY, limits=QUICK))
    device = int(outcome["value"]["stdout"].rpartition(")")[2].split()[4])
    own = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[4])
    assert device not in (0, own)


def test_lines_are_handed_up_whole_when_they_are_asked_for(lane, place):
    program = (
        "import os, time\nfor piece in (b'a', b'b\\r', b'\\nc\\r', b'd\\n\\n', b'rest'): "
        "os.write(1, piece); time.sleep(0.02)"
    )
    answer = lane.steer(place.python(program, framing="lines", limits=QUICK))
    assert [text for stream, text in answer["heard"] if stream == "stdout"] == ["ab", "c", "d", "", "rest"]
    assert answer["value"]["stdout"] == "ab\r\nc\rd\n\nrest"


def test_line_limit_ends_the_run_when_a_line_is_longer(lane, place, marker):
    program = "import os\nos.write(1, b'short\\n')\nwhile True: os.write(1, b'x' * 4096)"
    outcome = lane.run(place.python(program, marker, framing="lines", line_bytes_max=10_000, limits=QUICK))
    assert (outcome["code"], outcome["evidence"]["limit"]) == ("line_limit", "line")
    assert outcome["events"] == [["stdout", 5]]
    assert not processes_with(marker)


def test_descriptors_do_not_grow_when_terminals_come_and_go(lane, place):
    order = place.order("sh", "-c", "read line; echo $line", pty=PTY, stdin_open=True, limits=QUICK)
    before = lane.steer(order, ["input", "x\n"])["open_files"]
    for _ in range(3):
        lane.steer(order, ["input", "x\n"])
        lane.carry(place.order("sh", "-c", "echo x; sleep 9", pty=PTY), on_output="cancel")
    assert lane.steer(order, ["input", "x\n"])["open_files"] == before


assert Path("/dev/ptmx").exists(), "these tests need pseudo terminals"
