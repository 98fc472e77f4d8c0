"""The mechanism `container`: an OCI runtime of this machine builds the sandbox, our second stage finishes it, and what
the runtime says of it is read back and compared with what /proc says.

Never as real root: where Assent is root the runtime is started as the workspace's owner, rootless. The container's own
root user is that user outside, with no capability at all. A runtime that is installed and does not work here offers
nothing; one that works is believed only as far as /proc bears it out.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from assent.execution.adapters.sandboxes import attest, bundle, moving, seccomp
from assent.execution.adapters.sandboxes.image import HOME, Image
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.adapters.sandboxes.leftovers import HeldFolder
from assent.execution.adapters.sandboxes.owners import AsOwner, interpreter_for, owner, reaches
from assent.execution.adapters.sandboxes.spawner_client import python_command
from assent.execution.adapters.sandboxes.staging import collect, start_stage
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.attestations import Attestation, Known, Property
from assent.execution.orders import ProcessOrder
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Unavailable

NAME = "container"
ANSWER_WAIT_S = 10.0
_STAGE_FDS = 5
LOW_FDS = tuple(str(moving.FIRST + place) for place in range(_STAGE_FDS))
_ABOVE = 64  # the stage's descriptors are moved to 3 and up, so none of them may lie there already


class RuntimeState(msgspec.Struct, frozen=True, kw_only=True):
    """What the runtime answers to `state`, as far as it is compared."""

    id: str
    status: str
    pid: int
    bundle: str


class Container(AsOwner):
    """Builds containers.

    Raises:
        Unavailable: no OCI runtime is on PATH.
    """

    name = NAME
    runtimes: ClassVar[tuple[str, ...]] = ("runc", "crun")

    def __init__(self, *, image: Image) -> None:
        self._program = find_runtime(self.runtimes)
        self._image = image.showing(Path(__file__).resolve().parent)
        self._own_namespaces = attest.own_namespaces()
        self._program_digest = digest(seccomp.assemble())
        self._started: dict[subprocess.Popen[bytes], Path] = {}
        self._base: HeldFolder | None = None

    async def launch(self, order: ProcessOrder, streams: Streams) -> Launch:
        """See `Mechanism.launch`."""
        await self._collect_ended()
        workspace = await asyncio.to_thread(self._image.workspace, order)
        who = owner(workspace)
        image, interpreter = self._seen_by(who)
        spec = image.specification(order, uid=0, gid=0, sources={}, workspace=workspace)
        spec["homes_inside"] = [(HOME, 0o700)]
        if self._base is None:
            self._base = HeldFolder(f"assent-{self.name}-")
        folder = await asyncio.to_thread(_make_folder, self._base, who)
        try:
            return await self._launch(folder, spec, streams, who, interpreter)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def attest(self, launch: Launch, order: ProcessOrder) -> Attestation:
        """See `Mechanism.attest`."""
        told = launch.details
        expected = attest.Expected(
            order=order, image=self._image, uid=told["uid"], own_namespaces=self._own_namespaces,
            program_digest=self._program_digest, root=str(told["bundle"] / bundle.ROOT),
            given=bundle.GIVEN,
        )  # fmt: skip
        properties = attest.sandbox(launch, expected)
        properties["runtime-state"] = runtime_state(launch)
        unchanged = bundle.digest_of(told["bundle"]) == told["digest"]
        known = Known.OBSERVED if unchanged and properties["files"].known is Known.OBSERVED else Known.ABSENT
        properties["image"] = Property(value=told["digest"], known=known)
        return Attestation(mechanism=NAME, properties=properties)

    async def close(self) -> None:
        """Collect every container, each ended by its own run, and remove what was written for it."""
        started, self._started = self._started, {}
        for process, folder in started.items():
            await _forget(process, folder)
        base, self._base = self._base, None
        if base is not None:
            await asyncio.to_thread(base.remove)

    def _seen_by(self, who: tuple[int, int]) -> tuple[Image, str]:
        """What of the image that user can show, and the interpreter it can start."""
        if os.geteuid() != 0:
            return self._image, sys.executable
        closed = [path for path in self._image.system if not reaches(who, path)]
        return self._image.without(closed), interpreter_for(who)

    async def _launch(
        self, folder: Path, spec: dict[str, Any], streams: Streams, who: tuple[int, int], interpreter: str
    ) -> Launch:
        name, made = f"assent-{secrets.token_hex(8)}", folder / "bundle"
        digests: list[Digest] = []

        def wrap(command: list[str]) -> list[str]:
            words, fds = [interpreter, *command[1:-_STAGE_FDS]], command[-_STAGE_FDS:]
            digests.append(bundle.write(made, self._adapted(spec), [*words, *LOW_FDS], owner=who))
            run = [*self._command(folder), *self._run(made, name)]
            _own, *moving_words = python_command("moving", *fds, "--", *run)
            return [interpreter, *moving_words]

        user = who if os.geteuid() == 0 else None
        stage = await start_stage("jailed", self._adapted(spec), streams, wrap=wrap, user=user, above=_ABOVE)
        self._started[stage.process] = folder
        try:
            state = await _state([*self._command(folder), "state", name], user)
            launch = Launch(
                gate=stage.gate, init_pid=state.pid, init_pidfd=os.pidfd_open(state.pid),
                program_pid=stage.program_pid, listener=stage.listener,
            )  # fmt: skip
        except BaseException:
            stage.gate.close()  # which ends whatever waits inside
            raise
        launch.details = {"uid": who[0], "name": name, "bundle": made, "digest": digests[0], "state": state,
                          "said": stage.said}  # fmt: skip
        return launch

    def _command(self, folder: Path) -> list[str]:
        return [self._program, "--root", str(folder / "state"), *self._options()]

    def _adapted(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The specification as this runtime needs it."""
        return spec

    def _options(self) -> list[str]:
        """What every command of this runtime begins with."""
        return []

    def _run(self, made: Path, name: str) -> list[str]:
        """The command that runs a bundle in the foreground and hands on the stage's descriptors."""
        return ["run", "--bundle", str(made), "--preserve-fds", str(_STAGE_FDS), name]

    async def _collect_ended(self) -> None:
        for process in [one for one in self._started if one.poll() is not None]:
            folder = self._started.pop(process, None)  # before the first wait: another launch must not take it too
            if folder is not None:
                await _forget(process, folder)


def find_runtime(names: Iterable[str]) -> str:
    """The first of `names` on PATH.

    Raises:
        Unavailable: none is.
    """
    names = tuple(names)
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        listed = "` nor `".join(names)
        raise Unavailable("sandbox_failed", f"there is no `{listed}` on PATH", hint=f"install {names[0]}")
    return found


async def _state(command: list[str], user: tuple[int, int] | None) -> RuntimeState:
    """What the runtime says of the container.

    Raises:
        Unavailable: it says nothing that can be read, or that it does not run.
    """
    uid, gid = user or (None, None)
    try:
        asked = await asyncio.to_thread(
            subprocess.run, command, env={}, cwd="/", capture_output=True, timeout=ANSWER_WAIT_S, user=uid, group=gid,
            extra_groups=[] if user else None, check=True,
        )  # fmt: skip
        return msgspec.json.decode(asked.stdout, type=RuntimeState)
    except (subprocess.SubprocessError, msgspec.MsgspecError, OSError) as error:
        raise Unavailable("sandbox_failed", f"the runtime does not say how its container is: {error}") from error


def runtime_state(launch: Launch) -> Property:
    """The runtime's record against the process that is held here."""
    told, state = launch.details, launch.details["state"]
    as_asked = (told["name"], "running", launch.init_pid, str(told["bundle"]))
    held = (state.id, state.status, state.pid, state.bundle) == as_asked
    return Property(value=f"{state.status}, pid {state.pid}", known=Known.OBSERVED if held else Known.ABSENT)


def _make_folder(base: HeldFolder, who: tuple[int, int]) -> Path:
    """Where one container's bundle and the runtime's state of it lie; only `who` can look into it."""
    folder = base.within()
    for part in (folder / "bundle", folder / "state"):
        part.mkdir(mode=0o755)
    if os.geteuid() == 0:
        for part in (folder, folder / "bundle", folder / "state"):
            os.chown(part, *who)
    return folder


async def _forget(process: subprocess.Popen[bytes], folder: Path) -> None:
    await collect(process)
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
