"""The lane under test, owned by a process of its own: as root and as an ordinary user where root runs the tests, else
as the ordinary user who runs them. Which paths are tested is visible in the test ids."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import assent
from assent.execution.adapters.sandboxes import syscalls
from tests.execution.ordinary_user import ORDINARY_UID

HERE = Path(__file__).parent
USERS = ["root", "ordinary"] if os.geteuid() == 0 else ["ordinary"]
DEADLINE_S = 30.0
# Forks twice into its own session, ignores SIGTERM, keeps the output open, carries the marker that the scan looks for.
DAEMON = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execvp("python3", ["python3", "-I", "-S", "-c", "import time; time.sleep(600)", sys.argv[1]])
    os._exit(0)
os.wait()
print("left", flush=True)
"""


class Lane:
    """Asks the driver process."""

    def __init__(self, user: str, state_dir: Path) -> None:
        self.state_dir = state_dir
        as_other = [str(HERE / "ordinary_user.py")] if user == "ordinary" else []
        sources = os.pathsep.join([str(Path(assent.__file__).resolve().parent.parent), str(HERE.parent.parent)])
        self._process = subprocess.Popen(
            [sys.executable, *as_other, str(HERE / "lane_driver.py"), str(state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": sources, "PLANTED": "in-the-parent"},
        )
        hello = self.answer()
        self.user, self.uid, self.pid = user, hello["uid"], hello["pid"]

    def ask(self, **request: Any) -> Any:
        self.tell(**request)
        return self.answer()

    def tell(self, **request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver died"
        return json.loads(line)

    def carry(self, *orders: dict[str, Any], floor: str = "namespaced", **options: Any) -> Any:
        """The whole answer."""
        return self.ask(do="carry", orders=list(orders), floor=floor, **options)

    def run(self, order: dict[str, Any], floor: str = "namespaced", **options: Any) -> dict[str, Any]:
        """The one outcome."""
        answer = self.carry(order, floor=floor, **options)
        outcome: dict[str, Any] = answer["outcomes"][0]
        outcome["class"], outcome["events"] = answer["classes"][0], answer["events"]
        return outcome

    def steer(self, order: dict[str, Any], *steps: Any, floor: str = "namespaced", **options: Any) -> dict[str, Any]:
        """The answer to one order that is spoken to while it runs."""
        answer: dict[str, Any] = self.ask(do="steer", order=order, steps=[list(one) for one in steps], floor=floor,
                                          **options)  # fmt: skip
        answer["value"], answer["code"] = answer["outcome"]["value"], answer["outcome"]["code"]
        return answer

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.wait(DEADLINE_S)


class Place:
    """A workspace beside a canary, owned by the user under test, and orders that run in it."""

    def __init__(self, uid: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="assent-test-")).resolve()
        self.uid = uid
        self.workspace = self.folder / "workspace"
        self.canary = self.folder / "canary"
        self.workspace.mkdir()
        self.canary.write_text("a secret beside the workspace")
        self.own(uid)

    def own(self, uid: int) -> None:
        if os.geteuid() == 0:
            for path in (self.folder, self.workspace, self.canary):
                os.chown(path, uid, uid)

    def order(self, *argv: str, **fields: Any) -> dict[str, Any]:
        return {"type": "process", "argv": list(argv), "workspace": str(self.workspace), **fields}

    def python(self, program: str, *arguments: str, **fields: Any) -> dict[str, Any]:
        return self.order("python3", "-I", "-S", "-c", program, *arguments, **fields)


def started_lane(user: str) -> Lane:
    folder = Path(tempfile.mkdtemp(prefix="assent-state-"))
    if os.geteuid() == 0 and user == "ordinary":
        os.chown(folder, ORDINARY_UID, ORDINARY_UID)
    return Lane(user, folder)


def processes_with(marker: str) -> list[int]:
    """Everything on this machine, seen from outside, that carries `marker`."""
    found = []
    for name in (path.name for path in Path("/proc").iterdir()):
        if name.isdigit() and int(name) != os.getpid():
            try:
                text = Path("/proc", name, "cmdline").read_bytes() + Path("/proc", name, "environ").read_bytes()
            except OSError:
                continue
            if marker.encode() in text:
                found.append(int(name))
    return found


def eventually(condition: Callable[[], bool]) -> bool:
    """Poll a real condition until it holds or the deadline passes."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


assert syscalls.SUPPORTED, "the process lane's tests need Linux on x86_64 or aarch64"
