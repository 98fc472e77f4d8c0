"""The bundle of an OCI runtime (OCI Runtime Specification 1.0): the image plan as a configuration and a root folder.

The root is read-only, its folders are the image's by bind mounts, one user id is mapped, every capability is gone, the
network namespace is empty, the parts of /proc that speak about the machine are masked. Our filter stands in it as far
as the format can say it: by number and by one argument; what needs more (`clone` flags read as bits, modes of new
files) our second stage adds inside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from assent.execution.adapters.sandboxes import seccomp, syscalls
from assent.execution.adapters.sandboxes.image import HOME
from assent.primitives.digests import Digest, digest

CONFIGURATION, ROOT = "config.json", "rootfs"
GIVEN = frozenset({f"HOME={HOME}".encode()})  # a runtime sets it when nobody does
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "user", "cgroup")
_CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
_MASKED = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
           "/proc/scsi", "/proc/timer_list", "/proc/timer_stats")  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def write(folder: Path, spec: Mapping[str, Any], command: list[str], *, owner: tuple[int, int]) -> Digest:
    """Make the bundle in the empty `folder` for `owner`, to run `command`; the digest of its configuration."""
    root = folder / ROOT
    root.mkdir()
    for path, mode in spec["folders"]:
        _inside(root, path).mkdir(mode=mode, parents=True, exist_ok=True)
    for path, content in spec["files"]:
        _inside(root, path).parent.mkdir(parents=True, exist_ok=True)
        _inside(root, path).write_bytes(content)
    for target, path in spec["links"]:
        if not path.startswith("/dev/"):  # the runtime makes these itself
            _inside(root, path).symlink_to(target)
    for place, kind, source, _writable, _identity in spec["mounts"]:
        _make_place(_inside(root, place), folder=kind == "tmpfs" or os.path.isdir(source))
    text = msgspec.json.encode(_configuration(spec, command, owner), order="sorted")
    (folder / CONFIGURATION).write_bytes(text)
    _give(folder, owner)
    return digest(text)


def digest_of(folder: Path) -> Digest:
    """Of the configuration as it lies there now."""
    return digest((folder / CONFIGURATION).read_bytes())


def _configuration(spec: Mapping[str, Any], command: list[str], owner: tuple[int, int]) -> dict[str, Any]:
    uid, gid = owner
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False, "user": {"uid": 0, "gid": 0}, "args": command,
            "env": [one.decode() for one in GIVEN], "cwd": "/",
            "capabilities": {name: [] for name in _CAPABILITY_SETS}, "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        },
        "root": {"path": ROOT, "readonly": True},
        "hostname": "sandbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "noexec", "mode=755", "size=65536"],
            },
            *(_mount(entry) for entry in spec["mounts"] if entry[1] != "device"),
        ],
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
            "namespaces": [{"type": name} for name in _NAMESPACES],
            "maskedPaths": list(_MASKED), "readonlyPaths": list(_READ_ONLY),
            "seccomp": _filter(sockets=bool(spec.get("broker_port"))),
        },
    }  # fmt: skip


def _mount(entry: tuple[Any, ...]) -> dict[str, Any]:
    place, kind, source, writable, _identity = entry
    if kind == "tmpfs":
        options = ["nosuid", "nodev", "mode=1777", f"size={source}", f"nr_inodes={max(4096, source // 1024)}"]
        return {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}
    options = ["rbind", "nosuid", "nodev", "rw" if writable else "ro", "rprivate"]
    return {"destination": place, "type": "bind", "source": source, "options": options}


def _filter(*, sockets: bool) -> dict[str, Any]:
    """The filter in the runtime's words. With `sockets` they may be made: our second stage is to listen on one, and its
    own filter then allows no other kind."""
    named, missing = seccomp.named_refusals(syscalls.MACHINE)
    refused = set(named) - ({"socket"} if sockets else set())
    clone = [
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
         "args": [{"index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"}]}
        for bit in _bits(seccomp.NAMESPACE_FLAGS)
    ]  # fmt: skip
    return {
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": [_ARCHITECTURES[syscalls.MACHINE]],
        "syscalls": [
            {"names": sorted(refused), "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": sorted(missing), "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            *clone,
        ],
    }  # fmt: skip


def _bits(mask: int) -> list[int]:
    return [1 << at for at in range(mask.bit_length()) if mask >> at & 1]


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _make_place(path: Path, *, folder: bool) -> None:
    if folder:
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _give(folder: Path, owner: tuple[int, int]) -> None:
    if os.geteuid() == 0:
        for above, folders, files in os.walk(folder):
            for name in ("", *folders, *files):
                os.chown(os.path.join(above, name), *owner, follow_symlinks=False)
