"""What the supervisor reads about one sandbox, from outside, before the program may start.

Every value comes from /proc of the process that waits at the gate and is about to become the program: its status, id
maps, namespace links, mount table, network devices, limits and environment. None of it can be changed between this
look and execve: namespaces cannot be left (the calls are filtered and need capabilities that are gone), the filter,
no_new_privs and Landlock are one-way, limits can only go down.

How each property is known, honestly:

- `observed`: the value was read for this run and is the one required. A value that was read and is *wrong* is
  `absent`.
- `files` is observed from the mount table: the root is a private, read-only tmpfs and every mount is one of the
  image's, so what is not in the list is not there; the writable ones are named. Landlock stands beside it as its own
  property, because no one can read a process's Landlock state: `probed` when this node's self-test saw it refuse,
  else `configured`.
- `network` is observed: another network namespace whose only device is the loopback, which is down; or, where the
  order names hosts, which carries one socket: the listener that this supervisor holds, told by its inode. `egress` is
  then what the broker at the other end does: it checks names and addresses, and reads no content.
- `syscall-filter` is observed as a mode; the program's digest is what *we* installed, so `syscall-program` is
  `probed` when the self-test saw its refusals, else `configured`.
- `environment` is observed as what the waiting process carries: nothing. execve then gives it the order's variables
  alone.
- `terminal`, where the order asks for one, is observed as structure: the program leads its session and has a
  controlling terminal; the supervisor made it for this run.
- `tree-death` is observed as structure: the process behind our pidfd is process 1 of the program's process namespace,
  and the program is its child; the kernel's rule does the rest, and the receipt adds the moment it was seen.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import sys
from collections.abc import Mapping

import msgspec

from assent.execution.adapters.sandboxes import doorway, seccomp
from assent.execution.adapters.sandboxes.image import Image, resource_limits
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.attestations import Attestation, Known, Property
from assent.execution.orders import ProcessOrder
from assent.primitives.digests import Digest, digest

NAMESPACES = {
    "user-namespace": "user", "process-namespace": "pid", "mount-namespace": "mnt", "network-namespace": "net",
    "ipc-namespace": "ipc", "uts-namespace": "uts", "cgroup-namespace": "cgroup",
}  # fmt: skip
_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_LIMIT_LINES = {
    "RLIMIT_CORE": "Max core file size", "RLIMIT_CPU": "Max cpu time", "RLIMIT_FSIZE": "Max file size",
    "RLIMIT_DATA": "Max data size", "RLIMIT_NOFILE": "Max open files", "RLIMIT_NPROC": "Max processes",
}  # fmt: skip
_HARMLESS_NAMES = {b"PWD", b"LC_CTYPE"}  # set by the launcher chain itself, not inherited
WITH_HOSTS = " with hosts"  # after a property's name in a verdict: what was found of runs that may reach hosts
_SOCKET_TABLES = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6", "unix", "packet")
_LISTENING = "0A"
_OCTAL = re.compile(r"\\([0-7]{3})")  # how the mount table writes spaces
_OWN_WRITABLE = ("/tmp", "/dev/shm", "/proc")  # noqa: S108 - inside the sandbox


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox is compared with.

    `root` is the folder of the host that is its root, where that is no tmpfs; `given` are the variables its builder had
    to set.
    """

    order: ProcessOrder
    image: Image
    uid: int
    own_namespaces: dict[str, str]
    program_digest: Digest
    root: str = ""
    given: frozenset[bytes] = frozenset()


def own_namespaces() -> dict[str, str]:
    """This process's namespace links, by kind."""
    return {kind: _link("self", kind) for kind in NAMESPACES.values()}


def sandbox(launch: Launch, expected: Expected) -> dict[str, Property]:
    """Every property of a namespaced sandbox. Costs well under a millisecond."""
    pid = str(launch.program_pid)
    status = status_of(pid)
    properties = _namespaces(pid, expected.own_namespaces)
    properties |= privileges(status)
    properties["user"] = user(status, pid, expected.uid)
    properties |= _mounts(pid, expected)
    devices = _network(pid, properties["network-namespace"])
    properties["network"] = devices if not expected.order.hosts else way_out(launch, devices)
    if expected.order.hosts:
        properties["egress"] = _egress(expected.order, properties["network"])
    properties["other-processes"] = _seen(
        "none in sight",
        properties["process-namespace"].known is Known.OBSERVED and properties["private-root"].known is Known.OBSERVED,
    )
    properties["limits"] = limits(pid, resource_limits(expected.order.limits))
    properties["environment"] = environment(pid, given=expected.given)
    properties["tree-death"] = _tree_death(launch, status)
    properties["landlock"] = landlock_property(expected.image.landlock_abi)
    if expected.order.pty is not None:
        properties["terminal"] = terminal(pid)
    program = tcp_program() if expected.order.hosts else expected.program_digest
    properties["syscall-program"] = Property(value=program, known=Known.CONFIGURED)
    return properties


def judged(attestation: Attestation, verdict: Mapping[str, bool]) -> Attestation:
    """The attestation in the light of the self-test: `verdict` says which properties its probes confirmed or broke.

    A run that may reach hosts has another filter and another Landlock rule, and was attacked on its own: what the
    attacks on the other broke is broken there too, but only its own confirm anything.
    """
    properties = dict(attestation.properties)
    with_hosts = "egress" in properties
    for told, held in verdict.items():
        name = told.removesuffix(WITH_HOSTS)
        known = properties.get(name)
        if known is None or (told != name and not with_hosts):
            continue
        if not held:
            properties[name] = Property(value=f"{known.value}; the self-test broke it", known=Known.ABSENT)
        elif known.known is Known.CONFIGURED and (told != name) == with_hosts:
            properties[name] = Property(value=known.value, known=Known.PROBED)
    return Attestation(mechanism=attestation.mechanism, properties=properties)


def landlock_property(abi: int) -> Property:
    """Landlock as set for a run; only a self-test can make it more than configured."""
    known = Known.CONFIGURED if abi else Known.ABSENT
    return Property(value=f"abi {abi}" if abi else "not in this kernel", known=known)


def privileges(status: dict[str, str]) -> dict[str, Property]:
    """no_new_privs, the filter's mode and the capability sets."""
    capabilities = " ".join(f"{name}={status.get(name, '?')}" for name in _CAPABILITY_SETS)
    empty = all(int(status.get(name, "1"), 16) == 0 for name in _CAPABILITY_SETS)
    return {
        "no-new-privileges": _seen("1", status.get("NoNewPrivs") == "1"),
        "syscall-filter": _seen(f"mode {status.get('Seccomp', '?')}", status.get("Seccomp") == "2"),
        "capabilities": _seen("none" if empty else capabilities, empty),
    }


def user(status: dict[str, str], pid: str, uid: int) -> Property:
    """The kernel's uid of the process: the expected one in all four places, not root, and alone in its map."""
    uids = status.get("Uid", "").split()
    mapped = _read(pid, "uid_map").split()
    held = uid > 0 and uids == [str(uid)] * 4 and mapped[1:] == [str(uid), "1"]
    return _seen(f"uid {uids[0] if uids else '?'}", held)


def plain_user(status: dict[str, str], uid: int) -> Property:
    """The same where ids are not mapped."""
    uids = status.get("Uid", "").split()
    return _seen(f"uid {uids[0] if uids else '?'}", uid > 0 and uids == [str(uid)] * 4)


def limits(pid: str, wanted: Mapping[str, int]) -> Property:
    """The kernel's limits, compared one by one with the wanted ones."""
    lines = _read(pid, "limits").splitlines()
    found = {
        name: next((line[len(text) :].split()[0] for line in lines if line.startswith(text)), "?")
        for name, text in _LIMIT_LINES.items()
    }
    held = all(found[name].isdigit() and int(found[name]) <= value for name, value in wanted.items())
    return _seen(" ".join(f"{name[7:].lower()}={value}" for name, value in found.items()), held)


def environment(pid: str, *, given: frozenset[bytes] = frozenset()) -> Property:
    """What the waiting process carries of anybody's environment: nothing, but what we have `given` (`NAME=value`)."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            names = {entry.partition(b"=")[0] for entry in file.read().split(b"\0") if entry and entry not in given}
    except OSError:
        return Property(value="unreadable", known=Known.ABSENT)
    inherited = names - _HARMLESS_NAMES
    return _seen("nothing inherited" if not inherited else f"{len(inherited)} names inherited", not inherited)


def terminal(pid: str) -> Property:
    """The controlling terminal of a program that was given one: of the session that it leads itself."""
    session, device = _read(pid, "stat").rpartition(")")[2].split()[3:5] or ("0", "0")
    held = session == pid and device != "0"
    return _seen("its own" if held else f"session {session}, device {device}", held)


def namespace_facts(attestation_properties: dict[str, Property]) -> dict[str, str]:
    """The namespace links of a run, by kind, for its evidence."""
    return {
        kind: attestation_properties[name].value for name, kind in NAMESPACES.items() if name in attestation_properties
    }


def _namespaces(pid: str, own: dict[str, str]) -> dict[str, Property]:
    links = {name: (kind, _link(pid, kind)) for name, kind in NAMESPACES.items()}
    return {name: _seen(link, bool(link) and link != own[kind]) for name, (kind, link) in links.items()}


def _mounts(pid: str, expected: Expected) -> dict[str, Property]:
    """The private root and what files it shows, from the mount table."""
    table = [_mount_line(line, by_folder=bool(expected.root)) for line in _read(pid, "mountinfo").splitlines()]
    wanted = expected.root or "tmpfs"
    root_ok = any(path == "/" and "ro" in options and origin == wanted for path, options, origin in table)
    workspace = os.path.normpath(expected.order.workspace)
    writable = {*_OWN_WRITABLE, *([workspace] if expected.order.workspace_writable else [])}
    may_write = dict.fromkeys([*expected.image.system, workspace], False) | dict.fromkeys(["/dev", *writable], True)
    wrong = [path for path, options, _ in table if path != "/" and not _foreseen(path, options, may_write)]
    said = f"{len(table)} mounts, writable: {', '.join(sorted(writable))}"
    return {
        "private-root": _seen(f"read-only {wanted}" if root_ok else "not private", root_ok),
        "files": _seen(said if not wrong else f"unexpected mounts: {wrong}"[:500], root_ok and not wrong),
    }


def _foreseen(path: str, options: list[str], may_write: dict[str, bool]) -> bool:
    """Whether a mount belongs to the image (the deepest folder above it decides) and is read-only where it must be."""
    above = [folder for folder in may_write if path == folder or path.startswith(f"{folder}/")]
    return bool(above) and ("ro" in options or may_write[max(above, key=len)])


def _mount_line(line: str, *, by_folder: bool) -> tuple[str, list[str], str]:
    """The place of a mount, its options, and its file system's kind, or the folder within that (`by_folder`)."""
    fields = line.split(" ")
    folder, path = (_OCTAL.sub(lambda found: chr(int(found[1], 8)), one) for one in fields[3:5])
    return path, fields[5].split(","), folder if by_folder else fields[fields.index("-") + 1]


def _network(pid: str, namespace: Property) -> Property:
    devices = [line.split(":")[0].strip() for line in _read(pid, "net/dev").splitlines()[2:]]
    return _seen(
        "none" if devices == ["lo"] else f"devices {devices}", devices == ["lo"] and namespace.known is Known.OBSERVED
    )


def way_out(launch: Launch, devices: Property) -> Property:
    """The network of a run that may reach hosts: its one socket is the one that is held here, and there is no other.

    Sockets are compared by their inode, so it is this very listener, in this very namespace.
    """
    pid, listener = str(launch.program_pid), launch.listener
    sockets = [
        (table, *line.split()) for table in _SOCKET_TABLES for line in _read(pid, f"net/{table}").splitlines()[1:]
    ]
    wanted = _hex_address(doorway.ADDRESS, doorway.PORT), _LISTENING, str(_inode(listener)) if listener else ""
    alone = len(sockets) == 1 and sockets[0][0] == "tcp" and (sockets[0][2], sockets[0][4], sockets[0][10]) == wanted
    held = devices.known is Known.OBSERVED and alone
    return _seen("broker only" if held else f"{devices.value}, {len(sockets)} sockets", held)


@functools.cache
def tcp_program() -> Digest:
    """The digest of the filter of runs that may reach hosts."""
    return digest(seccomp.assemble(tcp=True))


def _egress(order: ProcessOrder, network: Property) -> Property:
    value = f"names and addresses checked, content not inspected ({len(set(order.hosts))} listed)"
    return Property(value=value, known=network.known)


def _hex_address(address: str, port: int) -> str:
    """As the kernel's tables write it: the address in the machine's own byte order."""
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{port:04X}"


def _inode(listener: socket.socket) -> int:
    return os.fstat(listener.fileno()).st_ino


def _tree_death(launch: Launch, program: dict[str, str]) -> Property:
    init = status_of(str(launch.init_pid)).get("NSpid", "").split()
    held = len(init) > 1 and init[-1] == "1" and program.get("PPid") == str(launch.init_pid)
    return _seen("pidfd on process 1 of the namespace" if held else f"NSpid {init}", held)


def _seen(value: str, held: bool) -> Property:  # noqa: FBT001
    return Property(value=value, known=Known.OBSERVED if held else Known.ABSENT)


def status_of(pid: str) -> dict[str, str]:
    """A process's status file, by field name."""
    pairs = (line.partition(":") for line in _read(pid, "status").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _link(pid: str, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def _read(pid: str, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
