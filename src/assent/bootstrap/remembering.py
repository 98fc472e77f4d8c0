"""What `memory.search` looks in: the declared notes in the workspace, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assent.execution.adapters.files.beneath import Beneath, status
from assent.execution.adapters.files.looking import content_of, opened
from assent.execution.functions import Callee
from assent.execution.searches import IGNORED
from assent.memory.adapters.notes import NoteFile
from assent.memory.fragments import Question, matches
from assent.memory.ports import Memory
from assent.operations.remembering import MEMORY_SEARCH, told_fragments
from assent.primitives.clock import Clock
from assent.primitives.errors import Refused, Unavailable

FILES_MAX = 500
FILE_BYTES_MAX = 262_144
TOTAL_BYTES_MAX = 8_388_608
NAMES_MAX = 20_000
DEPTH_MAX = 16


class WorkspaceNotes:
    """Reads notes beneath the workspace: ordinary files, through no link, and no more than the limits above."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace

    def __call__(self, globs: Sequence[str]) -> list[NoteFile]:
        """The files that fit any of the globs.

        Raises:
            Unavailable: `notes_unreadable`: the workspace cannot be read, or holds more notes than are read.
        """
        try:
            with opened(self._workspace) as root:
                return list(self._read(root, globs))
        except (OSError, Refused) as fault:
            why = fault.message if isinstance(fault, Refused) else (fault.strerror or "no reason given").lower()
            raise Unavailable("notes_unreadable", f"the notes cannot be read: {why}") from fault

    def _read(self, root: Beneath, globs: Sequence[str]) -> Iterator[NoteFile]:
        size = count = 0
        for parts in _names(root):
            path = "/".join(parts)
            if not any(matches(glob, path) for glob in globs):
                continue
            try:
                data, modified_ms = _note(root, parts)
            except (OSError, Refused):
                continue  # gone, a link, or no file: it is no note
            size, count = size + len(data), count + 1
            if count > FILES_MAX or size > TOTAL_BYTES_MAX:
                raise Refused("notes_too_many", f"there are more than {FILES_MAX} notes, or {TOTAL_BYTES_MAX} bytes")
            if b"\0" not in data:
                yield NoteFile(path=path, text=data.decode("utf-8", "replace"), modified_ms=modified_ms)


def _note(root: Beneath, parts: tuple[str, ...]) -> tuple[bytes, int]:
    with root.folder(parts[:-1]) as folder:
        seen = status(folder, parts[-1])
    return content_of(root, parts, FILE_BYTES_MAX), seen.st_mtime_ns // 1_000_000 if seen else 0


def _names(root: Beneath) -> Iterator[tuple[str, ...]]:
    """Every name in the workspace that may be a note, in order."""
    todo: list[tuple[str, ...]] = [()]
    seen = 0
    while todo:
        above = todo.pop()
        try:
            with root.folder(above) as folder, os.scandir(folder) as found:
                entries = sorted(((one.name, one.is_dir(follow_symlinks=False)) for one in found), reverse=True)
        except (OSError, Refused):
            continue  # exchanged since it was seen
        seen += len(entries)
        if seen > NAMES_MAX:
            raise Refused("notes_too_many", f"the workspace holds more than {NAMES_MAX} names")
        yield from ((*above, name) for name, is_folder in reversed(entries) if not is_folder)
        if len(above) < DEPTH_MAX:
            todo += [(*above, name) for name, is_folder in entries if is_folder and name not in IGNORED]


def callees(memory: Memory, clock: Clock) -> Mapping[str, Callee]:
    """What the function lane calls for `memory.search`."""

    async def search(said: dict[str, Any]) -> list[dict[str, Any]]:
        question = Question(
            tenant=said["tenant"],
            reader="",  # a call does not say to its lane who asks: what has readers is told to nobody
            query=said["query"],
            sources=tuple(said["sources"]),
            now_ms=clock.now_ms(),
            limit=said["limit"],
        )
        return told_fragments(await memory.recall(question))

    return {MEMORY_SEARCH.contract.name: Callee(definition=MEMORY_SEARCH.definition, call=search)}
