"""The folder of admitted connectors: one file each, read whole at every start, written whole or not at all.

A file that cannot be used offers nothing, and takes nothing from the others. It is told at every command.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assent.ledger.connectors import BUILTIN
from assent.ledger.connectors.families.admissions import FILE_BYTES_MAX, Admission, decode, encode
from assent.ledger.connectors.families.names import check_connector
from assent.ledger.operations import Operation
from assent.operations.connecting import Broken
from assent.primitives.errors import Malformed, NotFound, Unavailable

FILES = "*.json"
CONNECTORS_MAX = 64
BUILTIN_NAMES = frozenset(operation.contract.connector for operation in BUILTIN) | {
    "agents",
    "assistant",
    "memory",
    "model",
}


class ConnectorFolder:
    """The admitted connectors of one folder (`operations.connecting.Shelf`). What was read is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: tuple[tuple[Admission, ...], tuple[Broken, ...]] | None = None

    def admissions(self) -> tuple[Admission, ...]:
        return self._all()[0]

    def broken(self) -> tuple[Broken, ...]:
        return self._all()[1]

    def operations(self) -> tuple[Operation, ...]:
        """Everything that is offered: what comes with Assent, and what was admitted."""
        return (*BUILTIN, *(operation for one in self.admissions() for operation in one.offered()))

    @contextmanager
    def alone(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _unwritten(self._folder, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._read = None
            yield
        finally:
            os.close(descriptor)

    def keep(self, admission: Admission) -> str:
        path = self._path(admission.name)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)  # left by a process of the same number that was killed here
            descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(encode(admission))
                    file.flush()
                    os.fsync(file.fileno())
                fresh.rename(path)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
            _settle(self._folder)
        except OSError as error:
            raise _unwritten(path, error) from error
        self._read = None
        return str(path)

    def drop(self, name: str) -> str:
        path = self._path(name)
        try:
            path.unlink()
            _settle(self._folder)
        except FileNotFoundError as error:
            raise NotFound(
                "connector_unknown", f"there is no connector `{name}`", hint="`assent connect list` lists all"
            ) from error
        except OSError as error:
            raise _unwritten(path, error) from error
        self._read = None
        return str(path)

    def _path(self, name: str) -> Path:
        return self._folder / f"{check_connector(name, taken=BUILTIN_NAMES)}.json"

    def _all(self) -> tuple[tuple[Admission, ...], tuple[Broken, ...]]:
        if self._read is None:
            paths = sorted(self._folder.glob(FILES)) if self._folder.is_dir() else []
            found = [_admitted(path) for path in paths[:CONNECTORS_MAX]]
            found += [_broken(path, _too_many()) for path in paths[CONNECTORS_MAX:]]
            self._read = (
                tuple(one for one in found if isinstance(one, Admission)),
                tuple(one for one in found if isinstance(one, Broken)),
            )
        return self._read


def _admitted(path: Path) -> Admission | Broken:
    try:
        check_connector(path.stem, taken=BUILTIN_NAMES)
        return decode(_bytes(path), name=path.stem)
    except Malformed as malformed:
        return _broken(path, malformed)


def _broken(path: Path, why: Malformed) -> Broken:
    return Broken(name=path.stem, file=str(path), code=why.code, message=why.message, hint=why.hint)


def _too_many() -> Malformed:
    return Malformed("too_many_connectors", f"more than {CONNECTORS_MAX} connectors are not read")


def _bytes(path: Path) -> bytes:
    """The file's bytes. A link is not followed: it could lead to where agents write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else (error.strerror or "no reason given").lower()
        raise Malformed("admission_unreadable", f"it cannot be read: {why}") from error
    if len(data) > FILE_BYTES_MAX:
        raise Malformed("admission_unreadable", f"it is larger than {FILE_BYTES_MAX} bytes")
    return data


def _settle(folder: Path) -> None:
    """Make the change of the folder itself outlast a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritten(path: Path, error: OSError) -> Unavailable:
    what = (error.strerror or "no reason given").lower()
    return Unavailable("connector_unwritten", f"`{path}` cannot be written: {what}", hint="check the folder's owner")
