"""Files beneath the workspace: read, list, stat, write, append, make_folder, delete.

What a later look at the path says about a call whose outcome is unknown. Nobody can see who left a file there, so the
judgement is only about whether what the call was to bring about holds now, whether the state before it plainly stands,
or neither:

| call        | happened                | not happened       | unclear                                              |
|-------------|-------------------------|--------------------|------------------------------------------------------|
| write       | a file with these bytes | nothing is there   | other bytes: the old ones, or somebody's newer ones  |
| append      | never                   | nothing is there   | a file: these bytes in it may be an earlier call's   |
| make_folder | a folder is there       | nothing is there   | something else is in the way                         |
| delete      | nothing is there        | it is still there  | a tree with `recursive`: part of it may be gone      |

`not_happened` invites the asker to ask anew. After a write that would silently replace what somebody wrote since, hence
"unclear" for other bytes. After a delete it may meet a file that was made since, but a delete is irreversible: asking
anew is judged, and as a rule reviewed, anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, Lines
from assent.ledger.connectors.paths import PATH_BYTES_MAX, inside, locate, workspace_of
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed

WEAKEST = ConfinementClass.LOCAL_WEAK  # nothing but Assent's own code runs in the file lane
CONTENT_BYTES_MAX = 1_048_576
LINES_MAX = 100_000

Verb = Literal["read", "write", "append", "delete", "list", "stat", "make_folder"]
Reading = Callable[[dict[str, Any], dict[str, Any]], Judgement]


class FileOperation:
    """One verb of the file lane. `reading` judges the value of a `files.stat`, given the call's arguments."""

    def __init__(self, contract: OperationContract, *, verb: Verb, reading: Reading | None = None) -> None:
        self.contract = contract
        self._verb: Verb = verb
        self._reading = reading

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The path, whether it lies inside the workspace, and how many bytes are written."""
        given = read_arguments(self.contract, arguments)
        _lines(given)
        spot = locate(given["path"], place)
        return Facts(path=spot.path, inside_workspace=spot.inside, payload_bytes=len(_content(given)))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (the protocol's)
    ) -> FileOrder:
        """The order for the file lane. Files know no idempotency keys: `key` is not used.

        Raises:
            Malformed: `outside_workspace`, `workspace_itself`, `path_malformed`, `arguments_invalid`.
        """
        given = read_arguments(self.contract, arguments)
        path = inside(given["path"], place)
        if path == "." and self._verb in ("write", "append", "delete"):
            raise Malformed(
                "workspace_itself",
                f"`{self.contract.name}` cannot be done to the workspace itself",
                hint="name a file or folder in it",
            )
        return FileOrder(
            verb=self._verb,
            workspace=workspace_of(place),
            path=path,
            content=_content(given),
            recursive=given.get("recursive", False),
            lines=_lines(given),
            limits=obligations.limits,
        )

    def observation(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """The same path, for `files.stat`."""
        return {"path": read_arguments(self.contract, arguments)["path"]} if self._reading else None

    def judge(self, arguments: dict[str, Any], observed_code: str, observed: dict[str, Any]) -> Judgement:
        """See the table at the top of this module."""
        if self._reading is None or observed_code != "ok" or not isinstance(observed.get("exists"), bool):
            return Judgement.UNCLEAR
        return self._reading(read_arguments(self.contract, arguments), observed)


def _lines(given: dict[str, Any]) -> Lines | None:
    """The lines that are asked for; None: the whole file.

    Raises:
        Malformed: `arguments_invalid`: there are no such lines.
    """
    if not {"offset", "limit"} & given.keys():
        return None
    first, count = given.get("offset", 1), given.get("limit", LINES_MAX)
    if first < 1 or not 1 <= count <= LINES_MAX:
        raise Malformed(
            "arguments_invalid", f"`offset` is 1 or more, and `limit` 1 to {LINES_MAX}", hint="lines count from 1"
        )
    return Lines(first=first, count=count)


def _content(given: dict[str, Any]) -> bytes:
    content: str = given.get("content", "")
    return content.encode()


def _written(given: dict[str, Any], seen: dict[str, Any]) -> Judgement:
    if not seen["exists"]:
        return Judgement.NOT_HAPPENED
    same = seen.get("kind") == "file" and seen.get("sha256") == digest(_content(given))
    return Judgement.HAPPENED if same else Judgement.UNCLEAR


def _appended(_: dict[str, Any], seen: dict[str, Any]) -> Judgement:
    return Judgement.UNCLEAR if seen["exists"] else Judgement.NOT_HAPPENED


def _folder_made(_: dict[str, Any], seen: dict[str, Any]) -> Judgement:
    if not seen["exists"]:
        return Judgement.NOT_HAPPENED
    return Judgement.HAPPENED if seen.get("kind") == "folder" else Judgement.UNCLEAR


def _deleted(given: dict[str, Any], seen: dict[str, Any]) -> Judgement:
    if not seen["exists"]:
        return Judgement.HAPPENED
    in_parts = given["recursive"] and seen.get("kind") != "file"
    return Judgement.UNCLEAR if in_parts else Judgement.NOT_HAPPENED


def path_argument(text: str, *, default: str | None = None) -> Argument:
    """The argument that says where."""
    return Argument(
        name="path",
        kind="text",
        help=f"{text}, relative to the workspace",
        required=default is None,
        default=default,
        authority=True,
        bytes_max=PATH_BYTES_MAX,
    )


def _bytes(text: str) -> Argument:
    return Argument(name="content", kind="text", help=text, required=True, bytes_max=CONTENT_BYTES_MAX)


def _recursive(text: str) -> Argument:
    return Argument(name="recursive", kind="boolean", help=text, default=False, authority=True)


READ = FileOperation(
    OperationContract(
        name="files.read",
        summary="read a file",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(
            path_argument("the file"),
            Argument(name="offset", kind="integer", help="the first line to read, from 1 (else: the whole file)"),
            Argument(name="limit", kind="integer", help="how many lines to read"),
        ),
        floor=WEAKEST,
    ),
    verb="read",
)

LIST = FileOperation(
    OperationContract(
        name="files.list",
        summary="list what is in a folder",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(path_argument("the folder", default="."), _recursive("also list what is in the folders below")),
        floor=WEAKEST,
    ),
    verb="list",
)

STAT = FileOperation(
    OperationContract(
        name="files.stat",
        summary="say whether something is there, of what kind and size, and the digest of a file",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(path_argument("the file or folder"),),
        floor=WEAKEST,
    ),
    verb="stat",
)

WRITE = FileOperation(
    OperationContract(
        name="files.write",
        summary="write a whole file, in place of what was there",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NATURAL,
        arguments=(path_argument("the file"), _bytes("the whole new content")),
        floor=WEAKEST,
        observer="files.stat",
    ),
    verb="write",
    reading=_written,
)

APPEND = FileOperation(
    OperationContract(
        name="files.append",
        summary="add to the end of a file",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NONE,
        arguments=(path_argument("the file"), _bytes("what is added")),
        floor=WEAKEST,
        observer="files.stat",
    ),
    verb="append",
    reading=_appended,
)

MAKE_FOLDER = FileOperation(
    OperationContract(
        name="files.make_folder",
        summary="make a folder",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NATURAL,
        arguments=(path_argument("the folder"),),
        floor=WEAKEST,
        observer="files.stat",
    ),
    verb="make_folder",
    reading=_folder_made,
)

DELETE = FileOperation(
    OperationContract(
        name="files.delete",
        summary="delete a file or a folder",
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NATURAL,
        arguments=(path_argument("the file or folder"), _recursive("also delete everything in the folder")),
        floor=WEAKEST,
        observer="files.stat",
    ),
    verb="delete",
    reading=_deleted,
)

FILES = (READ, LIST, STAT, WRITE, APPEND, MAKE_FOLDER, DELETE)
