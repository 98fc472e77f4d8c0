"""What a guest boots: a kernel of this machine's, and an initial file system that is written here.

The initial file system holds a static busybox, the modules for virtio and 9p in the order they depend on each other,
and one script: it loads them, mounts what the monitor shares (the sandbox's own root, read-only), and becomes the
interpreter in there with `guest.py`. It is an archive as the kernel reads it (cpio, "newc"), uncompressed.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from assent.primitives.errors import Unavailable

_XZ, _ELF = b"\xfd7zXZ\0", b"\x7fELF"
_TMP = "/tmp/"  # noqa: S108 - in the guest, where it is a file system of its own
_MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio")
_SCRIPT = """#!/bin/busybox sh
B=/bin/busybox
$B mkdir -p /proc /host
$B mount -t proc proc /proc
for m in {modules}; do $B insmod /modules/$m; done
$B mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 root /host
$B mount -t devtmpfs devices /host/dev
$B mkdir -p /host/dev/shm
$B mount -t proc proc /host/proc
n=0; for d in {kept}; do n=$((n+1)); $B mkdir -p /kept/$n; $B mount -o bind /host$d /kept/$n; done
$B mount -t tmpfs -o mode=1777 scratch /host/tmp
n=0; for d in {kept}; do n=$((n+1)); $B mkdir -p /host$d; $B mount -o move /kept/$n /host$d; done
$B mount -t tmpfs -o mode=1777 memory /host/dev/shm
for word in $($B cat /proc/cmdline); do case $word in nonce=*) N=${{word#nonce=}};; esac; done
exec $B chroot /host {python} -I -S -B {guest} $N </host/dev/null >/host/dev/null 2>&1
"""


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel that can be booted: its file, its release, and the files of the modules it needs, in order."""

    path: str
    release: str
    modules: tuple[str, ...]


def find_kernel(*, boot: Path = Path("/boot"), library: Path = Path("/lib/modules")) -> Kernel:
    """The newest kernel in `boot` that can be read and has what a guest needs.

    Raises:
        Unavailable: there is none; the message says why for each.
    """
    reasons = []
    for path in sorted(boot.glob("vmlinuz-*"), reverse=True):
        release = path.name.removeprefix("vmlinuz-")
        if not os.access(path, os.R_OK):
            reasons.append(f"`{path}` cannot be read")
            continue
        try:
            return Kernel(path=str(path), release=release, modules=tuple(_needed(library / release)))
        except (OSError, LookupError) as error:
            reasons.append(f"`{path}` has no module {error}")
    raise Unavailable(
        "sandbox_failed", f"there is no kernel for a guest in `{boot}`: {'; '.join(reasons) or 'it holds none'}",
        hint="install a distribution kernel with virtio and 9p (on Debian: linux-image-amd64), readable for this user",
    )  # fmt: skip


def unpacked(kernel: Kernel) -> bytes:
    """The kernel without the xz around it where there is one: an emulated processor would take seconds to undo that."""
    packed = Path(kernel.path).read_bytes()
    start = packed.find(_XZ)
    if start >= 0:
        with contextlib.suppress(lzma.LZMAError):
            plain = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(packed[start:])
            if plain.startswith(_ELF):
                return plain
    return packed


def busybox() -> str:
    """A static busybox.

    Raises:
        Unavailable: there is none on PATH, or it is not static.
    """
    found = shutil.which("busybox")
    if found is None or b"ld-linux" in Path(found).read_bytes()[:4096]:
        raise Unavailable("sandbox_failed", "there is no static `busybox` on PATH", hint="install busybox-static")
    return found


def archive(kernel: Kernel, *, python: str, guest: str, needed: Iterable[str]) -> bytes:
    """The initial file system for `kernel`, which ends in `python` running `guest` beneath the shared root.

    `needed` are the folders both are made of: those below /tmp are shown over the guest's own.
    """
    names = [f"{at:02}-{Path(path).name.partition('.ko')[0]}.ko" for at, path in enumerate(kernel.modules)]
    kept = " ".join(shlex.quote(path) for path in needed if path.startswith(_TMP))
    script = _SCRIPT.format(
        modules=" ".join(names), python=shlex.quote(python), guest=shlex.quote(guest), kept=kept
    ).encode()
    entries = [(name, 0o040755, b"") for name in ("bin", "dev", "modules", "proc", "host")]
    entries += [("init", 0o100755, script), ("bin/busybox", 0o100755, Path(busybox()).read_bytes())]
    entries += [(f"modules/{name}", 0o100644, _module(path))
                for name, path in zip(names, kernel.modules, strict=True)]  # fmt: skip
    return b"".join(_entry(at, *entry) for at, entry in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1))


def _needed(folder: Path) -> Iterator[str]:
    """The files of all modules a guest needs, each after those it depends on."""
    builtin = {_name(line) for line in (folder / "modules.builtin").read_text().splitlines()}
    depends = dict(line.split(":", 1) for line in (folder / "modules.dep").read_text().splitlines())
    by_name = {_name(path): path for path in depends}
    seen: set[str] = set()
    for wanted in _MODULES:
        if wanted in builtin:
            continue
        path = by_name[wanted]
        for one in (*reversed(depends[path].split()), path):
            if one not in seen:
                seen.add(one)
                yield str(folder / one)


def _name(path: str) -> str:
    return Path(path).name.partition(".ko")[0]


def _module(path: str) -> bytes:
    content = Path(path).read_bytes()
    if path.endswith(".xz"):
        return lzma.decompress(content)
    if not path.endswith(".ko"):
        raise Unavailable("sandbox_failed", f"the module `{path}` is packed in a way that cannot be read here")
    return content


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    raw = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + raw
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
