"""The first fallback: bubblewrap builds namespaces and root, our second stage adds the rest, the same proof is read.

For nodes whose profile lets `bwrap` make user namespaces but not this interpreter. Never as root: with uid 0 outside,
a sandboxed program could write the host's `kernel.core_pattern`, a known road to running code on the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from assent.execution.adapters.sandboxes import attest, seccomp
from assent.execution.adapters.sandboxes.image import Image
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.adapters.sandboxes.staging import collect, start_stage
from assent.execution.adapters.sandboxes.streams import Streams, sealed_memory
from assent.execution.attestations import Attestation
from assent.execution.orders import ProcessOrder
from assent.primitives.digests import digest
from assent.primitives.errors import Unavailable

NAME = "bubblewrap"
_FLAGS = (
    "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup",
    "--die-with-parent", "--as-pid-1", "--clearenv", "--hostname", "sandbox",
)  # fmt: skip


class Bubblewrap:
    """Builds sandboxes with `bwrap`.

    Raises:
        Unavailable: Assent is root, or there is no `bwrap`.
    """

    name = NAME

    def __init__(self, *, image: Image) -> None:
        if os.geteuid() == 0:
            raise Unavailable("sandbox_failed", "bubblewrap is not used as root", hint="run Assent as an ordinary user")
        found = shutil.which("bwrap")
        if found is None:
            raise Unavailable("sandbox_failed", "there is no `bwrap` on PATH", hint="install bubblewrap")
        self._program = found
        self._image = image.showing(Path(__file__).resolve().parent)
        self._own_namespaces = attest.own_namespaces()
        self._program_digest = digest(seccomp.assemble())
        self._started: set[subprocess.Popen[bytes]] = set()

    @property
    def uid(self) -> int:
        """See `Mechanism.uid`."""
        return os.geteuid()

    @property
    def alive(self) -> bool:
        """Nothing of ours keeps these sandboxes alive: always."""
        return True

    async def launch(self, order: ProcessOrder, streams: Streams) -> Launch:
        """See `Mechanism.launch`."""
        await self._collect_ended()
        workspace = await asyncio.to_thread(self._image.workspace, order)
        spec = self._image.specification(order, uid=os.getuid(), gid=os.getgid(), sources={}, workspace=workspace)
        files = [(sealed_memory(content) if content else os.open(os.devnull, os.O_RDONLY), path)
                 for path, content in spec["files"]]  # fmt: skip
        reading, writing = os.pipe2(os.O_CLOEXEC)
        extra = (writing, *(fd for fd, _ in files))
        try:
            arguments = [*_FLAGS, "--info-fd", str(writing), *_arguments(spec, files)]
            stage = await start_stage(
                "jailed",
                spec,
                streams,
                wrap=lambda command: [self._program, *arguments, "--", *command],
                pass_fds=extra,
            )
            os.close(writing)
            extra = extra[1:]
            self._started.add(stage.process)
            init = int(json.loads(os.read(reading, 4096))["child-pid"])
            return Launch(
                gate=stage.gate, init_pid=init, init_pidfd=os.pidfd_open(init), program_pid=stage.program_pid,
                listener=stage.listener,
            )  # fmt: skip
        finally:
            for fd in (reading, *extra):
                os.close(fd)

    def attest(self, launch: Launch, order: ProcessOrder) -> Attestation:
        """See `Mechanism.attest`."""
        expected = attest.Expected(
            order=order, image=self._image, uid=os.getuid(), own_namespaces=self._own_namespaces,
            program_digest=self._program_digest,
        )  # fmt: skip
        return Attestation(mechanism=NAME, properties=attest.sandbox(launch, expected))

    async def close(self) -> None:
        """Collect what was started; every sandbox has been ended by its own run."""
        started, self._started = self._started, set()
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await collect(process)

    async def _collect_ended(self) -> None:
        ended = {one for one in self._started if one.poll() is not None}
        self._started -= ended  # before the first wait: another launch must not collect the same ones
        for process in ended:
            await collect(process)


def _arguments(spec: dict[str, Any], files: list[tuple[int, str]]) -> list[str]:
    """The specification in bubblewrap's words."""
    words: list[str] = ["--proc", "/proc"]
    for path, mode in spec["folders"]:
        words += ["--perms", f"{mode:04o}", "--dir", path]
    for fd, path in files:
        words += ["--file", str(fd), path]
    for target, path in spec["links"]:
        words += ["--symlink", target, path]
    for target, kind, source, writable, _identity in spec["mounts"]:
        if kind == "tmpfs":
            words += ["--perms", "1777", "--size", str(source), "--tmpfs", target]
        else:
            words += [{"device": "--dev-bind"}.get(kind, "--bind" if writable else "--ro-bind"), source, target]
    for path, mode in spec["homes"]:
        words += ["--perms", f"{mode:04o}", "--dir", path]
    return [*words, "--remount-ro", "/", "--chdir", "/"]
