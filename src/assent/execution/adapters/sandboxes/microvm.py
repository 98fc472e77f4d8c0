"""The mechanism `microvm`: a guest with a kernel of its own, booted for each run by qemu inside a namespaced sandbox.

The virtual machine's monitor is the program of a sandbox that `namespaces` builds, so it is held, bounded, proved and
killed as any program is; a way out of the guest ends there. The guest has the sandbox's root read-only over 9p, the
workspace beside it, no network, and memory of its own. What it says first is compared: the number made for this run,
a boot and a kernel that are not the host's. Only then is the order let in.

The processor is the host's own (KVM) where a boot with it works within `BOOT_WAIT_S`, else it is emulated (TCG): the
same wall, much slower. `/dev/kvm` that opens proves nothing, so it is tried.

There is no terminal in the guest and no way out to hosts: orders that ask for one are refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from assent.execution.adapters.sandboxes import guest_image, kernels, monitor
from assent.execution.adapters.sandboxes.gate import settle
from assent.execution.adapters.sandboxes.image import HOME, Image, folder_inside, resource_limits, scratch_bytes
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.adapters.sandboxes.leftovers import HeldFolder
from assent.execution.adapters.sandboxes.namespaces import Namespaces
from assent.execution.adapters.sandboxes.spawner_client import python_command
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.adapters.sandboxes.supervision import kill_and_prove
from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from assent.execution.orders import Limits, ProcessOrder
from assent.primitives.errors import Unavailable

NAME = "microvm"
_HERE = str(Path(__file__).resolve().parent)
MACHINE = "qemu-system-x86_64"
BOOT_WAIT_S = {"kvm": 8.0, "tcg": 120.0}
KVM = "/dev/kvm"
_PROCESSORS = {"kvm": ("-accel", "kvm", "-cpu", "host"), "tcg": ("-accel", "tcg,tb-size=128", "-cpu", "max")}
_BOOT, _KERNEL, _INITIAL = "boot", "kernel", "initial"
_MIB = 1_048_576
_KERNEL_MIB, _MONITOR_MIB = 160, 640  # what the guest's own kernel needs; what qemu needs beside the guest's memory
_MONITOR_TASKS = 64
_HELLO_BYTES_MAX = 4096


class Microvm:
    """Boots guests.

    Raises:
        Unavailable: there is no qemu, no kernel for a guest, or no static busybox.
    """

    name = NAME

    def __init__(self, *, image: Image) -> None:
        found = shutil.which(MACHINE)
        if found is None:
            raise Unavailable("sandbox_failed", f"there is no `{MACHINE}` on PATH", hint="install qemu-system-x86")
        self._program = found
        self._kernel = guest_image.find_kernel()
        guest_image.busybox()
        self._image = image.showing(Path(_HERE))
        self._accelerators = ["tcg"]
        if os.access(KVM, os.R_OK | os.W_OK) and os.geteuid() != 0:
            self._image = self._image.with_device(KVM)
            self._accelerators = ["kvm", "tcg"]
        self._host = Namespaces(image=image)
        self._preparing = asyncio.Lock()
        self._base: HeldFolder | None = None

    @property
    def uid(self) -> int:
        """See `Mechanism.uid`."""
        return self._host.uid

    @property
    def alive(self) -> bool:
        """Whether the spawner of the sandboxes around the guests lives."""
        return self._host.alive

    async def launch(self, order: ProcessOrder, streams: Streams) -> Launch:
        """See `Mechanism.launch`. The first launch finds out by which processor a guest boots.

        Raises:
            Unavailable: the guest did not boot, or the order asks for a terminal or for hosts.
        """
        if order.pty is not None or order.hosts:
            raise Unavailable("sandbox_failed", "a guest has neither a terminal nor a way to hosts")
        boot = await self._prepared()
        folder = await asyncio.to_thread(_make_control, boot.parent)
        inner = _around(order, folder)
        launch = await self._host.launch(inner, streams, image=self._image.showing(boot).speaking(folder))
        try:
            return await self._boot(launch, folder, order, inner)
        except BaseException:
            await kill_and_prove(launch)
            launch.close()
            raise

    def attest(self, launch: Launch, order: ProcessOrder) -> Attestation:  # noqa: ARG002 - the launch has all of it
        """See `Mechanism.attest`. The sandbox around it was read before the monitor started."""
        told = launch.details
        around: Attestation = told["around"]
        properties = guest_properties(told["said"], kernels.answers(), nonce=told["nonce"])
        jailed = ConfinementClass.NAMESPACED in around.held
        properties["monitor"] = _seen(f"{MACHINE}, {told['processor']}, in `{around.confinement.value}`", jailed)
        properties["limits"] = Property(value="set in the guest, and around it", known=Known.CONFIGURED)
        for name in ("files", "network", "tree-death", "user"):
            properties[name] = around.properties[name]
        return Attestation(mechanism=NAME, properties=properties)

    async def close(self) -> None:
        """End every guest and remove what was written for them."""
        await self._host.close()
        base, self._base = self._base, None
        if base is not None:
            await asyncio.to_thread(base.remove)

    async def _prepared(self) -> Path:
        """The folder with what every guest boots, made once."""
        async with self._preparing:
            if self._base is None:
                base = HeldFolder("assent-guest-")
                needed = [*self._image.python_folders, _HERE]
                await asyncio.to_thread(_prepare, base.path / _BOOT, self._kernel, needed)
                self._base = base
            return self._base.path / _BOOT

    async def _boot(self, launch: Launch, folder: Path, order: ProcessOrder, inner: ProcessOrder) -> Launch:
        around = self._host.attest(launch, inner)
        nonce, processor = secrets.token_hex(16), self._accelerators[0]
        told = {"machine": self._machine(order, await self._prepared(), nonce, processor), "order": self._order(order)}
        await asyncio.to_thread(_write_order, folder, told)
        launch.go()
        said = await _hello(folder, wait_s=BOOT_WAIT_S[processor])
        if "failed" in said:
            if len(self._accelerators) > 1:
                self._accelerators = self._accelerators[1:]
            raise Unavailable("sandbox_failed", f"the guest did not boot by {processor}: {said['failed']}"[:500])
        guest = _Guest(launch, folder)
        guest.details = {**launch.details, "around": around, "said": said, "nonce": nonce, "processor": processor}
        return guest

    def _machine(self, order: ProcessOrder, boot: Path, nonce: str, processor: str) -> list[str]:
        memory_mib = order.limits.memory_bytes_max // _MIB + _KERNEL_MIB
        share = "local,security_model=none,multidevs=remap"
        return [
            self._program, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "none", "-monitor", "none",
            "-vga", "none", "-nic", "none", "-no-reboot", "-machine", "pc,vmport=off",
            *_PROCESSORS[processor], "-smp", "1", "-m", f"{memory_mib}M",
            "-kernel", str(boot / _KERNEL), "-initrd", str(boot / _INITIAL),
            "-append", f"quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check nonce={nonce}",
            "-fsdev", f"{share},id=root,path=/,readonly=on", "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
            "-fsdev", f"{share},id=work,path={order.workspace.replace(',', ',,')}",
            "-device", "virtio-9p-pci,fsdev=work,mount_tag=workspace",
            "-chardev", "socket,id=port,fd={port}", "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=port,nr=1,name=port",
        ]  # fmt: skip

    def _order(self, order: ProcessOrder) -> dict[str, Any]:
        limits = resource_limits(order.limits)
        return {
            "argv": list(order.argv), "env": self._image.environment(order), "cwd": folder_inside(order),
            "workspace": os.path.normpath(order.workspace), "writable": order.workspace_writable, "home": HOME,
            "uid": self._host.uid, "limits": limits, "scratch_bytes": scratch_bytes(order.limits),
        }  # fmt: skip


def guest_properties(said: Mapping[str, str], host: Mapping[str, str], *, nonce: str) -> dict[str, Property]:
    """What a guest's first words prove: it was booted for this run, and by another kernel than the host's."""
    boot, release = said.get("boot", ""), said.get("release", "")
    booted = said.get("nonce") == nonce and boot not in ("", host["boot"])
    return {
        "guest-boot": _seen(f"boot {boot or '?'}", booted),
        "guest-kernel": _seen(f"release {release or '?'}", booted and release not in ("", host["release"])),
    }


class _Guest(Launch):
    """A booted guest, its order still outside."""

    def __init__(self, around: Launch, folder: Path) -> None:
        super().__init__(
            gate=around.gate, init_pid=around.init_pid, init_pidfd=around.init_pidfd, program_pid=around.program_pid
        )
        self._folder = folder
        self._word = os.open(folder / monitor.GO, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def go(self) -> None:
        """Let the order in."""
        os.write(self._word, b"G")

    def close(self) -> None:
        """Close the gate, and remove what was written for the guest: a few files. Idempotent."""
        super().close()
        if self._word >= 0:
            os.close(self._word)
            self._word = -1
            shutil.rmtree(self._folder.parent, ignore_errors=True)


def _around(order: ProcessOrder, folder: Path) -> ProcessOrder:
    """The order for the sandbox around the guest: the same streams and workspace, and room for the monitor."""
    argv = tuple(python_command("monitor", str(folder)))
    mine = order.limits
    limits = Limits(
        wall_ms=mine.wall_ms, output_bytes_max=mine.output_bytes_max, disk_bytes_max=mine.disk_bytes_max,
        memory_bytes_max=mine.memory_bytes_max + (_KERNEL_MIB + _MONITOR_MIB) * _MIB, processes_max=_MONITOR_TASKS,
        cpu_s_max=10 * mine.cpu_s_max + 120, file_bytes_max=mine.file_bytes_max, grace_ms=mine.grace_ms,
    )  # fmt: skip
    return msgspec.structs.replace(order, argv=argv, env={}, cwd=".", limits=limits)


def _prepare(folder: Path, kernel: guest_image.Kernel, needed: list[str]) -> None:
    """Make `folder` with the kernel and the initial file system in it."""
    folder.mkdir(mode=0o755)
    (folder / _KERNEL).write_bytes(guest_image.unpacked(kernel))
    guest = f"{_HERE}/guest.py"
    (folder / _INITIAL).write_bytes(guest_image.archive(kernel, python=sys.executable, guest=guest, needed=needed))


def _make_control(base: Path) -> Path:
    """Two named pipes, in a folder that only this user, and the sandbox, can reach."""
    folder = Path(tempfile.mkdtemp(dir=base)) / "control"
    folder.mkdir(mode=0o755)
    for name in (monitor.HELLO, monitor.GO):
        os.mkfifo(folder / name)
        (folder / name).chmod(0o666)
    return folder


def _write_order(folder: Path, told: dict[str, Any]) -> None:
    (folder / monitor.ORDER).write_text(json.dumps(told), encoding="utf-8")


async def _hello(folder: Path, *, wait_s: float) -> dict[str, str]:
    """What the guest said first, or `failed` and why."""
    fd = os.open(folder / monitor.HELLO, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    loop, said = asyncio.get_running_loop(), b""
    try:
        async with asyncio.timeout(wait_s):
            while not said.endswith(b"\n") and len(said) < _HELLO_BYTES_MAX:
                ready: asyncio.Future[None] = loop.create_future()
                loop.add_reader(fd, partial(settle, ready))
                try:
                    await ready
                finally:
                    loop.remove_reader(fd)
                said += os.read(fd, _HELLO_BYTES_MAX)
        return msgspec.json.decode(said, type=dict[str, str])
    except TimeoutError:
        return {"failed": f"it said nothing within {wait_s:.0f} s"}
    except msgspec.MsgspecError:
        return {"failed": "what it said cannot be read"}
    finally:
        os.close(fd)


def _seen(value: str, held: bool) -> Property:  # noqa: FBT001
    return Property(value=value, known=Known.OBSERVED if held else Known.ABSENT)
