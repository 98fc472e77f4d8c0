"""Where the probes take place, and what is seen of them from outside: secrets, victims, listeners, a terminal, the
host's own settings. Nothing here believes the attacker."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import re
import secrets
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

from tests.attacks import probes
from tests.execution.lane_world import Place

PROGRAM = Path(probes.__file__).read_text(encoding="utf-8")
PROBES = tuple(
    name
    for name, found in vars(probes).items()
    if getattr(found, "__code__", None) is not None and found.__code__.co_varnames[:1] == ("t",)
)
PLANTED = "in-the-parent"  # what the driver's own environment holds
LIMITS = {
    "wall_ms": 20_000, "memory_bytes_max": 134_217_728, "processes_max": 24, "file_bytes_max": 16_777_216,
    "open_files_max": 64, "cpu_s_max": 20,
}  # fmt: skip
INODES_MAX = 16_384  # one for each KiB of the private /tmp
STACK_BYTES = 8_192


class Scene(Place):
    """`owner` owns the folder and what is in it; `attacker` is the user of the programs, and so of the victims."""

    def __init__(self, *, owner: int, attacker: int) -> None:
        super().__init__(owner)
        self.secret = f"secret-{secrets.token_hex(12)}"
        self.number = f"600.{secrets.randbelow(10**12):012}"
        self._open_everything(attacker)
        self._listen()
        self._start_terminal(attacker)
        self._host_before = _host_settings()
        self.victim, self.mortal = (self._start_victim(attacker) for _ in range(2))
        self._inode = self.workspace.stat().st_ino

    def target(self, *wanted: str, confined: bool = True, **more: Any) -> dict[str, Any]:
        """What the attacker is told: everything."""
        return {
            "probes": wanted, "confined": confined, "canary": str(self.canary), "key": str(self.key),
            "data": str(self.data), "workspace": str(self.workspace), "victim": self.victim.pid,
            "mortal": self.mortal.pid, "victim_stack": _top_of_stack(self.victim.pid),
            "tcp": self._tcp.getsockname()[1], "tcp_interface": self._interface.getsockname()[1],
            "interface": self._interface.getsockname()[0], "udp": self._udp.getsockname()[1],
            "socket_outside": str(self.folder / "socket"), "socket_inside": str(self.workspace / "socket"),
            "datagrams_inside": str(self.workspace / "datagrams"), "abstract": self.number,
            "terminal": self._terminal_path, "cgroup": f"attack-{self.number}", "host_name": f"taken-{os.getpid()}",
            "set_id_program": str(self.workspace / "id"), "counted": "", "memory_tried": 805_306_368,
            "disk_tried": 209_715_200, "inodes_tried": 20_000, "inodes_max": INODES_MAX, **LIMITS, **more,
        }  # fmt: skip

    def attack(self, *wanted: str, marker: str = "", **more: Any) -> dict[str, Any]:
        """An order that tries `wanted`, with `marker` in its command line."""
        told = json.dumps(self.target(*wanted, **more)).encode()
        return self.python(PROGRAM, marker, stdin=base64.b64encode(told).decode(), limits=LIMITS)

    def broken(self, stdout: str) -> dict[str, str]:
        """Each probe that got anywhere, by its own word, by a secret it printed, or by a trace seen from here."""
        said: dict[str, Any] = json.loads(stdout.splitlines()[-1])
        traces = self.traces()
        found = {}
        for name, result in said.items():
            if result.get("stumbled"):
                found[name] = f"not tried: {result['saw']}"
            elif result["won"] or self.leaked(result["saw"]) or traces.get(name):
                how = "left a trace" if traces.get(name) else result["saw"][:200] or "it says so"
                found[name] = how
        return found

    def leaked(self, text: str) -> bool:
        """Whether anything that nobody inside may know stands in `text`."""
        return any(one in text for one in (self.secret, self.number, PLANTED, *_shadow_lines()))

    def traces(self) -> dict[str, bool]:
        """What is different out here, by the probe that would do it."""
        now = _host_settings()
        modes = [path.lstat().st_mode for path in self.workspace.iterdir() if path.name != "id"]
        wrote = self.canary.read_text(encoding="utf-8") != "a secret beside the workspace"
        written = os.read(self._terminal, 4096) if _readable(self._terminal) else b""
        arrived = _visited(self._datagrams_inside)
        return {
            "write_outside": wrote, "write_through_link": wrote, "create_outside": (self.folder / "planted").exists(),
            "connect_tcp_loopback": _visited(self._tcp), "connect_tcp_interface": _visited(self._interface),
            "send_udp_loopback": _visited(self._udp), "connect_path_outside": _visited(self._outside),
            "connect_path_in_workspace": _visited(self._inside), "connect_abstract": _visited(self._abstract),
            "send_path_in_workspace": arrived, "send_by_a_socket_pair": arrived,
            "signal_victim": self.mortal.poll() is not None, "signal_everybody": self.victim.poll() is not None,
            "make_device": any(stat.S_ISCHR(mode) or stat.S_ISBLK(mode) for mode in modes),
            "make_set_id_file": any(mode & 0o6000 for mode in modes if stat.S_ISREG(mode)),
            "move_the_workspace": self.workspace.stat().st_ino != self._inode or self.workspace.is_symlink(),
            "write_host_name": now["hostname"] != self._host_before["hostname"],
            "write_core_pattern": now["core_pattern"] != self._host_before["core_pattern"],
            "write_cgroup": any(Path(folder, f"attack-{self.number}").exists() for folder in _cgroups()),
            "write_to_terminal": b"forged" in written, "inject_into_terminal": written == b"x",
        }  # fmt: skip

    def clear(self) -> None:
        """End the victims and remove everything."""
        for process in (self.victim, self.mortal):
            process.kill()
            process.wait()
        for one in (self._tcp, self._interface, self._udp, self._abstract, *self._path_sockets):
            one.close()
        for fd in (self._terminal, self._terminal_inside):
            os.close(fd)
        shutil.rmtree(self.folder)

    def _open_everything(self, attacker: int) -> None:
        """Permissions protect nothing here: only confinement can."""
        self.key, self.data = self.folder / "key", self.folder / "data"
        self.key.write_text(self.secret)
        (self.data / "keys").mkdir(parents=True)
        for name in ("keys/log.key", "assent.db", "checkpoints.txt"):
            (self.data / name).write_text(self.secret)
        if os.geteuid() == 0:
            os.chown(self.key, attacker, attacker)
        shutil.copy(shutil.which("id") or "/usr/bin/id", self.workspace / "id")
        self.folder.chmod(0o777)
        self.workspace.chmod(0o777)
        self.canary.chmod(0o666)
        (self.workspace / "id").chmod(0o4755 if os.geteuid() == 0 else 0o755)  # of root, where there is a root

    def _listen(self) -> None:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._interface = socket.create_server((_own_address(), 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._abstract = socket.socket(socket.AF_UNIX)
        self._abstract.bind("\0" + self.number)
        self._outside, self._inside = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self._datagrams_inside = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path_sockets = (self._outside, self._inside, self._datagrams_inside)
        for one, path in (
            (self._outside, self.folder / "socket"),
            (self._inside, self.workspace / "socket"),
            (self._datagrams_inside, self.workspace / "datagrams"),
        ):
            one.bind(str(path))
            path.chmod(0o777)
        for one in (self._abstract, self._outside, self._inside):
            one.listen()
        for one in (self._tcp, self._interface, self._udp, self._abstract, *self._path_sockets):
            one.setblocking(False)

    def _start_terminal(self, attacker: int) -> None:
        self._terminal, self._terminal_inside = pty.openpty()
        self._terminal_path = os.ttyname(self._terminal_inside)
        if os.geteuid() == 0:
            os.fchown(self._terminal_inside, attacker, attacker)

    def _start_victim(self, attacker: int) -> subprocess.Popen[bytes]:
        user: dict[str, Any] = {"user": attacker, "group": attacker, "extra_groups": []} if os.geteuid() == 0 else {}
        return subprocess.Popen(["/bin/sleep", self.number], env={"MARKER": self.secret}, cwd="/", **user)


def _host_settings() -> dict[str, str]:
    return {name: Path("/proc/sys/kernel", name).read_text() for name in ("hostname", "core_pattern")}


def _cgroups() -> tuple[str, ...]:
    return ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def _shadow_lines() -> list[str]:
    with contextlib.suppress(OSError):
        return [line for line in Path("/etc/shadow").read_text().splitlines() if line]
    return []


def _own_address() -> str:
    """An address of this machine that is not the loopback's, where there is one."""
    routes = Path("/proc/net/fib_trie").read_text()
    found = re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", routes)
    return next((one for one in found if not one.startswith("127.")), "127.0.0.2")


def _top_of_stack(pid: int) -> tuple[int, int]:
    """Where a process keeps the environment it was started with."""
    maps = Path("/proc", str(pid), "maps").read_text()
    end = int(next(line for line in maps.splitlines() if line.endswith("[stack]")).split("-")[1].split()[0], 16)
    return end - STACK_BYTES, end


def _visited(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(64)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _readable(fd: int) -> bool:
    os.set_blocking(fd, False)
    try:
        data = os.read(fd, 0)
    except OSError:
        return False
    return data == b"" and bool(_poll(fd))


def _poll(fd: int) -> list[tuple[int, int]]:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return poll.poll(0)
