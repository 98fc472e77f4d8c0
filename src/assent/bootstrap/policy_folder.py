"""The folder of policy files: what is written there, and the bench on which it is tried."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from assent.bootstrap.offering import STANDARD
from assent.bootstrap.settings import Settings
from assent.ledger.connectors import catalogue
from assent.ledger.contracts import OperationContract
from assent.ledger.operations import Operation, Place
from assent.operations.rehearsals import Rehearsals
from assent.policy.bundle import Bundle, join
from assent.policy.layers import LAYERS
from assent.primitives.errors import Malformed

RULES = "*.cedar"
TESTS = "*_tests.toml"
FILE_BYTES_MAX = 4_194_304


def read_policy(folder: Path) -> Bundle:
    """Every rule file of the folder and of the layers below it, joined.

    Raises:
        Malformed: `policy_missing`, `policy_unreadable`, or what `join` raises.
    """
    found = folder.glob(RULES) if folder.is_dir() else ()
    below = (path for layer in LAYERS[1:] for path in (folder / layer).glob(RULES))
    paths = {path.relative_to(folder).as_posix(): path for path in (*found, *below)}
    if not paths:
        raise Malformed(
            "policy_missing",
            f"there are no policy files (`{RULES}`) in `{folder}`",
            hint="run `assent init` for a start",
        )
    return join({name: _read(path) for name, path in sorted(paths.items())})


def read_tests(folder: Path) -> list[tuple[str, str]]:
    """Every test file of the folder: its name and text.

    Raises:
        Malformed: `policy_unreadable`.
    """
    return [(path.name, _read(path)) for path in sorted(folder.glob(TESTS))]


def contracts(operations: Iterable[Operation] = STANDARD) -> dict[str, OperationContract]:
    """The contracts of `operations`, by name."""
    return {name: operation.contract for name, operation in catalogue(operations).items()}


def rehearsals(settings: Settings, operations: Iterable[Operation] = STANDARD) -> Rehearsals:
    """The bench: policy against `operations` and the declared principals."""
    return Rehearsals(
        operations=catalogue(operations),
        principals=settings.principals,
        place=Place(workspace=str(settings.workspace)),
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Malformed(
            "policy_unreadable", f"`{path}` cannot be read: {(error.strerror or 'no reason').lower()}"
        ) from error
    if len(data) > FILE_BYTES_MAX:
        raise Malformed("policy_unreadable", f"`{path}` is larger than {FILE_BYTES_MAX} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Malformed("policy_unreadable", f"`{path}`, line {line}: this is not UTF-8 text") from error
