"""The page of commands: read from the signatures and docstrings that also make `assent COMMAND --help`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from assent.surfaces.cli import listing
from assent.surfaces.cli.commands import perform

_PROVIDED = {"common", "desk"}
_SHARED = (
    ("--json", "Print one JSON document and nothing else on stdout."),
    ("--folder PATH", "The folder that holds assent.toml (else: here or above)."),
)
_SAME_EVERYWHERE = {"--json"}
_KINDS: dict[type, str] = {int: "NUMBER", str: "TEXT", Path: "PATH"}


class Option(NamedTuple):
    """One word or option of a command, as it is written, and its help."""

    written: str
    about: str


def commands_page() -> Iterator[str]:
    """Every command."""
    yield from ("# Commands", "", "`assent COMMAND`, or `python -m assent COMMAND`. What a command ends with:")
    yield "[exit codes](exit-codes.md). Ids may be shortened to any part of four or more characters that fits only one."
    yield ""
    yield from ("Every command takes:", "")
    yield from _table([Option(*pair) for pair in _SHARED])
    yield from ("", "(`assent demo` has a `--folder` of its own.)")
    for group, commands in listing.GROUPS.items():
        for command in commands:
            yield from _command(group, command)


def options(command: listing.Command) -> list[Option]:
    """What a command takes, beside what all take."""
    function = _function(command.where)
    if command.name in listing.WORDED:
        return [Option(*pair) for pair in perform.OPTIONS[command.name] if pair[0] not in dict(_SHARED)]
    about = _sections(function)[1]
    hints = get_type_hints(function, include_extras=True)
    return [
        Option(_written(parameter, hints[name]), about.get(name, ""))
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in _PROVIDED and "--" + name not in _SAME_EVERYWHERE
    ]


def _command(group: str, command: listing.Command) -> Iterator[str]:
    function = _function(command.where)
    text, _ = _sections(function)
    worded = command.name in listing.WORDED
    usage = f"assent {command.name}" + (" OPERATION --name value … [-- program argument …]" if worded else "")
    yield from ("", f"## assent {command.name}", "", f"*{group}.* {text}", "")
    if worded:
        yield from (f"`{usage}`. The arguments are those of the [operation](operations.md).", "")
    yield from _table(options(command))


def _table(rows: list[Option]) -> Iterator[str]:
    if not rows:
        return
    yield from ("| | |", "|---|---|")
    for row in rows:
        written = row.written.replace("|", "\\|")
        yield f"| `{written}` | {row.about} |"


def _function(where: str) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _sections(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The text of a docstring, and its parameters."""
    text, _, parameters = inspect.cleandoc(function.__doc__ or "").partition("\nParameters\n")
    found: dict[str, str] = {}
    for name, about in re.findall(r"^(\w+)\n((?:    .*\n?)+)", parameters, re.MULTILINE):
        found[name] = " ".join(about.split())
    example = re.sub(r"Example: (assent [^\n]+)", r"Example: `\1`", text.strip())
    return re.sub(r"\n{2,}", "\n\n", example), found


def _written(parameter: inspect.Parameter, hint: Any) -> str:  # noqa: ANN401 (an annotation is anything)
    kind, name = _read(hint)
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        shown = name or parameter.name.upper()
        return shown if parameter.default is inspect.Parameter.empty else f"[{shown}]"
    flag = name or "--" + parameter.name.strip("_").replace("_", "-")
    if kind is bool:
        return f"--no-{flag.removeprefix('--')}" if parameter.default is True else flag
    needed = parameter.default is inspect.Parameter.empty
    return f"{flag} {_KINDS[kind]}" + (" (required)" if needed else "")


def _read(hint: Any) -> tuple[type, str]:  # noqa: ANN401
    """The plain type of a hint, and the name it is given."""
    name = ""
    if get_origin(hint) is Annotated:
        hint, *extra = get_args(hint)
        for one in extra:
            if isinstance(one, Parameter) and one.name:
                name = one.name if isinstance(one.name, str) else next(iter(one.name))
    plain = [one for one in get_args(hint) if one is not type(None)] or [hint]
    return plain[0], name
