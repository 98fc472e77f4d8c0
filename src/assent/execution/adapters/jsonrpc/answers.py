"""The answers of one order: in the result while they are small together, else an artefact that grows as they come."""

from __future__ import annotations

import contextlib
import hashlib

from assent.execution.adapters.jsonrpc.endings import HEAD_BYTES, INLINE_BYTES_MAX
from assent.execution.ports import Artefact, Artefacts
from assent.primitives.canonical import Json, canonical


class Answers:
    """A JSON array that holds at most `INLINE_BYTES_MAX` in memory, however long it becomes."""

    def __init__(self, artefacts: Artefacts | None) -> None:
        self._artefacts = artefacts
        self._small: list[Json] = []
        self._small_bytes = 0
        self._large: _Array | None = None

    def add(self, answer: Json) -> None:
        """Add one."""
        data = canonical(answer)
        if self._large is None and self._small_bytes + len(data) <= INLINE_BYTES_MAX:
            self._small.append(answer)
            self._small_bytes += len(data)
            return
        if self._large is None:
            self._large = _Array(self._artefacts)
            for small in self._small:
                self._large.add(canonical(small))
            self._small = []
        self._large.add(data)

    def value(self) -> Json:
        """All of them, or what names them: the artefact (without one, the digest), the size, the beginning."""
        return self._small if self._large is None else self._large.end()

    def __bool__(self) -> bool:
        return bool(self._small) or self._large is not None

    def abandon(self) -> None:
        """Nobody will ask for them. Idempotent, and harmless after `value`."""
        if self._large is not None:
            self._large.abandon()


class _Array:
    """A canonical JSON array, written piece by piece."""

    def __init__(self, artefacts: Artefacts | None) -> None:
        self._digest = hashlib.sha256()
        self._head = b""
        self._bytes = 0
        self._artefact: Artefact | None = None
        with contextlib.suppress(OSError):
            self._artefact = artefacts.begin() if artefacts is not None else None

    def add(self, data: bytes) -> None:
        self._write(b"," if self._bytes else b"[")
        self._write(data)

    def end(self) -> dict[str, Json]:
        self._write(b"]")
        named: dict[str, Json] = {"bytes": self._bytes, "head": self._head.decode(errors="replace")}
        if self._artefact is not None:
            try:
                return {**named, "artefact": self._artefact.keep()[0]}
            except OSError:
                self.abandon()
        return {**named, "digest": f"sha256:{self._digest.hexdigest()}"}

    def abandon(self) -> None:
        if self._artefact is not None:
            self._artefact.abandon()
            self._artefact = None

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._bytes += len(data)
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + data)[:HEAD_BYTES]
        if self._artefact is not None:
            try:
                self._artefact.write(data)
            except OSError:  # the disk is full: the digest and the beginning are all that remains
                self.abandon()
