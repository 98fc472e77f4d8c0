"""The seven verbs of the file lane. Each is given an open workspace and says what it did.

Each is one step: done, or not begun. `write` fills a new file beside the old one and exchanges the names when it is
safe on disk; `append` takes back what a full disk let it write. Only a recursive delete can stop half-way, and then it
counts what is gone. They block: the lane calls them in a thread.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from assent.execution.adapters.files.beneath import Beneath, give, shown_name, status
from assent.execution.adapters.files.trees import Listing, Tally, delete_tree, kind_of
from assent.execution.bodies import shown
from assent.execution.orders import FileOrder
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Refused

HASHED_BYTES_MAX = 67_108_864
_PIECE_BYTES = 1_048_576
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_NEW_FILE_MODE = 0o666  # less the umask, as for every new file
_NAMES_TRIED_MAX = 100
_RACES_MAX = 16

Parts = tuple[str, ...]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a verb did: the value for the caller, the facts for the record, the limit that stopped it if one did."""

    code: str = "ok"
    message: str = ""
    limit: str = ""
    value: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    content: Digest | None = None


def read(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """The content of a regular file, whole or not at all."""
    limit = order.limits.output_bytes_max
    with _regular(root, parts, _READ) as (fd, found):
        content = b"" if found.st_size > limit else b"".join(_pieces(fd, limit + 1, tally))
    if found.st_size > limit or len(content) > limit:
        size = max(found.st_size, len(content))
        return Done(
            code="output_limit",
            message=f"the file has {size} bytes, more than {limit}",
            limit="output_bytes_max",
            value={"bytes": size},
        )
    text = shown(content)
    value = {"text": text} if isinstance(text, str) else text
    facts = {"bytes": len(content), "links": found.st_nlink}
    return Done(value={**value, "bytes": len(content), "sha256": digest(content)}, facts=facts, content=digest(content))


def write(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """Put a whole file in place, atomically and on disk. Folders on the way are made; mode and owner are kept."""
    if len(order.content) > order.limits.file_bytes_max:
        return _too_large(len(order.content), order)
    with root.folder(_above(parts), create=True) as folder:
        old = _replaceable(folder, parts[-1])
        temporary, fd = _temporary(root, folder, mode=_NEW_FILE_MODE if old is None else 0o600)
        try:
            _fill(fd, order.content)
            give(fd, old or os.fstat(folder))
            if old is not None:
                os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o777)
            os.fsync(fd)
            tally.check()
            os.rename(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            tally.landed = True
            os.fsync(folder)
            _same(fd, status(folder, parts[-1]))
        except BaseException:
            if not tally.landed:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
            raise
        finally:
            os.close(fd)
    content = digest(order.content)
    value = {"bytes": len(order.content), "sha256": content, "replaced": old is not None}
    return Done(value=value, facts={"bytes": len(order.content), "replaced": old is not None}, content=content)


def append(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """Add to the end of a file, which is made if it is missing. All of it is added, or nothing."""
    with root.folder(_above(parts), create=True) as folder:
        old, fd = _opened_to_append(root, folder, parts[-1])
        try:
            before = _sole_regular(fd, parts[-1])
            if before.st_size + len(order.content) > order.limits.file_bytes_max:
                return _too_large(before.st_size + len(order.content), order)
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
        old = _replaceable(folder, name)
        with suppress(FileExistsError):
            return old, root.child(folder, name, flags | (os.O_EXCL if old is None else 0), mode=_NEW_FILE_MODE)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def delete(root: Beneath, parts: Parts, order: FileOrder, tally: Tally) -> Done:
    """Remove a name: a file, a link itself and never what it points to, or with `recursive` a folder and all in it."""
    with root.folder(_above(parts)) as folder:
        found = _found(folder, parts[-1])
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
            found = os.fstat(folder) if not parts else _found(folder, parts[-1])
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
    "write": write,
    "append": append,
    "delete": delete,
    "list": list_,
    "stat": stat_,
    "make_folder": make_folder,
}


def _above(parts: Parts) -> Parts:
    if not parts:
        raise Refused("not_permitted", "this cannot be done to the workspace itself", hint="name something in it")
    return parts[:-1]


def _found(folder: int, name: str) -> os.stat_result:
    found = status(folder, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return found


@contextmanager
def _regular(root: Beneath, parts: Parts, flags: int) -> Iterator[tuple[int, os.stat_result]]:
    """A regular file, open. It is looked at before, since merely opening some devices does something, and after."""
    with root.folder(_above(parts)) as folder:
        _check_regular(_found(folder, parts[-1]), parts[-1])
        fd = root.child(folder, parts[-1], flags)
    try:
        found = os.fstat(fd)
        _check_regular(found, parts[-1])
        yield fd, found
    finally:
        os.close(fd)


def _check_regular(found: os.stat_result, name: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise Refused("symlink_refused", f"`{shown_name(name)}` is a symbolic link", hint="name what it points to")
    if not stat.S_ISREG(found.st_mode):
        raise Refused("not_regular", f"`{shown_name(name)}` is a {kind_of(found.st_mode)}, not a file")


def _replaceable(folder: int, name: str) -> os.stat_result | None:
    found = status(folder, name)
    if found is not None:
        _check_regular(found, name)
    return found


def _sole_regular(fd: int, name: str) -> os.stat_result:
    found = os.fstat(fd)
    _check_regular(found, name)
    if found.st_nlink > 1:
        message = f"`{shown_name(name)}` has {found.st_nlink} names, and some may be elsewhere"
        raise Refused("not_permitted", message, hint="write the whole file instead")
    return found


def _pieces(fd: int, limit: int, tally: Tally) -> Iterator[bytes]:
    while limit > 0 and (piece := os.read(fd, min(limit, _PIECE_BYTES))):
        tally.check()
        limit -= len(piece)
        yield piece


def _hashed(root: Beneath, parts: Parts, tally: Tally) -> dict[str, Any]:
    sha256 = hashlib.sha256()
    size = 0
    with _regular(root, parts, _READ) as (fd, _):
        for piece in _pieces(fd, HASHED_BYTES_MAX, tally):
            sha256.update(piece)
            size += len(piece)
    return {"size": size, "sha256": f"sha256:{sha256.hexdigest()}"}


def _temporary(root: Beneath, folder: int, *, mode: int) -> tuple[str, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    for number in range(_NAMES_TRIED_MAX):
        name = f".assent-{os.getpid()}-{number}.tmp"
        with suppress(FileExistsError):
            return name, root.child(folder, name, flags, mode=mode)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _fill(fd: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def _add(fd: int, content: bytes, size_before: int, tally: Tally) -> None:
    tally.check()
    try:
        _fill(fd, content)
    except OSError:
        tally.landed = True  # unless the next line succeeds
        os.ftruncate(fd, size_before)
        tally.landed = False
        raise
    tally.landed = True
    os.fsync(fd)


def _same(fd: int, there: os.stat_result | None) -> None:
    mine = os.fstat(fd)
    if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
        raise OSError(errno.ESTALE, "something else exchanged the file at the same moment")


def _too_large(size: int, order: FileOrder) -> Done:
    limit = order.limits.file_bytes_max
    message = f"the file would have {size} bytes, more than {limit}"
    return Done(code="output_limit", message=message, limit="file_bytes_max")
