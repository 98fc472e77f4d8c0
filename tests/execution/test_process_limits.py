"""Limits that hold for a whole tree, whatever it does, and that the receipt names."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from assent.execution.adapters.sandboxes import meter
from assent.execution.outcomes import Ending
from tests.execution.lane_world import eventually, processes_with

QUICK = {"wall_ms": 20_000}
MEBIBYTE = 1_048_576


@pytest.mark.slow
def test_disk_limit_ends_the_run_when_many_files_fill_the_workspace(lane, place, marker):
    program = (
        "import time\nn = 0\nwhile True:\n  open(f'f{n}', 'wb').write(b'x' * 1_000_000); n += 1; time.sleep(0.005)"
    )
    limits = {"disk_bytes_max": 20 * MEBIBYTE, **QUICK}
    outcome = lane.run(place.python(program, marker, limits=limits))
    assert (outcome["ending"], outcome["code"], outcome["evidence"]["limit"]) == (Ending.FAILED, "disk_limit", "disk")
    assert outcome["evidence"]["facts"]["seen"]["disk_bytes"] > 20 * MEBIBYTE
    written = sum(file.stat().st_size for file in place.workspace.iterdir())
    assert 20 * MEBIBYTE < written < 400 * MEBIBYTE
    assert not processes_with(marker)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hiding",
    [
        "os.mkdir('d'); os.chmod('d', 0o300); where = 'd/'",  # a folder that cannot be listed
        "where = ''; deleted = True",  # files that no folder lists any more
    ],
)
def test_disk_limit_ends_the_run_when_its_files_are_hidden(lane, place, marker, hiding):
    program = (
        "import os, time\nwhere, deleted, held, n = '', False, [], 0\n" + hiding + "\nwhile True:\n"
        "  file = open(f'{where}f{n}', 'wb'); file.write(b'x' * 1_000_000); file.flush(); held.append(file); n += 1\n"
        "  if deleted: os.unlink(file.name)\n"
        "  time.sleep(0.005)"
    )
    outcome = lane.run(place.python(program, marker, limits={"disk_bytes_max": 20 * MEBIBYTE, **QUICK}))
    assert (outcome["code"], outcome["evidence"]["limit"]) == ("disk_limit", "disk")
    assert not processes_with(marker)
    for folder in place.workspace.iterdir():
        folder.chmod(0o700)


@pytest.mark.slow
def test_run_goes_on_when_somebody_else_fills_the_disk(lane, place):
    program = "import time; print('up', flush=True); time.sleep(1.2); print('on')"
    lane.tell(do="carry", orders=[place.python(program, limits={"disk_bytes_max": MEBIBYTE, **QUICK})],
              floor="namespaced", announce=True)  # fmt: skip
    assert lane.answer()["heard"]
    (place.folder / "elsewhere").write_bytes(b"x" * 8 * MEBIBYTE)
    outcome = lane.answer()["outcomes"][0]
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "up\non\n")


def test_scratch_is_full_when_the_run_may_use_no_more(lane, place):
    program = "try: open('/tmp/f', 'wb').write(b'x' * 3_000_000)\nexcept OSError as error: print(error.strerror)"
    outcome = lane.run(place.python(program, limits={"disk_bytes_max": MEBIBYTE, **QUICK}))
    assert outcome["value"]["stdout"] == "No space left on device\n"


def test_scratch_counts_as_disk_when_both_folders_are_filled(lane, place):
    program = (
        "import time\nfor folder in ('/tmp', '/dev/shm'): open(f'{folder}/f', 'wb').write(b'x' * 900_000)\n"
        "time.sleep(5)"
    )
    outcome = lane.run(place.python(program, limits={"disk_bytes_max": MEBIBYTE, **QUICK}))
    assert outcome["code"] == "disk_limit"


def test_files_are_refused_when_more_are_open_than_the_limit(lane, place):
    program = (
        "import os\nheld = []\ntry:\n  while True: held.append(os.open('/dev/null', 0))\n"
        "except OSError as error: print(error.strerror, max(held))"
    )
    outcome = lane.run(place.python(program, limits={"open_files_max": 20, **QUICK}))
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "Too many open files 19\n")
    assert outcome["evidence"]["limit"] == ""  # it met the limit and went on: nothing was ended by it


def test_file_size_limit_is_named_when_it_ends_the_program(lane, place):
    outcome = lane.run(
        place.order("sh", "-c", "exec head -c 2000000 /dev/zero > f", limits={"file_bytes_max": 1_000_000})
    )
    assert (outcome["code"], outcome["value"]["signal"], outcome["evidence"]["limit"]) == (
        "signalled",
        "SIGXFSZ",
        "file",
    )


@pytest.mark.slow
def test_most_that_was_seen_is_told_when_a_run_was_looked_at(lane, place):
    program = (
        "import os, time\nfor _ in range(3):\n  if os.fork() == 0:\n    held = bytearray(b'x') * 20_000_000\n"
        "    time.sleep(0.6)\n    os._exit(0)\ntime.sleep(0.6)"
    )
    seen = lane.run(place.python(program, limits=QUICK))["evidence"]["facts"]["seen"]
    assert seen["looks"] >= 2
    assert seen["processes"] == 4
    assert 60_000_000 < seen["memory_bytes"] < 200_000_000


def test_looks_come_later_when_nothing_stirs_and_soon_again_when_something_does():
    spec = {"memory_bytes_max": 1, "cpu_s_max": 10**6, "disk": {"folders": [], "own": [], "bytes_max": 1}}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as idle:
        assert idle.stdin is not None
        assert idle.stdout is not None
        idle.stdin.write(b"x")
        idle.stdin.flush()
        idle.stdout.read(1)  # so it has started, and waits again
        looker = meter.Meter(spec, lambda: [str(idle.pid)])
        assert looker.look() == "memory"
        assert eventually(lambda: looker.look() == "-" and looker._period_s == meter.IDLE_PERIOD_S)
        idle.stdin.write(b"x")
        idle.stdin.flush()
        idle.stdout.read(1)
        assert looker.look() == "memory"
        assert looker._period_s == meter.PERIOD_S
        idle.kill()
    looker.look()
    assert looker._period_s == meter.PERIOD_S


def test_changed_files_are_summed_and_others_are_not_when_a_folder_is_walked():
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "old").write_bytes(b"x" * 100_000)
        began_s = (folder / "old").stat().st_ctime + 0.0001
        while folder.stat().st_ctime <= began_s:  # until the file system's clock has moved on
            folder.chmod(0o755)
        (folder / "deep").mkdir()
        (folder / "deep" / "new").write_bytes(b"x" * 200_000)
        os.link(folder / "deep" / "new", folder / "linked")
        assert 200_000 <= (meter.changed_bytes(made, began_s) or 0) < 300_000


def test_changed_files_cannot_be_told_when_they_are_too_many(monkeypatch):
    monkeypatch.setattr(meter, "ENTRIES_MAX", 3)
    with tempfile.TemporaryDirectory() as made:
        for n in range(4):
            (Path(made) / str(n)).touch()
        assert meter.changed_bytes(made, 0.0) is None
