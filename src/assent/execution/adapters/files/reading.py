"""Reading: a whole file, or some of its lines however large the rest of it is."""

from __future__ import annotations

from assent.execution.adapters.files.beneath import Beneath
from assent.execution.adapters.files.opening import READ, Done, Parts, pieces, regular
from assent.execution.adapters.files.trees import Tally
from assent.execution.bodies import shown
from assent.execution.orders import FileOrder, Lines
from assent.primitives.digests import digest


def read(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """The content of a regular file, whole or not at all; or the lines that are asked for."""
    if order.lines is not None:
        return _lines(root, parts, order, order.lines, tally)
    limit = order.limits.output_bytes_max
    with regular(root, parts, READ) as (fd, found):
        content = b"" if found.st_size > limit else b"".join(pieces(fd, limit + 1, tally))
    if found.st_size > limit or len(content) > limit:
        size = max(found.st_size, len(content))
        return Done(
            code="output_limit",
            message=f"the file has {size} bytes, more than {limit}: read some of its lines",
            limit="output_bytes_max",
            value={"bytes": size},
        )
    text = shown(content)
    value = {"text": text} if isinstance(text, str) else text
    facts = {"bytes": len(content), "links": found.st_nlink}
    return Done(value={**value, "bytes": len(content), "sha256": digest(content)}, facts=facts, content=digest(content))


def _lines(root: Beneath, parts: Parts, order: FileOrder, wanted: Lines, tally: Tally) -> Done:
    """Lines are counted as they come by, so a file of any size can be read in parts; `more` says that it goes on."""
    limit = order.limits.output_bytes_max
    with regular(root, parts, READ) as (fd, found):
        taken = _Taken(wanted, limit)
        for piece in pieces(fd, found.st_size, tally):
            if taken.take(piece):
                break
    facts = {"first_line": wanted.first, "lines": taken.lines, "bytes": found.st_size, "links": found.st_nlink}
    if len(taken.content) > limit:
        message = f"these lines have more than {limit} bytes: ask for fewer"
        return Done(code="output_limit", message=message, limit="output_bytes_max", facts=facts)
    content = bytes(taken.content)
    text = shown(content)
    value = {"text": text} if isinstance(text, str) else text
    told = {"first_line": wanted.first, "lines": taken.lines, "more": taken.more, "bytes": found.st_size}
    return Done(value={**value, **told}, facts=facts, content=digest(content))


class _Taken:
    """What was taken of a file that comes by in pieces."""

    def __init__(self, wanted: Lines, limit: int) -> None:
        self._skip = wanted.first - 1
        self._left = wanted.count
        self._limit = limit
        self.content = bytearray()
        self.more = False

    @property
    def lines(self) -> int:
        return self.content.count(b"\n") + (not self.content.endswith(b"\n") and bool(self.content))

    def take(self, piece: bytes) -> bool:
        """Take what is wanted of the next piece. True: there is nothing more to take."""
        at = 0
        while self._skip:
            end = piece.find(b"\n", at)
            if end < 0:
                return False
            at, self._skip = end + 1, self._skip - 1
        while at < len(piece):
            if not self._left or len(self.content) > self._limit:
                self.more = True
                return True
            end = piece.find(b"\n", at)
            stop = len(piece) if end < 0 else end + 1
            self.content += piece[at:stop]
            self._left -= end >= 0
            at = stop
        return False
