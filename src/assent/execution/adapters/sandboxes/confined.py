"""The mechanism without namespaces, `confined`: Landlock, two filters, limits, a watcher. For hosts that refuse user
namespaces, as most containers and Ubuntu's AppArmor profile do.

It needs no privilege at all and one cold interpreter per run. The program reads what the image shows and its own
/proc, writes the workspace and a scratch folder of its own (HOME and TMPDIR, gone with the run), has no sockets, and
cannot signal, trace or read a process that it did not start.

What stays open, and is said in the attestation: it shares the host's process ids (that a process with some number
exists can be told, nothing more of it), mounts (its own /proc shows the table), clock, host name, and the whole kernel.
`stat` works on any path. The workspace's disk is the host's.

When Assent is root the program runs as the workspace's owner, and where that is root nothing runs (`owners.py`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from typing import Any

from assent.execution.adapters.sandboxes import attest, fence, seccomp
from assent.execution.adapters.sandboxes.image import Image, Workspace, scratch_bytes
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.adapters.sandboxes.owners import AsOwner, limits_beside, owner
from assent.execution.adapters.sandboxes.staging import collect, start_stage
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.attestations import Attestation, Known, Property
from assent.execution.orders import ProcessOrder
from assent.primitives.digests import digest
from assent.primitives.errors import Unavailable

NAME = "confined"
SCOPES_ABI = 6  # the first Landlock that keeps signals within the domain
_SHARED = ("user-namespace", "process-namespace", "mount-namespace", "network-namespace", "ipc-namespace",
           "private-root")  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_OF_THE_MACHINE = (
    "/proc/cpuinfo", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/uptime",
    "/proc/version", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/random", "/proc/sys/kernel/ngroups_max",
    "/proc/sys/kernel/pid_max", "/proc/sys/vm/overcommit_memory",
)  # fmt: skip


class Confined(AsOwner):
    """Builds fences.

    Raises:
        Unavailable: the kernel's Landlock is missing or too old to hold the class.
    """

    name = NAME

    def __init__(self, *, image: Image) -> None:
        if image.landlock_abi < SCOPES_ABI:
            found = f"is at ABI {image.landlock_abi}" if image.landlock_abi else "is absent"
            raise Unavailable(
                "sandbox_failed", f"Landlock {found}, and signals are confined from ABI {SCOPES_ABI} on",
                hint="boot Linux 6.12 or newer with `landlock` in its list of security modules (`lsm=`)",
            )  # fmt: skip
        self._image = image
        self._digest = digest(seccomp.assemble() + fence.program())
        self._started: set[subprocess.Popen[bytes]] = set()

    async def launch(self, order: ProcessOrder, streams: Streams) -> Launch:
        """See `Mechanism.launch`."""
        await self._collect_ended()
        workspace = await asyncio.to_thread(self._image.workspace, order)
        uid, gid = owner(workspace)
        scratch = await asyncio.to_thread(_make_scratch, uid, gid)
        try:
            spec = self._specification(order, workspace, uid=uid, gid=gid, scratch=scratch)
            spec["limits"] = await asyncio.to_thread(limits_beside, order, uid)
            stage = await start_stage("fenced", spec, streams)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        self._started.add(stage.process)
        pid = stage.process.pid
        launch = _Fenced(
            gate=stage.gate, init_pid=pid, init_pidfd=os.pidfd_open(pid), program_pid=stage.program_pid, by_asking=True
        )
        launch.details = {"uid": uid, "limits": spec["limits"], "said": stage.said, "readable": spec["readable"],
                          "writable": spec["writable"], "scratch": scratch}  # fmt: skip
        return launch

    def attest(self, launch: Launch, order: ProcessOrder) -> Attestation:
        """See `Mechanism.attest`. What no one can read from outside was tried by the process itself: `probed`."""
        pid, told = str(launch.program_pid), launch.details
        status = attest.status_of(pid)
        refused = {one.partition("=")[0] for one in str(told["said"]).split()}
        properties = {name: Property(value="as on the host", known=Known.ABSENT) for name in _SHARED}
        properties |= attest.privileges(status)
        properties["user"] = attest.plain_user(status, told["uid"])
        properties["limits"] = attest.limits(pid, told["limits"])
        properties["environment"] = attest.environment(pid)
        if order.pty is not None:
            properties["terminal"] = attest.terminal(pid)
        abi = self._image.landlock_abi
        writable = ", ".join(told["writable"])
        properties["files"] = _tried(
            f"reads {len(told['readable'])} places, writes: {writable}", {fence.FILES} <= refused
        )
        properties["network"] = _tried("no sockets", {fence.SOCKETS, fence.TCP} <= refused)
        properties["other-processes"] = _tried(
            "cannot be signalled, traced or read; their ids can be told", {fence.OTHERS} <= refused
        )
        properties["landlock"] = _tried(f"abi {abi}", {fence.FILES, fence.TCP, fence.OTHERS} <= refused)
        properties["syscall-program"] = Property(value=self._digest, known=Known.CONFIGURED)
        properties["tree-death"] = Property(value="watched by a subreaper out of its reach", known=Known.CONFIGURED)
        return Attestation(mechanism=NAME, properties=properties)

    async def close(self) -> None:
        """Collect every watcher; each ends when its gate is closed."""
        started, self._started = self._started, set()
        for process in started:
            await collect(process)

    def _specification(
        self, order: ProcessOrder, workspace: Workspace, *, uid: int, gid: int, scratch: str
    ) -> dict[str, Any]:
        spec = self._image.specification(order, uid=uid, gid=gid, sources={}, workspace=workspace)
        own = [workspace.path] if order.workspace_writable else []
        spec["drop_to"] = (uid, gid) if os.geteuid() == 0 else None
        spec["env"] = {**spec["env"], "HOME": scratch, "TMPDIR": scratch, **order.env}
        spec["scratch"], spec["scratch_bytes_max"] = scratch, scratch_bytes(order.limits)
        spec["writable"] = [scratch, *own]
        spec["disk"] |= {"folders": [scratch, *own], "own": []}
        spec["readable"] = [*self._image.system, *_OF_THE_MACHINE, *([] if own else [workspace.path])]
        spec["devices"] = [*_DEVICES, *(["/dev/tty"] if order.pty else [])]
        return spec

    async def _collect_ended(self) -> None:
        ended = {one for one in self._started if one.poll() is not None}
        self._started -= ended  # before the first wait: another launch must not collect the same ones
        for process in ended:
            await collect(process)


class _Fenced(Launch):
    """A launch whose scratch folder goes with it, also when its watcher had to be killed and could not remove it."""

    def close(self) -> None:
        super().close()
        if os.path.lexists(self.details["scratch"]):
            shutil.rmtree(self.details["scratch"], ignore_errors=True)


def _make_scratch(uid: int, gid: int) -> str:
    folder = os.path.realpath(tempfile.mkdtemp(prefix="assent-scratch-"))
    if os.geteuid() == 0:
        os.chown(folder, uid, gid)
    return folder


def _tried(value: str, held: bool) -> Property:  # noqa: FBT001
    return Property(value=value if held else f"{value}: not refused", known=Known.PROBED if held else Known.ABSENT)
