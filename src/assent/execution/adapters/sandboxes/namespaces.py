"""The default mechanism, `assent-namespaces`: our own spawner, seven namespaces, a private root, a proof per run."""

from __future__ import annotations

import asyncio
import marshal
import os
from typing import Any

from assent.execution.adapters.sandboxes import attest, privileged, seccomp
from assent.execution.adapters.sandboxes.gate import Gate, Word, close_fds, listener_of
from assent.execution.adapters.sandboxes.image import Image, Workspace
from assent.execution.adapters.sandboxes.launches import Launch, ProgramEnds
from assent.execution.adapters.sandboxes.spawner_client import Spawner, Warm, await_clone
from assent.execution.adapters.sandboxes.streams import sealed_memory
from assent.execution.attestations import Attestation
from assent.execution.orders import ProcessOrder
from assent.primitives.digests import digest
from assent.primitives.errors import Unavailable

NAME = "assent-namespaces"
BUILD_WAIT_S = 10.0
_OWNERS_MAX = 64  # id maps kept; each is one descriptor


class Namespaces:
    """Builds sandboxes with the warm spawner. Starts no process before the first launch.

    With `warm` the program of each is not what `argv` names but the spawner's own interpreter (`interpreter.py`).
    """

    name = NAME

    def __init__(self, *, image: Image, warm: Warm | None = None) -> None:
        self._image = image
        self._warm = warm
        self._as_root = os.geteuid() == 0
        self._spawner: Spawner | None = None
        self._starting, self._mapping = asyncio.Lock(), asyncio.Lock()
        self._id_maps: dict[tuple[int, int, int], int] = {}
        self._own_namespaces = attest.own_namespaces()
        self._program_digest = digest(seccomp.assemble())

    @property
    def alive(self) -> bool:
        """Whether the spawner lives."""
        return self._spawner is not None and self._spawner.alive

    @property
    def uid(self) -> int:
        """See `Mechanism.uid`; known once a sandbox was built."""
        return self._spawner.uid if self._spawner is not None else os.geteuid()

    @property
    def spawner_pid(self) -> int:
        """The running spawner's pid, or 0."""
        return self._spawner.pid if self._spawner is not None else 0

    async def launch(
        self,
        order: ProcessOrder,
        streams: ProgramEnds,
        *,
        further: tuple[int, ...] = (),
        image: Image | None = None,
    ) -> Launch:
        """See `Mechanism.launch`.

        `further` are descriptors for an interpreter besides its streams; they stay ours. `image` is shown instead of
        this node's, for this run.
        """
        shown = image or self._image
        workspace = await asyncio.to_thread(shown.workspace, order)
        spawner = await self._running()
        trees = await self._trees(spawner, order, workspace, shown) if self._as_root else {}
        gate = Gate()
        try:
            spec = shown.specification(
                order, uid=spawner.uid, gid=spawner.gid, sources=_positions(trees), workspace=workspace
            )
            launch = await self._build(spawner, spec, trees=trees, gate=gate, streams=streams, further=further)
            launch.details["image"] = shown
            return launch
        except BaseException:
            gate.close()
            raise
        finally:
            privileged.close_all(trees.values())

    def attest(self, launch: Launch, order: ProcessOrder) -> Attestation:
        """See `Mechanism.attest`."""
        spawner = self._spawner
        seen = attest.Expected(
            order=order, image=launch.details["image"], uid=spawner.uid if spawner else -1,
            own_namespaces=self._own_namespaces, program_digest=self._program_digest,
        )  # fmt: skip
        return Attestation(mechanism=NAME, properties=attest.sandbox(launch, seen))

    async def close(self) -> None:
        """End the spawner and with it every sandbox."""
        spawner, self._spawner = self._spawner, None
        self._forget_id_maps()
        if spawner is not None:
            await spawner.close()

    async def _running(self) -> Spawner:
        async with self._starting:
            if self._spawner is not None and not self._spawner.alive:
                await self.close()
            if self._spawner is None:
                uid = await asyncio.to_thread(privileged.choose_uid, seed=os.getpid()) if self._as_root else None
                self._spawner = await Spawner.start(drop_to=uid, warm=self._warm)
            return self._spawner

    async def _build(
        self,
        spawner: Spawner,
        spec: dict[str, Any],
        *,
        trees: dict[str, int],
        gate: Gate,
        streams: ProgramEnds,
        further: tuple[int, ...],
    ) -> Launch:
        told = {**spec, "interpreter": self._warm is not None, "beats": bool(further)}
        memory = sealed_memory(marshal.dumps(told))
        try:
            await spawner.request(b"run", [memory, gate.inner.fileno(), *streams.inner, *trees.values(), *further])
        finally:
            os.close(memory)
        gate.handed_over()
        streams.handed_over()
        return await _at_the_gate(gate)

    async def _trees(self, spawner: Spawner, order: ProcessOrder, workspace: Workspace, image: Image) -> dict[str, int]:
        namespace = await self._id_map(spawner, (workspace.uid, workspace.gid))
        writable = order.workspace_writable
        return _take_trees(image, workspace, namespace=namespace, writable=writable)  # a dozen quick calls

    async def _id_map(self, spawner: Spawner, owner: tuple[int, int]) -> int:
        async with self._mapping:
            key = (spawner.uid, *owner)
            if key not in self._id_maps:
                if len(self._id_maps) >= _OWNERS_MAX:
                    self._forget_id_maps()
                self._id_maps[key] = await _hold(spawner, owner)
            return self._id_maps[key]

    def _forget_id_maps(self) -> None:
        privileged.close_all(self._id_maps.values())
        self._id_maps = {}


def _positions(trees: dict[str, int]) -> dict[str, int]:
    """Where each mount stands among the descriptors that are passed."""
    return {target: position for position, target in enumerate(trees)}


def _take_trees(image: Image, workspace: Workspace, *, namespace: int, writable: bool) -> dict[str, int]:
    trees = privileged.system_trees(image)
    try:
        trees[workspace.path] = privileged.workspace_tree(workspace, writable=writable, namespace=namespace)
    except BaseException:
        privileged.close_all(trees.values())
        raise
    return trees


async def _hold(spawner: Spawner, owner: tuple[int, int]) -> int:
    """A user namespace that maps `owner` to the spawner's user."""
    gate = Gate()
    try:
        await spawner.request(b"hold", [gate.inner.fileno()])
        gate.handed_over()
        held = await await_clone(gate)
        try:
            return privileged.write_map(held.pid_told, owner=owner, sandbox=(spawner.uid, spawner.gid))
        finally:
            privileged.close_all(held.fds)
    finally:
        gate.close()


async def _at_the_gate(gate: Gate) -> Launch:
    """Collect the words that a sandbox under construction says, in whichever order they come, until it waits."""
    told: dict[str, Word] = {}
    try:
        async with asyncio.timeout(BUILD_WAIT_S):
            while not {"P", "R"} <= told.keys():
                word = _good(await gate.word())
                told[word.letter] = word
    except TimeoutError as error:
        close_fds(told)
        raise Unavailable("sandbox_failed", f"the sandbox was not built within {BUILD_WAIT_S} s") from error
    except BaseException:
        close_fds(told)
        raise
    started = told["P"]
    return Launch(
        gate=gate, init_pid=started.pid_told, init_pidfd=started.fds[0], program_pid=told["R"].pid,
        listener=listener_of(told.get("N")),
    )  # fmt: skip


def _good(word: Word) -> Word:
    if word.letter not in ("P", "N", "R"):
        raise Unavailable("sandbox_failed", f"the sandbox was not built: {word.text or 'its builder is gone'}")
    if word.letter == "P" and len(word.fds) != 1:
        raise Unavailable("sandbox_failed", "the sandbox's pidfd did not arrive", hint="raise the open files limit")
    return word
