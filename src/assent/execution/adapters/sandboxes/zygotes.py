"""The zygotes of a node: one for each set of imports and workspace, started when first needed, the least used ended.

A workspace is one tenant's, so tenants never share a zygote, whose clones have one layout of memory and one seed of
string hashes. Where Assent is root each zygote also has a user of its own.
"""

from __future__ import annotations

import asyncio
import sysconfig

from assent.execution.adapters.sandboxes.image import Image
from assent.execution.adapters.sandboxes.namespaces import Namespaces
from assent.execution.adapters.sandboxes.spawner_client import Warm
from assent.primitives.errors import Unavailable

ZYGOTES_MAX = 8


class Zygote:
    """One of them, while it is lent."""

    def __init__(self, mechanism: Namespaces) -> None:
        self.mechanism = mechanism
        self.users = 0

    def back(self) -> None:
        """Give it back, once."""
        self.users -= 1


class Zygotes:
    """Lends mechanisms whose sandboxes are interpreters. Starts nothing before it is asked."""

    def __init__(self, *, image: Image, zygotes_max: int = ZYGOTES_MAX) -> None:
        self._image = image
        self._max = zygotes_max
        self._folders = tuple(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")))
        self._all: dict[tuple[str, tuple[str, ...]], Zygote] = {}  # the one used last stands last

    async def lend(self, *, workspace: str, imports: tuple[str, ...]) -> Zygote:
        """The zygote for `workspace` that has done `imports`; it is kept until it is given back (`Zygote.back`).

        Raises:
            Unavailable: `worker_limit`, all of them are in use for others.
        """
        zygote, retired = self._found((workspace, imports))
        zygote.users += 1
        try:
            if retired is not None:
                await retired.mechanism.close()
        except BaseException:
            zygote.back()
            raise
        return zygote

    @property
    def pids(self) -> list[int]:
        """The processes of those that run."""
        return [pid for one in self._all.values() if (pid := one.mechanism.spawner_pid)]

    async def close(self) -> None:
        """End them all, and with them every sandbox. Idempotent."""
        everyone, self._all = list(self._all.values()), {}
        await asyncio.gather(*(one.mechanism.close() for one in everyone))

    def _found(self, key: tuple[str, tuple[str, ...]]) -> tuple[Zygote, Zygote | None]:
        zygote = self._all.pop(key, None)
        retired = None
        if zygote is None:
            if len(self._all) >= self._max:
                retired = self._retired()
            warm = Warm(folders=self._folders, imports=key[1])
            zygote = Zygote(Namespaces(image=self._image, warm=warm))
        self._all[key] = zygote
        return zygote, retired

    def _retired(self) -> Zygote:
        """The one that nobody has used for longest, out of the table."""
        for key, one in self._all.items():
            if one.users == 0:
                return self._all.pop(key)
        raise Unavailable(
            "worker_limit", f"all {self._max} warm interpreters are in use", hint="wait until a session or a call ends"
        )
