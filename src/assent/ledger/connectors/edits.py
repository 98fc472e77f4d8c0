"""Editing a file beneath the workspace: one exact text in place of another.

What a later reading of the file says about an edit whose outcome is unknown. As for a write, the judgement is about
whether what it was to bring about holds now:

| the file                                                   | is judged    |
|------------------------------------------------------------|--------------|
| is gone                                                    | not happened |
| has the digest it was to have before                       | not happened |
| has that digest once `new` is put back to `old`            | happened     |
| holds `new` and no `old`; or no `old`, and `new` is empty  | happened     |
| holds `old` and no `new`, and `new` is not empty           | not happened |
| anything else: both texts, or neither                      | unclear      |
"""

from __future__ import annotations

from typing import Any

from assent.execution.edits import places
from assent.execution.obligations import Obligations
from assent.execution.orders import Edit, FileOrder
from assent.ledger.connectors.files import CONTENT_BYTES_MAX, WEAKEST, path_argument
from assent.ledger.connectors.paths import inside, locate, workspace_of
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Judgement, Place
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed

SHA256_BYTES_MAX = 71


class FilesEdit:
    """Replace a text in a file where it stands exactly."""

    contract = OperationContract(
        name="files.edit",
        summary="replace an exact text in a file; what does not fit changes nothing, and the nearest line is told",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NONE,
        arguments=(
            path_argument("the file"),
            Argument(
                name="old",
                kind="text",
                help="the text to replace, exactly as it stands, with enough around it to stand in one place only",
                required=True,
                bytes_max=CONTENT_BYTES_MAX,
            ),
            Argument(
                name="new",
                kind="text",
                help="what is to stand there instead",
                required=True,
                bytes_max=CONTENT_BYTES_MAX,
            ),
            Argument(name="all", kind="boolean", help="replace it wherever it stands", default=False),
            Argument(
                name="sha256",
                kind="text",
                help="the digest of the file as it was read; another one is not edited",
                default="",
                bytes_max=SHA256_BYTES_MAX,
            ),
        ),
        floor=WEAKEST,
        observer="files.read",
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The path, whether it lies inside the workspace, and how many bytes are put in."""
        given = self._given(arguments)
        spot = locate(given["path"], place)
        return Facts(path=spot.path, inside_workspace=spot.inside, payload_bytes=len(given["new"].encode()))

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
        given = self._given(arguments)
        path = inside(given["path"], place)
        if path == ".":
            raise Malformed("workspace_itself", "`files.edit` cannot be done to the workspace itself")
        return FileOrder(
            verb="edit",
            workspace=workspace_of(place),
            path=path,
            content=given["new"].encode(),
            edit=Edit(old=given["old"].encode(), every=given["all"], sha256=given["sha256"]),
            limits=obligations.limits,
        )

    def observation(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """The same path, for `files.read`."""
        return {"path": self._given(arguments)["path"]}

    def judge(self, arguments: dict[str, Any], observed_code: str, observed: dict[str, Any]) -> Judgement:
        """See the table at the top of this module."""
        given, text = self._given(arguments), observed.get("text")
        if observed_code == "not_found":
            return Judgement.NOT_HAPPENED
        if observed_code != "ok" or not isinstance(text, str):
            return Judgement.UNCLEAR
        old, new, before = given["old"], given["new"], given["sha256"]
        if before and digest(text.encode()) == before:
            return Judgement.NOT_HAPPENED
        if before and _undone(text, old, new, before, every=given["all"]):
            return Judgement.HAPPENED
        match old in text, new in text:
            case False, True:
                return Judgement.HAPPENED
            case True, False:
                return Judgement.NOT_HAPPENED
            case _:
                return Judgement.UNCLEAR

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        if not given["old"]:
            raise Malformed("arguments_invalid", "`old` is empty", hint="write a new file with `files.write`")
        if given["old"] == given["new"]:
            raise Malformed("arguments_invalid", "`old` and `new` are the same: nothing would change")
        return given


def _undone(text: str, old: str, new: str, before: str, *, every: bool) -> bool:
    """Whether the file has the digest it had `before` once the edit is taken back."""
    if not new:
        return False
    if every:
        return digest(text.replace(new, old).encode()) == before
    content, size = text.encode(), len(new.encode())
    tried = (content[:at] + old.encode() + content[at + size :] for at in places(content, new.encode()))
    return any(digest(one) == before for one in tried)


EDIT = FilesEdit()

EDITS = (EDIT,)
