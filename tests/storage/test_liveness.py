"""A lock file says that a process is gone, and never says it of one that is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from assent.primitives.ids import NodeId
from assent.storage.adapters.liveness import Liveness

ONE, TWO = NodeId("nod_one"), NodeId("nod_two")

_CHILD = """
import sys, pathlib
from assent.storage.adapters.liveness import Liveness
Liveness(pathlib.Path(sys.argv[1])).hold("nod_one")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_node_is_alive_while_it_holds_its_lock(tmp_path):
    mine, theirs = Liveness(tmp_path), Liveness(tmp_path)
    mine.hold(ONE)
    assert not theirs.is_dead(ONE)
    assert not mine.is_dead(ONE)
    mine.release(ONE)
    assert not theirs.is_dead(ONE)
    assert list(tmp_path.iterdir()) == []
    mine.release(ONE)


def test_a_node_nobody_heard_of_is_not_dead(tmp_path):
    assert not Liveness(tmp_path / "nowhere").is_dead(TWO)


def test_a_node_is_dead_at_once_when_its_process_was_killed_and_not_while_it_is_stopped(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"held\n"
        watcher = Liveness(tmp_path)
        assert not watcher.is_dead(ONE)
        child.send_signal(signal.SIGSTOP)
        assert not watcher.is_dead(ONE)
        child.kill()
        child.wait()
        assert watcher.is_dead(ONE)
        assert watcher.is_dead(ONE)
        watcher.forget(ONE)
        assert not watcher.is_dead(ONE)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
