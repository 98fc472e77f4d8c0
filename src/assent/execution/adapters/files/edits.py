"""Editing: one exact text of a file in place of another."""

from __future__ import annotations

from typing import Any

from assent.execution.adapters.files.beneath import Beneath
from assent.execution.adapters.files.opening import READ, Done, Parts, above, pieces, regular_in, too_large
from assent.execution.adapters.files.placing import check_still, put
from assent.execution.adapters.files.trees import Tally
from assent.execution.bodies import shown
from assent.execution.edits import lines_at, nearest, places
from assent.execution.orders import Edit, FileOrder
from assent.primitives.digests import digest
from assent.primitives.errors import Refused

EDITED_BYTES_MAX = 16_777_216


def edit(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """Replace a text where it stands exactly, and put the whole file in place as `write` does; or change nothing and
    say why."""
    wanted = order.edit
    assert wanted is not None, "an edit says what it replaces"
    with root.folder(above(parts)) as folder, regular_in(root, folder, parts[-1], READ) as (fd, before):
        if before.st_size > EDITED_BYTES_MAX:
            message = f"the file has {before.st_size} bytes, and at most {EDITED_BYTES_MAX} are edited"
            return Done(code="output_limit", message=message, limit="edited_bytes_max")
        content = b"".join(pieces(fd, EDITED_BYTES_MAX, tally))
        text = shown(content)
        if not isinstance(text, str):
            return Done(code="not_text", message="the file is not UTF-8 text")
        if wanted.sha256 and digest(content) != wanted.sha256:
            raise Refused("file_changed", "the file is not the one that was meant", hint="read it again")
        at = places(content, wanted.old)
        if not at or (len(at) > 1 and not wanted.every):
            return _not_found(text, wanted) if not at else _ambiguous(content, wanted.old, at)
        made = content.replace(wanted.old, order.content)
        if len(made) > order.limits.file_bytes_max:
            return too_large(len(made), order)
        check_still(folder, parts[-1], before)
        put(root, folder, parts[-1], made, old=before, tally=tally)
    value = {
        "replaced": content.count(wanted.old),
        "lines": lines_at(content, at),
        "bytes": len(made),
        "before": digest(content),
        "sha256": digest(made),
    }
    return Done(value=value, facts=value, content=digest(made))


def _ambiguous(content: bytes, old: bytes, at: list[int]) -> Done:
    lines, count = lines_at(content, at), max(len(at), content.count(old))
    told = ", ".join(map(str, lines)) + (", …" if len(lines) < len(at) else "")
    message = f"`old` stands in {count} places (lines {told}): say more of what is around it, or set `all`"
    return Done(code="edit_ambiguous", message=message, value={"places": count, "lines": lines})


def _not_found(text: str, wanted: Edit) -> Done:
    near = nearest(text, wanted.old.decode("utf-8", "replace"))
    if near is None:
        return Done(code="edit_no_match", message="`old` does not stand in the file, nor anything like it")
    message = f"`old` does not stand in the file; nearest is line {near.line}: {near.why}"
    value: dict[str, Any] = {"line": near.line}
    if near.text or near.wanted:
        value |= {"there": near.text, "wanted": near.wanted}
    return Done(code="edit_no_match", message=message, value=value)
