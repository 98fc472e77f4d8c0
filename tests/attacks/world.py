"""A lane whose owner holds secrets: descriptors that would be inherited, and variables in its environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import assent
from tests.attacks.scene import PLANTED
from tests.execution import lane_world
from tests.execution.lane_world import Lane, processes_with
from tests.execution.ordinary_user import ORDINARY_UID

EXECUTION = Path(lane_world.__file__).parent
SOURCES = str(Path(assent.__file__).resolve().parent.parent)


class PlantedLane(Lane):
    """A `Lane` whose process was given inheritable descriptors of files with a secret in them."""

    def __init__(self, user: str, state_dir: Path, *, planted: tuple[int, ...]) -> None:
        self.state_dir = state_dir
        as_other = [str(EXECUTION / "ordinary_user.py")] if user == "ordinary" else []
        self._process = subprocess.Popen(
            [sys.executable, *as_other, str(EXECUTION / "lane_driver.py"), str(state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=planted,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join([SOURCES, str(EXECUTION.parent.parent)]),
                "PLANTED": PLANTED,
            },
        )
        hello = self.answer()
        self.user, self.uid, self.pid = user, hello["uid"], hello["pid"]
        self.planted = planted

    @property
    def spawner_pid(self) -> int:
        """The warm spawner that this lane's process started."""
        found = [pid for pid in processes_with("import spawner") if _parent(pid) == self.pid]
        assert len(found) == 1, found
        return found[0]


@contextmanager
def planted_lane(user: str) -> Iterator[PlantedLane]:
    """Start one, and end it with everything it left."""
    state = Path(tempfile.mkdtemp(prefix="assent-state-"))
    secret = state / "inherited"
    secret.write_text(PLANTED)
    fds = tuple(os.open(secret, os.O_RDONLY) for _ in range(3))
    if os.geteuid() == 0 and user == "ordinary":
        os.chown(state, ORDINARY_UID, ORDINARY_UID)
    lane = PlantedLane(user, state, planted=fds)
    try:
        yield lane
    finally:
        lane.kill()
        for fd in fds:
            os.close(fd)
        shutil.rmtree(state)


def _parent(pid: int) -> int:
    """Whose child a process is; 0 when it has ended meanwhile."""
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
