"""Output on its way: digested as it passes, its head kept, and the whole of it in an artefact when it is large. Pure.

Memory is bounded by `KEPT_BYTES_MAX` however much comes. What fits is shown whole; what does not is shown by its head,
its size and the digest under which it is kept.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any

from assent.execution.bodies import shown
from assent.execution.ports import Artefact, Artefacts
from assent.primitives.digests import Digest

KEPT_BYTES_MAX = 1_048_576
HEAD_BYTES = 16_384
TAIL_ITEMS_MAX = 100
TAIL_BYTES_MAX = 262_144


class Spool:
    """One stream of output. `add` all of it, then either `finish` or `abandon`; both are idempotent.

    Without `artefacts`, what is beyond the first MiB is handed up while it comes and kept nowhere.
    """

    def __init__(self, artefacts: Artefacts | None, *, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._artefacts = artefacts
        self._kept_max = kept_bytes_max
        self._kept = bytearray()
        self._hash = hashlib.sha256()
        self._artefact: Artefact | None = None
        self._name = ""
        self.size = 0

    @property
    def digest(self) -> Digest:
        """Of all that was added so far."""
        return Digest("sha256:" + self._hash.hexdigest())

    def add(self, piece: bytes) -> None:
        """Take a piece.

        Raises:
            OSError: there is no room for it where artefacts are kept.
        """
        self._hash.update(piece)
        self.size += len(piece)
        if self.size > self._kept_max and self._artefacts is not None:
            self._overflow(self._artefacts, piece)
        self._kept += piece[: self._kept_max - len(self._kept)]

    def finish(self) -> None:
        """Make what was added durable, if it went to an artefact.

        Raises:
            OSError: it could not be kept.
        """
        if self._artefact is not None:
            self._name, _ = self._artefact.keep()
            self._artefact = None

    def abandon(self) -> None:
        """Keep nothing of it."""
        if self._artefact is not None:
            self._artefact.abandon()
            self._artefact = None

    def shown(self, *, content_type: str = "") -> str | dict[str, Any]:
        """For an outcome's value: the whole as text or `{"base64": …}`, or `{"artefact", "bytes", "head"}`."""
        if self.size <= self._kept_max:
            return shown(bytes(self._kept), content_type=content_type)
        head = shown(bytes(self._kept[:HEAD_BYTES]), content_type=content_type, cut=True)
        return {"artefact": self._name, "bytes": self.size, "head": head}

    def _overflow(self, artefacts: Artefacts, piece: bytes) -> None:
        if self._artefact is None:
            self._artefact = artefacts.begin()
            self._artefact.write(bytes(self._kept))
        self._artefact.write(piece)


class Transcript:
    """A list of things that came, one after another: all of them spooled as lines, the last ones kept as they are."""

    def __init__(self, artefacts: Artefacts | None) -> None:
        self.lines = Spool(artefacts)
        self.count = 0
        self._tail: deque[tuple[Any, int]] = deque()
        self._tail_bytes = 0

    def add(self, line: bytes, item: Any) -> None:  # noqa: ANN401 (any JSON value)
        """Take `item`, which is `line` when it is written down.

        Raises:
            OSError: there is no room for it where artefacts are kept.
        """
        self.lines.add(line + b"\n")
        self.count += 1
        self._tail.append((item, len(line)))
        self._tail_bytes += len(line)
        while len(self._tail) > TAIL_ITEMS_MAX or self._tail_bytes > TAIL_BYTES_MAX:
            _, size = self._tail.popleft()
            self._tail_bytes -= size

    def shown(self, name: str) -> dict[str, Any]:
        """For an outcome's value: the last ones under `name`, and where there were more all of them as `transcript`."""
        shown: dict[str, Any] = {name: [item for item, _ in self._tail], "received": self.count}
        if self.count > len(self._tail):
            shown["transcript"] = self.lines.shown()
        return shown
