"""Tools that are spelled otherwise than the operation they become: `bash` takes one command, `shell.run` words. Pure.

An offer names its spelling and the run records the offer, so a proposal is read the same however often a run is told
again, and by whichever release. What a spelling says never changes: a better one is a new one, with a number of its
own, beside the old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from assent.ledger.connectors.http import URL_BYTES_MAX
from assent.ledger.connectors.paths import PATH_BYTES_MAX
from assent.ledger.connectors.python import NAME_BYTES_MAX, SOURCE_BYTES_MAX
from assent.ledger.contracts import Argument, fit_arguments
from assent.primitives.errors import InvariantBroken

COMMAND_BYTES_MAX = 65_536


class Spelling(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool takes, what the model is told of it, and the arguments of its operation that this becomes."""

    tool: str
    summary: str
    arguments: tuple[Argument, ...]
    into: Callable[[dict[str, Any]], dict[str, Any]]


def spelled(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the operation that these stand for, when they are spelled as `name` (empty: as they are).

    Raises:
        Malformed: `arguments_invalid`: they are not what the tool takes.
        InvariantBroken: `spelling_unknown`: no release has such a spelling.
    """
    if not name:
        return dict(arguments)
    spelling = SPELLINGS.get(name)
    if spelling is None:
        raise InvariantBroken("spelling_unknown", f"there is no spelling `{name[:80]}`")
    return spelling.into(fit_arguments(spelling.tool, spelling.arguments, arguments))


def _command(shell: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def into(given: dict[str, Any]) -> dict[str, Any]:
        return {"argv": [shell, "-c", given["command"]], **_kept(given, cwd="cwd", timeout_s="wall_s")}

    return into


def _kept(given: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """What is given, under the names that the operation has for it."""
    return {theirs: given[ours] for ours, theirs in names.items() if given.get(ours) is not None}


_TIMEOUT = Argument(name="timeout_s", kind="integer", help="seconds to allow, if fewer than policy does")


def _shell(shell: str, summary: str) -> Spelling:
    return Spelling(
        tool="bash",
        summary=summary,
        arguments=(
            Argument(
                name="command", kind="text", help="the command", required=True, authority=True,
                bytes_max=COMMAND_BYTES_MAX,
            ),
            Argument(
                name="cwd", kind="text", help="the folder to run in, relative to the workspace (else the workspace)",
                bytes_max=PATH_BYTES_MAX,
            ),
            _TIMEOUT,
        ),
        into=_command(shell),
    )  # fmt: skip


SPELLINGS: Mapping[str, Spelling] = MappingProxyType(
    {
        "bash-1": _shell("bash", "run a command with bash in the workspace, confined; every call has a new shell"),
        "sh-1": _shell(
            "sh", "run a command with sh (there is no bash) in the workspace, confined; every call has a new shell"
        ),
        "python-1": Spelling(
            tool="python",
            summary="run Python source in a confined interpreter; the value of its last expression is the result",
            arguments=(
                Argument(
                    name="source", kind="text", help="the source", required=True, authority=True,
                    bytes_max=SOURCE_BYTES_MAX,
                ),
                Argument(
                    name="session", kind="text",
                    help="a name under which variables are kept between calls (else every call begins afresh)",
                    bytes_max=NAME_BYTES_MAX,
                ),
                _TIMEOUT,
            ),
            into=lambda given: {
                "source": given["source"], **_kept(given, session="session", timeout_s="wall_s")
            },
        ),
        "web-1": Spelling(
            tool="web_fetch",
            summary="fetch what is at a URL; of a web page its words, headings and links are told",
            arguments=(
                Argument(
                    name="url", kind="text", help="the absolute http or https URL", required=True, authority=True,
                    bytes_max=URL_BYTES_MAX,
                ),
            ),
            into=lambda given: {"url": given["url"]},
        ),
    }
)  # fmt: skip
