"""The verbs of the file lane. Each is given an open workspace and says what it did.

Each is one step: done, or not begun. `write` and `edit` fill a new file beside the old one and exchange the names when
it is safe on disk; `append` takes back what a full disk let it write. Only a recursive delete can stop half-way, and
then it counts what is gone. They block: the lane calls them in a thread.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from assent.execution.adapters.files.beneath import Beneath, give, shown_name
from assent.execution.adapters.files.edits import edit
from assent.execution.adapters.files.opening import (
    READ,
    Done,
    Parts,
    above,
    check_regular,
    must_find,
    pieces,
    regular,
    replaceable,
    too_large,
)
from assent.execution.adapters.files.placing import fill, put
from assent.execution.adapters.files.reading import read
from assent.execution.adapters.files.searching import search
from assent.execution.adapters.files.trees import Listing, Tally, delete_tree, kind_of
from assent.execution.orders import FileOrder
from assent.primitives.digests import digest
from assent.primitives.errors import Refused

HASHED_BYTES_MAX = 67_108_864
_NEW_FILE_MODE = 0o666  # less the umask, as for every new file
_RACES_MAX = 16


def write(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """Put a whole file in place, atomically and on disk. Folders on the way are made; mode and owner are kept."""
    if len(order.content) > order.limits.file_bytes_max:
        return too_large(len(order.content), order)
    with root.folder(above(parts), create=True) as folder:
        old = replaceable(folder, parts[-1])
        put(root, folder, parts[-1], order.content, old=old, tally=tally)
    content = digest(order.content)
    value = {"bytes": len(order.content), "sha256": content, "replaced": old is not None}
    return Done(value=value, facts={"bytes": len(order.content), "replaced": old is not None}, content=content)


def append(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """Add to the end of a file, which is made if it is missing. All of it is added, or nothing."""
    with root.folder(above(parts), create=True) as folder:
        old, fd = _opened_to_append(root, folder, parts[-1])
        try:
            before = _sole_regular(fd, parts[-1])
            if before.st_size + len(order.content) > order.limits.file_bytes_max:
                return too_large(before.st_size + len(order.content), order)
            _add(fd, order.content, before.st_size, tally)
            if old is None:
                give(fd, os.fstat(folder))
                os.fsync(folder)
        except OSError:
            if old is None and not tally.landed:
                os.unlink(parts[-1], dir_fd=folder)
            raise
        finally:
            os.close(fd)
    size = before.st_size + len(order.content)
    value = {"bytes": len(order.content), "size": size}
    return Done(value=value, facts=value, content=digest(order.content))


def _opened_to_append(root: Beneath, folder: int, name: str) -> tuple[os.stat_result | None, int]:
    """The file as it was (None: made now) and open. Another append may make it between the look and the opening."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    for _ in range(_RACES_MAX):
        old = replaceable(folder, name)
        with suppress(FileExistsError):
            return old, root.child(folder, name, flags | (os.O_EXCL if old is None else 0), mode=_NEW_FILE_MODE)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def delete(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """Remove a name: a file, a link itself and never what it points to, or with `recursive` a folder and all in it."""
    with root.folder(above(parts)) as folder:
        found = must_find(folder, parts[-1])
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(parts[-1], dir_fd=folder)
        elif not order.recursive:
            raise Refused("not_regular", f"`{shown_name(parts[-1])}` is a folder", hint="set `recursive`")
        else:
            delete_tree(root, folder, parts[-1], tally)
        tally.removed += 1
        tally.landed = True
        os.fsync(folder)
    return Done(value={"removed": tally.removed}, facts={"removed": tally.removed})


def list_(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """What is in a folder, with `recursive` also below; links are named and not followed. At most 10 000 entries."""
    listing = Listing(root, tally, recursive=order.recursive)
    with root.folder(parts) as folder:
        limit = listing.gather(folder)
    entries = sorted(listing.entries, key=lambda entry: str(entry["name"]))
    while len(msgspec.json.encode(entries)) > order.limits.output_bytes_max:
        limit = "output_bytes_max"
        del entries[len(entries) // 2 :]
    value, facts = {"entries": entries, "complete": not limit}, {"entries": len(entries)}
    if limit:
        return Done(code="output_limit", message="there is more than is listed", limit=limit, value=value, facts=facts)
    return Done(value=value, facts=facts)


def stat_(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:  # noqa: ARG001 (as the other verbs)
    """What a name is, links not followed; for a regular file of at most 64 MiB its digest too."""
    try:
        with root.folder(parts[:-1]) as folder:
            found = os.fstat(folder) if not parts else must_find(folder, parts[-1])
        value = {
            "exists": True,
            "kind": kind_of(found.st_mode),
            "size": found.st_size,
            "modified_ms": found.st_mtime_ns // 1_000_000,
        }
        if stat.S_ISREG(found.st_mode) and found.st_size <= HASHED_BYTES_MAX:
            value |= _hashed(root, parts, tally)
    except FileNotFoundError:
        return Done(value={"exists": False}, facts={"exists": False})
    except Refused as refusal:
        if refusal.code != "not_folder":
            raise
        return Done(value={"exists": False}, facts={"exists": False})
    return Done(value=value, facts=value)


def make_folder(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:  # noqa: ARG001 (as the other verbs)
    """Make a folder and those on the way to it. One that is there is left as it is."""
    try:
        with root.folder(parts[:-1], create=True) as folder:
            created = bool(parts) and root.make(folder, parts[-1])
    except Refused as refusal:
        if refusal.code != "not_folder":
            raise
        raise Refused("exists", refusal.message, hint="delete it first, or choose another name") from refusal
    return Done(value={"created": created}, facts={"created": created})


VERBS: dict[str, Callable[[Beneath, Parts, FileOrder, Tally], Done]] = {
    "read": read,
    "edit": edit,
    "write": write,
    "append": append,
    "delete": delete,
    "list": list_,
    "search": search,
    "stat": stat_,
    "make_folder": make_folder,
}


def _sole_regular(fd: int, name: str) -> os.stat_result:
    found = os.fstat(fd)
    check_regular(found, name)
    if found.st_nlink > 1:
        message = f"`{shown_name(name)}` has {found.st_nlink} names, and some may be elsewhere"
        raise Refused("not_permitted", message, hint="write the whole file instead")
    return found


def _hashed(root: Beneath, parts: Parts, tally: Tally) -> dict[str, Any]:
    sha256 = hashlib.sha256()
    size = 0
    with regular(root, parts, READ) as (fd, _):
        for piece in pieces(fd, HASHED_BYTES_MAX, tally):
            sha256.update(piece)
            size += len(piece)
    return {"size": size, "sha256": f"sha256:{sha256.hexdigest()}"}


def _add(fd: int, content: bytes, size_before: int, tally: Tally) -> None:
    tally.check()
    try:
        fill(fd, content)
    except OSError:
        tally.landed = True  # unless the next line succeeds
        os.ftruncate(fd, size_before)
        tally.landed = False
        raise
    tally.landed = True
    os.fsync(fd)
