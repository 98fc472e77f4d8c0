"""The self-test of a node: the lane is attacked from inside by real programs, and the outcome is checked from outside.

A zero return code proves nothing, so every attack has a witness where it can have one: a canary file, live listeners
that count their visitors, a victim process that must stay alive, a scan of /proc for a daemon that must be gone. The
result is kept under the state folder, keyed by everything it depends on: kernel, boot, user, security modules, the
sources of the sandbox, the programs that build one, the limits used.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from assent.execution.adapters.sandboxes import attacks
from assent.execution.adapters.sandboxes.attest import WITH_HOSTS
from assent.execution.orders import Limits, ProcessOrder
from assent.execution.outcomes import Outcome
from assent.primitives.clock import Clock
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Unavailable

LIMITS = Limits(wall_ms=20_000, memory_bytes_max=134_217_728, processes_max=24, cpu_s_max=10, file_bytes_max=16_777_216)
_CARRY = Callable[[ProcessOrder], Awaitable[Outcome]]
_NOT_FOUND = 127  # of a program that was to be run by another
# What builds sandboxes beside ourselves, and what the kernel guards with: a result holds for just these.
BUILDERS = ("bwrap", "runc", "crun", "runsc", "qemu-system-x86_64")
_SECURITY_MODULES = "/sys/kernel/security/lsm"
# What each attack is about: the property that it confirms or breaks.
PROPERTY_OF = {
    "read_canary": "files", "write_canary": "files", "follow_link": "files",
    "write_where_only_landlock_forbids": "landlock", "connect_tcp": "network", "send_udp": "network",
    "connect_abstract": "network", "connect_path": "network", "read_environment_of_victim": "other-processes",
    "trace_victim": "other-processes", "signal_victim": "other-processes",
    "nest_user_namespace": "syscall-program", "mount_something": "syscall-program",
    "set_up_io_uring": "syscall-program",
    "call_bpf": "syscall-program", "call_keyctl": "syscall-program", "inject_into_terminal": "syscall-program",
    "make_set_user_id_file": "syscall-program", "write_core_pattern": "user", "fork_bomb": "limits",
    "memory_bomb": "limits", "shared_memory_bomb": "limits", "leave_daemon": "tree-death",
}  # fmt: skip
_PROPERTY_WITH_HOSTS = PROPERTY_OF | {"pass_the_broker": "network"}
# Shared pages count against no process's data limit: only the sum over the tree can stop this one.
_SHARED_BOMB = (
    "import mmap, time\nm = mmap.mmap(-1, 2 * {size})\n"
    "for i in range(0, len(m), 4096): m[i] = 1\ntime.sleep(1)\nprint('held')"
)


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One attack: whether the sandbox held, which property that speaks about, and what was seen."""

    name: str
    property: str
    held: bool
    seen: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The probes of one mechanism on this node; `with_hosts` are those of a run that may reach hosts, where it has a
    way out at all."""

    mechanism: str
    key: Digest
    taken_at_ms: int
    duration_ms: int
    probes: tuple[Probe, ...]
    with_hosts: tuple[Probe, ...] = ()

    @property
    def held(self) -> bool:
        """Whether every probe was withstood."""
        return all(probe.held for probe in (*self.probes, *self.with_hosts))

    @property
    def verdict(self) -> dict[str, bool]:
        """For each property that was attacked: whether all attacks on it failed.

        What was found of runs that may reach hosts stands under the property's name and `WITH_HOSTS`.
        """
        return _verdict(self.probes, "") | _verdict(self.with_hosts, WITH_HOSTS)


def _verdict(probes: tuple[Probe, ...], after: str) -> dict[str, bool]:
    names = {probe.property for probe in probes}
    return {f"{name}{after}": all(p.held for p in probes if p.property == name) for name in names}


async def run(
    carry: _CARRY,
    *,
    mechanism: str,
    clock: Clock,
    victim_uid: int,
    counts_strangers: bool = False,
    wall_ms: int = LIMITS.wall_ms,
) -> Report:
    """Attack. `victim_uid` is the user that the sandbox's programs have: the victim gets the same, the hardest case.

    `counts_strangers`: the kernel's process limit counts tasks outside of the sandbox too. Since those come and go, a
    fork bomb must then only be stopped, and not at a number. `wall_ms`: what each of two attacking programs may take.

    Raises:
        Unavailable: the attacking program itself could not be run.
    """
    wall_ms, started_ns = clock.now_ms(), clock.monotonic_ns()
    # Without an await between the victim's start and the try: a cancelled self-test must not leave the victim behind.
    scene = _Scene(victim_uid, wall_ms)
    if counts_strangers:
        scene.target["processes_max"] = attacks.ATTEMPTS_MAX - 1
    try:
        attacked = await _by_any_python(carry, scene, _attack_text(), json.dumps(scene.target))
        probes = _compared(attacked, await asyncio.to_thread(scene.witness))
        with_hosts = await _attacked_with_hosts(carry, scene)
        shared = await _by_any_python(carry, scene, _SHARED_BOMB.format(size=LIMITS.memory_bytes_max))
    finally:
        scene.clear()
    probes.append(_probe("shared_memory_bomb", held=_stopped(shared), seen=shared.code))
    duration_ms = (clock.monotonic_ns() - started_ns) // 1_000_000
    key = node_key(mechanism)
    return Report(mechanism=mechanism, key=key, taken_at_ms=wall_ms, duration_ms=duration_ms, probes=tuple(probes),
                  with_hosts=tuple(with_hosts))  # fmt: skip


async def _attacked_with_hosts(carry: _CARRY, scene: _Scene) -> list[Probe]:
    """The attacks of a run that may reach one host, which is none of the scene; none where there is no way out."""
    words = json.dumps({**scene.target, "with_hosts": True})
    attacked = await _by_any_python(carry, scene, _attack_text(), words, hosts=("self-test.invalid:1",))
    if attacked.code in ("confinement_unmet", "sandbox_failed"):
        return []
    return _compared(attacked, await asyncio.to_thread(scene.witness))


async def _by_any_python(
    carry: _CARRY, scene: _Scene, program: str, *arguments: str, hosts: tuple[str, ...] = ()
) -> Outcome:
    """Run by this interpreter, or by the system's where this one lies in a folder closed to the sandbox's user."""
    outcome = await carry(scene.order(sys.executable, program, *arguments, hosts=hosts))
    if outcome.code == "program_missing" or outcome.value.get("exit") == _NOT_FOUND:
        outcome = await carry(scene.order("python3", program, *arguments, hosts=hosts))
    return outcome


def node_key(mechanism: str) -> Digest:
    """A digest over everything a result depends on."""
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.read_bytes())
    facts = [
        mechanism,
        platform.release(),
        _boot_id(),
        str(os.geteuid()),
        sources.hexdigest(),
        sys.version,
        repr(LIMITS),
        _text(_SECURITY_MODULES),
        *map(_version, BUILDERS),
    ]
    return digest("\n".join(facts).encode())


def cached(state_dir: Path, mechanism: str) -> Report | None:
    """The kept result for `mechanism`, if it was taken on just this node as it is now."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        report = msgspec.json.decode(_file(state_dir, mechanism).read_bytes(), type=Report)
        return report if report.key == node_key(mechanism) else None
    return None


def keep(state_dir: Path, report: Report) -> None:
    """Keep a result, whole or not at all."""
    state_dir.mkdir(parents=True, exist_ok=True)
    path = _file(state_dir, report.mechanism)
    draft = path.with_suffix(f".{secrets.token_hex(4)}")
    draft.write_bytes(msgspec.json.encode(report))
    draft.replace(path)


class _Scene:
    """A folder with a canary beside the workspace, listeners that count, and a victim."""

    def __init__(self, victim_uid: int, wall_ms: int = LIMITS.wall_ms) -> None:
        self._limits = msgspec.structs.replace(LIMITS, wall_ms=wall_ms)
        self.folder = Path(tempfile.mkdtemp(prefix="assent-selftest-")).resolve()
        self.marker = secrets.token_hex(12)
        self.workspace = self.folder / "workspace"
        self.canary = self.folder / "canary"
        self.workspace.mkdir()
        self.canary.write_text("canary")
        for path in (self.folder, self.canary, self.workspace):
            _own(path, victim_uid)
        self._listen()
        self._victim = _start_victim(self.marker, victim_uid)
        self.target = {
            "canary": str(self.canary), "workspace": str(self.workspace), "marker": self.marker,
            "tcp": self._tcp.getsockname()[1], "udp": self._udp.getsockname()[1], "abstract": self.marker,
            "path_socket": str(self.folder / "socket"), "victim": self._victim.pid,
            "processes_max": LIMITS.processes_max, "memory_bytes_max": LIMITS.memory_bytes_max,
        }  # fmt: skip

    def order(self, python: str, program: str, *arguments: str, hosts: tuple[str, ...] = ()) -> ProcessOrder:
        argv = (python, "-I", "-S", "-c", program, *arguments)
        return ProcessOrder(argv=argv, workspace=str(self.workspace), hosts=hosts, limits=self._limits)

    def witness(self) -> dict[str, bool]:
        """What is seen from outside; true means the attack of that name left a trace."""
        return {
            "write_canary": self.canary.read_text() != "canary",
            "connect_tcp": _visited(self._tcp), "send_udp": _visited(self._udp),
            "connect_abstract": _visited(self._abstract), "connect_path": _visited(self._path),
            "signal_victim": self._victim.poll() is not None,
            "leave_daemon": _running_with(self.marker, besides=self._victim.pid),
        }  # fmt: skip

    def clear(self) -> None:
        self._victim.kill()
        self._victim.wait()
        for one in (self._tcp, self._udp, self._abstract, self._path):
            one.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listen(self) -> None:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._abstract, self._path = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self._abstract.bind("\0" + self.marker)
        self._path.bind(str(self.folder / "socket"))
        (self.folder / "socket").chmod(0o777)
        for one in (self._abstract, self._path):
            one.listen()
        for one in (self._tcp, self._udp, self._abstract, self._path):
            one.setblocking(False)


def _compared(attacked: Outcome, witnessed: dict[str, bool]) -> list[Probe]:
    """The attacker's word and the witness's; either is enough to break the property."""
    try:
        said: dict[str, dict[str, Any]] = json.loads(str(attacked.value.get("stdout", "")).splitlines()[0])
    except (ValueError, IndexError) as error:
        raise Unavailable(
            "sandbox_failed", f"the self-test could not attack: {attacked.code} {attacked.message}"
        ) from error
    probes = []
    for name, result in said.items():
        broken = bool(result["won"]) or witnessed.get(name, False)
        seen = (
            "left a trace outside" if witnessed.get(name) else result["said"] or ("it worked" if broken else "refused")
        )
        probes.append(_probe(name, held=not broken, seen=seen))
    return probes


def _stopped(bomb: Outcome) -> bool:
    """Whether the tree was ended, by us or by a guest's own kernel, or the memory was not given in the first place."""
    refused = "annot allocate memory" in str(bomb.value.get("stderr", ""))
    return bomb.code in ("memory_limit", "signalled") or (bomb.code == "exit_nonzero" and refused)


def _probe(name: str, *, held: bool, seen: str) -> Probe:
    return Probe(name=name, property=_PROPERTY_WITH_HOSTS[name], held=held, seen=seen)


def _attack_text() -> str:
    return (Path(__file__).parent / "attacks.py").read_text(encoding="utf-8")


def _start_victim(marker: str, uid: int) -> subprocess.Popen[bytes]:
    user: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    # With no output of ours: what outlives a killed node must not hold its pipes open.
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        ["/bin/sleep", "600"], env={"MARKER": marker}, cwd="/", stdin=quiet, stdout=quiet, stderr=quiet, **user
    )


def _visited(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(64)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _running_with(marker: str, *, besides: int) -> bool:
    """Whether any process's command line holds `marker`."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (besides, os.getpid()):
            with contextlib.suppress(OSError):
                if marker.encode() in Path("/proc", name, "cmdline").read_bytes():
                    return True
    return False


def _own(path: Path, uid: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, uid, uid)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _version(program: str) -> str:
    """Which file a program on PATH is, and of when: another one is another sandbox."""
    found = shutil.which(program)
    facts = os.stat(found) if found else None
    return f"{found} {facts.st_size} {facts.st_mtime_ns}" if facts else "none"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _file(state_dir: Path, mechanism: str) -> Path:
    return state_dir / f"selftest-{mechanism}.json"
