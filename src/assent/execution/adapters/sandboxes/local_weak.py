"""The last resort, `local-weak`: the program runs as you and sees your files and network; only its end is assured.

What it still gives: its own session, resource limits, no inherited environment, no_new_privs, and a watcher that ends
everything the program started (`stage.py`). Its class is `local-weak`, so every floor above that refuses it. It is
never root: where Assent is root the program runs as the workspace's owner, and a workspace of root's is refused.
"""

from __future__ import annotations

import asyncio
import os
import subprocess

from assent.execution.adapters.sandboxes import attest
from assent.execution.adapters.sandboxes.image import Image
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.adapters.sandboxes.owners import AsOwner, limits_beside, owner
from assent.execution.adapters.sandboxes.staging import collect, start_stage
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.attestations import Attestation, Known, Property
from assent.execution.orders import ProcessOrder

NAME = "local-weak"
_OPEN = (
    "files", "network", "other-processes", "syscall-filter", "private-root", "capabilities", "process-namespace",
    "user-namespace",
)  # fmt: skip


class LocalWeak(AsOwner):
    """Runs programs unconfined but bounded and watched."""

    name = NAME

    def __init__(self, *, image: Image) -> None:
        self._image = image
        self._started: set[subprocess.Popen[bytes]] = set()

    async def launch(self, order: ProcessOrder, streams: Streams) -> Launch:
        """See `Mechanism.launch`."""
        await self._collect_ended()
        workspace = await asyncio.to_thread(self._image.workspace, order)
        uid, gid = owner(workspace)
        spec = self._image.specification(order, uid=uid, gid=gid, sources={}, workspace=workspace)
        spec["drop_to"] = (uid, gid) if os.geteuid() == 0 else None
        spec["env"] = {**spec["env"], "HOME": order.workspace, **order.env}
        spec["disk"]["own"] = []  # its /tmp is everybody's: nobody can tell what there is the run's
        spec["limits"] = await asyncio.to_thread(limits_beside, order, uid)
        stage = await start_stage("weak", spec, streams)
        self._started.add(stage.process)
        pid = stage.process.pid
        launch = Launch(
            gate=stage.gate, init_pid=pid, init_pidfd=os.pidfd_open(pid), program_pid=stage.program_pid, by_asking=True
        )
        launch.details = {"uid": uid, "limits": spec["limits"]}
        return launch

    def attest(self, launch: Launch, order: ProcessOrder) -> Attestation:
        """See `Mechanism.attest`."""
        pid = str(launch.program_pid)
        status = attest.status_of(pid)
        properties = {name: Property(value="as on the host", known=Known.ABSENT) for name in _OPEN}
        properties["user"] = attest.plain_user(status, launch.details["uid"])
        properties["no-new-privileges"] = attest.privileges(status)["no-new-privileges"]
        properties["limits"] = attest.limits(pid, launch.details["limits"])
        properties["environment"] = attest.environment(pid)
        properties["tree-death"] = Property(value="watched by a subreaper", known=Known.CONFIGURED)
        if order.pty is not None:
            properties["terminal"] = attest.terminal(pid)
        return Attestation(mechanism=NAME, properties=properties)

    async def close(self) -> None:
        """Collect every watcher; each ends when its gate is closed."""
        started, self._started = self._started, set()
        for process in started:
            await collect(process)

    async def _collect_ended(self) -> None:
        ended = {one for one in self._started if one.poll() is not None}
        self._started -= ended  # before the first wait: another launch must not collect the same ones
        for process in ended:
            await collect(process)
