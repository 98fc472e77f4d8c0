"""An installation with its hub, its guests and its askers, each a process of its own that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.surfaces.commandline import command, environment, process

DEADLINE_S = 60.0
LEASE_S = 2
_SETTINGS = """
[targets.lab]
kind = "guest"
[targets.trusty]
kind = "guest"
trusted = true
[hub]
listen = "127.0.0.1:{port}"
lease_s = {lease_s}
"""
POLICY = """
@id("away")
@reason("programs may run on other machines")
@accept("microvm remote-asserted namespaced")
permit (principal, action, resource == Operation::"shell.run");
"""


class Machine:
    """One long-lived process of ours. `said` is every line it wrote, as JSON."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            command(*words, "--json"), cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        self.said: list[dict[str, Any]] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                self.said.append(json.loads(line))

    def until(self, what: str, count: int = 1) -> None:
        """Wait until it has said that `what` happened so many times."""
        end = time.monotonic() + DEADLINE_S
        while sum(one.get("what") == what for one in self.said) < count:
            assert time.monotonic() < end, (what, self.said)
            assert self.process.poll() is None, (what, self.said, self.process.stderr.read())  # type: ignore[union-attr]
            time.sleep(0.02)

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self, number: int = signal.SIGKILL) -> int:
        """Kill it, with everything in its session."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
                self.send(number)
        code = self.process.wait(DEADLINE_S)
        self._reading.join(DEADLINE_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


class Asker:
    """One call, in a process of its own."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self._process = subprocess.Popen(
            command(*words), cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def answer(self) -> dict[str, Any]:
        """What became of the call."""
        out, err = self._process.communicate(timeout=DEADLINE_S)
        assert "Traceback" not in out + err, err
        found: dict[str, Any] = json.loads(out)
        return found

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def wait(self) -> int:
        """Wait until it has ended by itself."""
        return self._process.wait(DEADLINE_S)


class Site:
    """An installation in a folder of its own."""

    def __init__(self, template: Path, sandbox: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="assent-nodes-")).resolve()
        self.home = self.folder / "home"
        shutil.copytree(template, self.home)
        for place in (self.home / ".assent", self.folder / "lab"):  # what the self-test found is found again
            shutil.copytree(sandbox, place / "sandbox", dirs_exist_ok=True)
        self.port = _free_port()
        with (self.home / "assent.toml").open("a", encoding="utf-8") as file:
            file.write(_SETTINGS.format(port=self.port, lease_s=LEASE_S))
        self._machines: list[Machine] = []
        self._askers: list[Asker] = []

    def ran(self, *words: str) -> Any:
        """Run a command to its end."""
        return process(*words, cwd=self.home)

    def token(self, name: str = "lab") -> str:
        text: str = self.ran("node", "invite", name, "--json").document["invitation"]["token"]
        return text

    def hub(self) -> Machine:
        hub = self._started("node", "serve")
        hub.until("listening")
        return hub

    def guest(self, name: str = "lab", token: str = "") -> Machine:
        """A guest; the first time with a token."""
        words = ["node", "join", "--home", str(self.folder / name), "--hub", f"127.0.0.1:{self.port}"]
        guest = self._started(*words, *(["--token", token] if token else []))
        guest.until("serving")
        return guest

    def asker(self, *argv: str, target: str = "lab", key: str = "") -> Asker:
        """A call that runs a program on the guest."""
        asker = Asker("run-in", target, *(["--key", key] if key else []), "--json", "--", *argv, cwd=self.home)
        self._askers.append(asker)
        return asker

    def effects(self) -> list[dict[str, Any]]:
        """Every call's entries, as the timeline has them."""
        found: list[dict[str, Any]] = self.ran("timeline", "--json").document["moments"]
        return found

    def workspace(self, name: str = "lab") -> Path:
        return self.folder / name / "workspace"

    def _started(self, *words: str) -> Machine:
        machine = Machine(*words, cwd=self.home)
        self._machines.append(machine)
        return machine

    def close(self) -> None:
        for asker in self._askers:
            asker.kill()
        for machine in self._machines:
            machine.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
