"""What is kept of one stream: its digest over everything, its head in memory, and the whole in an artefact if it is
larger than the head."""

from __future__ import annotations

import asyncio
import base64
import codecs
import hashlib
from typing import Any

from assent.execution.ports import Artefact, Artefacts
from assent.primitives.digests import Digest

HEAD_BYTES_MAX = 1_048_576


class Keeper:
    """Keeps one stream in bounded memory.

    Without artefacts, or when the artefact cannot be written, what is beyond the head is counted and digested only, and
    the value says so.
    """

    def __init__(self, artefacts: Artefacts | None = None, *, head_bytes_max: int = HEAD_BYTES_MAX) -> None:
        self._artefacts = artefacts
        self._head_bytes_max = head_bytes_max
        self._head = bytearray()
        self._sha256 = hashlib.sha256()
        self._artefact: Artefact | None = None
        self._unkept = "" if artefacts is not None else "no folder for artefacts is set"
        self._kept: Digest | None = None
        self.bytes = 0

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self._sha256.update(data)
        self.bytes += len(data)
        if self.bytes > self._head_bytes_max and not self._unkept:
            self._spill(data)
        self._head += data[: self._head_bytes_max - len(self._head)]

    async def keep(self) -> None:
        """Make what was spilled durable. On a thread of its own, because a flush takes as long as the disk likes."""
        if self._artefact is not None:
            artefact, self._artefact = self._artefact, None
            try:
                self._kept, _size = await asyncio.to_thread(artefact.keep)
            except OSError as error:
                artefact.abandon()
                self._unkept = _reason(error)

    def close(self) -> None:
        """Drop what was not kept. Idempotent."""
        if self._artefact is not None:
            self._artefact.abandon()
            self._artefact = None

    @property
    def digest(self) -> Digest:
        """Over everything that came."""
        return Digest("sha256:" + self._sha256.hexdigest())

    @property
    def value(self) -> Any:
        """Text when it is UTF-8, else `{"base64": …}`; what is larger than the head as `{"artefact", "bytes", "head"}`,
        or with `unkept` in place of `artefact`: why there is none."""
        if self.bytes <= self._head_bytes_max:
            return _shown(bytes(self._head))
        name = {"artefact": self._kept} if self._kept else {"unkept": self._unkept or "it was cut off"}
        return {**name, "bytes": self.bytes, "head": _shown(_whole_characters(bytes(self._head)))}

    def _spill(self, data: bytes) -> None:
        try:
            if self._artefact is None:
                assert self._artefacts is not None
                self._artefact = self._artefacts.begin()
                self._artefact.write(bytes(self._head))
            self._artefact.write(data)
        except OSError as error:
            self._unkept = _reason(error)
            self.close()


def _shown(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _whole_characters(data: bytes) -> bytes:
    """`data` without a character that its end cuts in two; as it is when it is no UTF-8 anyway."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(data).encode()
    except UnicodeDecodeError:
        return data


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
