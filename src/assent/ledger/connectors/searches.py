"""Searching files beneath the workspace, by one of two engines that find the same.

- Assent's own, in the file lane. Nothing but Assent's code runs, so it meets every confinement floor.
- ripgrep, where the machine has it: a confined program like any other, with the workspace read-only and no network. It
  is told to begin in a folder of which the kernel itself says that no link led there, and it follows none below.

Which one is a fact about the machine that is given when the operation is made; what is asked, judged and answered is
the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, ProcessOrder, Search
from assent.execution.outcomes import Ending, Outcome
from assent.execution.searches import (
    CONTEXT_MAX,
    GLOB_CHARACTERS_MAX,
    MATCHES_MAX,
    PATTERN_CHARACTERS_MAX,
    assembled,
    glob_pattern,
    read_pattern,
)
from assent.ledger.connectors.files import WEAKEST, path_argument
from assent.ledger.connectors.paths import inside, locate, workspace_of
from assent.ledger.connectors.ripgrep import argv, read_said
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Place
from assent.primitives.errors import Malformed

_REFUSED = {
    "not_found": "no such file or directory",
    "not_regular": "it is neither a file nor a folder",
    "symlink_refused": "there is a symbolic link on the way",
}
_ARGUMENTS = (
    Argument(
        name="pattern",
        kind="text",
        help="a regular expression, matched line by line",
        required=True,
        bytes_max=4 * PATTERN_CHARACTERS_MAX,
    ),
    path_argument("the file, or the folder to begin in", default="."),
    Argument(
        name="glob",
        kind="text",
        help="only files like this, such as `*.py` or `src/**/*.ts`",
        default="",
        bytes_max=4 * GLOB_CHARACTERS_MAX,
    ),
    Argument(name="ignore_case", kind="boolean", help="whether large and small letters are the same", default=False),
    Argument(
        name="context", kind="integer", help=f"lines to show before and after each, at most {CONTEXT_MAX}", default=0
    ),
    Argument(name="limit", kind="integer", help=f"how many lines to find at most, up to {MATCHES_MAX}", default=100),
)


class FilesSearch(Unobserved):
    """Find lines in files. `ripgrep` is the program by which they are found; empty: Assent's own engine."""

    def __init__(self, *, ripgrep: str = "") -> None:
        self._ripgrep = ripgrep
        self.contract = OperationContract(
            name="files.search",
            summary="find lines in files by a regular expression; binary files and folders like `.git` are passed by",
            effect=EffectClass.READ,
            idempotency=Idempotency.NATURAL,
            arguments=_ARGUMENTS,
            floor=ConfinementClass.NAMESPACED if ripgrep else WEAKEST,
        )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The path, and whether it lies inside the workspace."""
        spot = locate(self._given(arguments)["path"], place)
        return Facts(path=spot.path, inside_workspace=spot.inside)

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (the protocol's)
    ) -> FileOrder | ProcessOrder:
        """The order for the file lane, or for the process lane.

        Raises:
            Malformed: `outside_workspace`, `path_malformed`, `pattern_refused`, `glob_refused`, `arguments_invalid`.
        """
        given = self._given(arguments)
        path, workspace = inside(given["path"], place), workspace_of(place)
        wanted = Search(**{name: given[name] for name in ("pattern", "glob", "ignore_case", "context", "limit")})
        if not self._ripgrep:
            return FileOrder(verb="search", workspace=workspace, path=path, search=wanted, limits=obligations.limits)
        return ProcessOrder(
            argv=argv(self._ripgrep, wanted, path, output_bytes_max=obligations.limits.output_bytes_max),
            workspace=workspace,
            workspace_writable=False,
            limits=obligations.limits,
        )

    def read(self, outcome: Outcome) -> Outcome:
        """What ripgrep said, in the shape that Assent's own engine has."""
        if not self._ripgrep:
            return outcome
        said = read_said(outcome.value.get("stdout"))
        if said.refused or not (said.lines or said.whole):
            message = _REFUSED.get(said.refused) or str(outcome.value.get("stderr", "")).strip()[:500]
            code = said.refused if said.refused in _REFUSED else "search_failed"
            return msgspec.structs.replace(
                outcome, ending=Ending.FAILED, code=code, message=message or "the search ended too early", value={}
            )
        value = assembled(said.lines, limit=said.limit, context=said.context)
        return msgspec.structs.replace(outcome, value={**value, "complete": value["complete"] and said.whole})

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        read_pattern(given["pattern"])
        glob_pattern(given["glob"])
        if not (0 <= given["context"] <= CONTEXT_MAX and 1 <= given["limit"] <= MATCHES_MAX):
            raise Malformed("arguments_invalid", f"`context` is 0 to {CONTEXT_MAX}, and `limit` 1 to {MATCHES_MAX}")
        return given


SEARCH = FilesSearch()

SEARCHES = (SEARCH,)
