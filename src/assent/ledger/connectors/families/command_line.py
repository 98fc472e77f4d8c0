"""Command lines, described by a person in TOML: an operation for each way to call a program. Pure.

    program = "git"                        # a name on the sandbox's PATH, or a path
    words = ["--no-pager"]                 # fixed words that stand before everything

    [[operation]]
    name = "log"
    summary = "show what was committed"
    effect = "read"                        # what is not said is irreversible
    words = ["log", "--oneline"]           # more fixed words
    output = "text"                        # or "json"

    [[operation.option]]
    name = "count"
    flag = "--max-count"                   # written --max-count=VALUE
    type = "integer"                       # text, integer, number, boolean (a switch), texts, path

    [[operation.positional]]
    name = "file"
    type = "path"                          # stays in the workspace, and rules see it

An operation that only reads cannot write the workspace. Others may, when they say `workspace = "write"`.
"""

from __future__ import annotations

import tomllib
from typing import Any, Literal

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.execution.hosts import split_authority
from assent.ledger.connectors.families.command_calls import CommandOption, CommandRecipe
from assent.ledger.connectors.families.entries import OPERATIONS_MAX, Draft, Entry, Source
from assent.ledger.connectors.families.names import is_argument, is_operation, told
from assent.ledger.contracts import Argument, ArgumentKind, EffectClass, Idempotency, OperationContract
from assent.primitives.canonical import canonical
from assent.primitives.errors import Malformed

DESCRIPTION_BYTES_MAX = 1_048_576
STDIN_BYTES_MAX = 1_048_576
WORDS_MAX = 64
WALL_S_MAX = 86_400

Type = Literal["text", "integer", "number", "boolean", "texts", "path"]


class TakenText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An option or a positional as it is described. Only options have a `flag`."""

    name: str
    flag: str = ""
    type: Type = "text"
    help: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    minimum: int | float | None = None
    maximum: int | float | None = None


class OperationText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to call the program as it is described."""

    name: str
    summary: str
    effect: EffectClass = EffectClass.IRREVERSIBLE
    idempotent: bool = False
    words: tuple[str, ...] = ()
    option: tuple[TakenText, ...] = ()
    positional: tuple[TakenText, ...] = ()
    separator: bool = True
    stdin: str = ""
    cwd: str = "."
    workspace: Literal["read", "write"] = "read"
    host: str = ""
    output: Literal["text", "json"] = "text"
    wall_s: int = 0
    environment: dict[str, str] = {}


class CommandText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole description."""

    program: str
    title: str = ""
    words: tuple[str, ...] = ()
    operation: tuple[OperationText, ...]


def read_command_line(data: bytes, *, name: str, where: str, source_digest: Any, only: str = "") -> Draft:  # noqa: ANN401
    """Make a connector called `name` of a description.

    Raises:
        Malformed: `document_malformed`, `recipe_malformed`.
    """
    text = _parsed(data)
    found = [one for one in text.operation if only in one.name]
    if len(found) > OPERATIONS_MAX:
        raise _malformed(f"it has {len(found)} operations, and a connector {OPERATIONS_MAX}")
    source = Source(where=where, digest=source_digest, title=told(text.title))
    return Draft(
        name=name, family="cli", source=source, entries=tuple(_entry(f"{name}.{one.name}", one, text) for one in found)
    )


def _parsed(data: bytes) -> CommandText:
    if len(data) > DESCRIPTION_BYTES_MAX:
        raise _malformed(f"it is larger than {DESCRIPTION_BYTES_MAX} bytes")
    try:
        return msgspec.convert(tomllib.loads(data.decode()), CommandText)
    except msgspec.ValidationError as error:
        raise _malformed(str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _malformed(f"it is not TOML: {str(error)[:200]}") from error


def _entry(name: str, one: OperationText, text: CommandText) -> Entry:
    if not is_operation(one.name):
        raise _malformed(f"`{one.name[:60]!a}` cannot be the name of an operation")
    if len(text.words) + len(one.words) > WORDS_MAX or not 0 <= one.wall_s <= WALL_S_MAX:
        raise _malformed(f"`{one.name}` has more than {WORDS_MAX} words, or a time beyond {WALL_S_MAX} s")
    if one.effect is EffectClass.READ and one.workspace == "write":
        raise _malformed(f"`{one.name}` only reads, and is to write the workspace")
    if one.host:
        split_authority(one.host, default_port=None)
    arguments = [*_arguments(one), *_stdin(one)]
    names = [argument.name.lower() for argument in arguments]
    if len(set(names)) < len(names):
        raise _malformed(f"`{one.name}` takes two things of one name")
    contract = OperationContract(
        name=name,
        summary=told(one.summary) or one.name,
        effect=one.effect,
        idempotency=Idempotency.NATURAL if one.idempotent or one.effect is EffectClass.READ else Idempotency.NONE,
        arguments=tuple(arguments),
        floor=ConfinementClass.NAMESPACED,
        reaches=(one.host,) if one.host else (),
        foreign=True,
    )
    recipe = CommandRecipe(
        program=text.program, words=(*text.words, *one.words), options=tuple(_option(o) for o in one.option),
        positionals=tuple(p.name for p in one.positional),
        paths=tuple(t.name for t in (*one.option, *one.positional) if t.type == "path"),
        separator=one.separator, stdin="stdin" if one.stdin else "", cwd=one.cwd, writes=one.workspace == "write",
        host=one.host, output=one.output, wall_ms=one.wall_s * 1_000, env=one.environment,
    )  # fmt: skip
    entry = Entry(contract=contract, recipe=recipe, why=_why(one))
    entry.check()
    return entry


def _why(one: OperationText) -> str:
    return (
        f"its description says {one.effect}"
        if one.effect is not EffectClass.IRREVERSIBLE
        else "a program may do anything"
    )


def _option(taken: TakenText) -> CommandOption:
    writing: Literal["value", "switch", "each"] = (
        "switch" if taken.type == "boolean" else "each" if taken.type == "texts" else "value"
    )
    return CommandOption(argument=taken.name, flag=taken.flag, writing=writing)


def _arguments(one: OperationText) -> list[Argument]:
    found = []
    for taken in (*one.option, *one.positional):
        option = taken in one.option
        if not is_argument(taken.name):
            raise _malformed(f"`{taken.name[:60]!a}` of `{one.name}` cannot be the name of an argument")
        if bool(taken.flag) != option or (taken.type == "boolean" and not option):
            raise _malformed(f"`{taken.name}` of `{one.name}` needs a flag exactly when it is an option")
        kind: ArgumentKind = "text" if taken.type == "path" else taken.type
        found.append(
            Argument(
                name=taken.name,
                kind=kind,
                help=told(taken.help) or "not described",
                required=taken.required,
                authority=True,
                bytes_max=4_096 if taken.type == "path" else 65_536,
                schema=_schema(taken),
            )
        )
    return found


def _stdin(one: OperationText) -> list[Argument]:
    if not one.stdin:
        return []
    return [Argument(name="stdin", kind="text", help=told(one.stdin), bytes_max=STDIN_BYTES_MAX)]


def _schema(taken: TakenText) -> str:
    schema: dict[str, Any] = {}
    if taken.choices:
        schema["enum"] = list(taken.choices)
    if taken.pattern:
        schema["pattern"] = taken.pattern
    schema |= {k: v for k, v in (("minimum", taken.minimum), ("maximum", taken.maximum)) if v is not None}
    if not schema:
        return ""
    return canonical({"type": "array", "items": schema} if taken.type == "texts" else schema).decode()


def _malformed(why: str) -> Malformed:
    return Malformed("document_malformed", f"the description cannot be used: {why}")
