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
from assent.operations import finding
from assent.operations.remembering import LIMIT, QUERY
from assent.primitives.errors import InvariantBroken, Malformed
from assent.reasoning.skills import NAME_CHARACTERS_MAX

COMMAND_BYTES_MAX = 65_536


Into = Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]
"""What a tool was given, and what the run adds, to the operation's arguments."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Spelling(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool takes, what the model is told of it, and the arguments of its operation that this becomes."""

    tool: str
    summary: str
    arguments: tuple[Argument, ...]
    into: Into


def spelled(name: str, arguments: Mapping[str, Any], given: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """The arguments of the operation that these stand for, when they are spelled as `name` (empty: as they are).

    `given` is what the run itself adds and no model can say.

    Raises:
        Malformed: `arguments_invalid`: they are not what the tool takes.
        InvariantBroken: `spelling_unknown`: no release has such a spelling.
    """
    if not name:
        return dict(arguments)
    spelling = SPELLINGS.get(name)
    if spelling is None:
        raise InvariantBroken("spelling_unknown", f"there is no spelling `{name[:80]}`")
    return spelling.into(fit_arguments(spelling.tool, spelling.arguments, arguments), given)


def _command(shell: str) -> Into:
    def into(said: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
        return {"argv": [shell, "-c", said["command"]], **_kept(said, cwd="cwd", timeout_s="wall_s")}

    return into


def _recall(said: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Where is looked is what the agent declares."""
    return {"query": said["query"], "sources": [*given.get("sources", ())], **_kept(said, limit="limit")}


def _find(said: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Whom the agent may hand work to is what it declares."""
    asked = _kept(said, capabilities="capabilities", tools="tools", limit="limit")
    return {**asked, "delegates": [*given.get("delegates", ())]}


def _skill(said: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The digest is the one that the run began with."""
    known: Mapping[str, str] = given.get("skills", {})
    if said["name"] not in known:
        names = ", ".join(sorted(known)) or "none"
        raise Malformed("arguments_invalid", f"there is no skill `{said['name']}`", hint=f"there are: {names}")
    return {"name": said["name"], "sha256": known[said["name"]], **_kept(said, file="file")}


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
            into=lambda said, _: {
                "source": said["source"], **_kept(said, session="session", timeout_s="wall_s")
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
            into=lambda said, _: {"url": said["url"]},
        ),
        "memory-1": Spelling(
            tool="memory_search",
            summary="look something up in what is remembered: pieces of notes, where they stand, how old they are",
            arguments=(QUERY, LIMIT),
            into=_recall,
        ),
        "agents-1": Spelling(
            tool="find_agents",
            summary="find other agents by what they can do: what each is, how it is, whether work can be handed to it",
            arguments=(finding.CAPABILITIES, finding.TOOLS, finding.LIMIT),
            into=_find,
        ),
        "skill-1": Spelling(
            tool="skill",
            summary="read a skill: how work of some kind is done here",
            arguments=(
                Argument(
                    name="name", kind="text", help="the skill", required=True, authority=True,
                    bytes_max=NAME_CHARACTERS_MAX,
                ),
                Argument(
                    name="file", kind="text", help="a file in its folder that it speaks of (else: the skill itself)",
                    bytes_max=PATH_BYTES_MAX,
                ),
            ),
            into=_skill,
        ),
    }
)  # fmt: skip
