"""Calls of programs by a description that a person wrote. Pure.

What an asker says never becomes an option. A value is written into the word of its own option (`--flag=value`), or
stands after `--`, where a program takes everything as it is; for a program that knows no `--`, a value that begins with
a hyphen is refused. There is no shell. The program and its fixed words are the description's.
"""

from __future__ import annotations

import posixpath
from typing import Any, Literal

import msgspec

from assent.execution.obligations import Obligations
from assent.execution.orders import Limits, ProcessOrder
from assent.execution.outcomes import Ending, Outcome
from assent.ledger.connectors.families.made import Made
from assent.ledger.connectors.paths import inside, locate, workspace_of
from assent.ledger.connectors.programs import check_argv, check_env, judged_name, program_of
from assent.ledger.contracts import EffectClass, OperationContract
from assent.ledger.operations import Facts, Place
from assent.primitives.canonical import parse
from assent.primitives.errors import Malformed

Writing = Literal["value", "switch", "each"]


class CommandOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An option: `value` is written `--flag=value`, `switch` is there or not, `each` is written once for each value."""

    argument: str
    flag: str
    writing: Writing = "value"


class CommandRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="command"):
    """How a program is called. `paths` names the arguments that are paths in the workspace, `stdin` the one that is the
    standard input. `writes`: it may write the workspace. `host` is the one host it may reach."""

    program: str
    words: tuple[str, ...] = ()
    options: tuple[CommandOption, ...] = ()
    positionals: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    separator: bool = True
    stdin: str = ""
    cwd: str = "."
    writes: bool = False
    host: str = ""
    output: Literal["text", "json"] = "text"
    wall_ms: int = 0
    env: dict[str, str] = {}

    def check(self, contract: OperationContract) -> None:
        """Whether it reaches the host that the contract names, and takes arguments that the contract declares.

        Raises:
            Malformed: `recipe_malformed`, or what is wrong with its words.
        """
        check_argv((self.program, *self.words))
        check_env(self.env)
        program_of(self.program, cwd=self.cwd, place=Place(workspace="/"))
        if contract.reaches != ((self.host,) if self.host else ()):
            raise Malformed("recipe_malformed", "its calls fall on another host than its contract says")
        taken = {
            *(option.argument for option in self.options),
            *self.positionals,
            *((self.stdin,) if self.stdin else ()),
        }
        kinds = {argument.name: argument.kind for argument in contract.arguments}
        if taken != kinds.keys() or not set(self.paths) <= taken:
            raise Malformed("recipe_malformed", "its arguments are not those of its contract")
        for option in self.options:
            flag, kind = option.flag, kinds[option.argument]
            long = flag.startswith("--") and len(flag) > 2
            if (
                not (long or (len(flag) == 2 and flag[0] == "-" and flag[1].isalnum()))
                or not flag.isascii()
                or "=" in flag
            ):
                raise Malformed("recipe_malformed", f"`{flag[:40]!a}` is not an option")
            if not long and kind in ("text", "texts"):
                raise Malformed("recipe_malformed", f"`{flag}` takes a text, which only a long option can hold")


class CommandMade(Made):
    """One way to call a program."""

    def __init__(self, contract: OperationContract, recipe: CommandRecipe) -> None:
        super().__init__(contract)
        self._recipe = recipe

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """The program, the path, the host and the size of the standard input. Of several paths, one that leads outside.

        Raises:
            Malformed: `arguments_invalid`, `path_malformed`.
        """
        recipe, given = self._recipe, self.given(arguments)
        self._argv(given, place)
        spots = [locate(path, place) for path in (recipe.cwd, *self._paths(given))]
        outside = [spot for spot in spots if not spot.inside]
        spot = outside[0] if outside else spots[min(1, len(spots) - 1)]
        return Facts(
            path=spot.path,
            inside_workspace=not outside,
            host=recipe.host,
            program=judged_name(program_of(recipe.program, cwd=recipe.cwd, place=place)),
            payload_bytes=len(self._stdin(given)),
        )

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (programs know no idempotency keys)
    ) -> ProcessOrder:
        """The order for the process lane.

        Raises:
            Malformed: `arguments_invalid`, `outside_workspace`, `path_malformed`.
        """
        recipe, given = self._recipe, self.given(arguments)
        for path in self._paths(given):
            inside(path, place)
        return ProcessOrder(
            argv=self._argv(given, place),
            workspace=workspace_of(place),
            cwd=inside(recipe.cwd, place),
            workspace_writable=recipe.writes and self.contract.effect is not EffectClass.READ,
            stdin=self._stdin(given),
            env=dict(recipe.env),
            hosts=obligations.hosts,
            limits=_limits(recipe, obligations.limits),
        )

    def read(self, outcome: Outcome) -> Outcome:
        """Where the output is to be JSON, take it as that; a read whose output is none failed."""
        if self._recipe.output != "json":
            return outcome
        text = outcome.value.get("stdout")
        try:
            found = parse(text.encode()) if isinstance(text, str) else None
        except Malformed:
            found = None
        if found is not None or text == "null":
            rest = {name: value for name, value in outcome.value.items() if name != "stdout"}
            return msgspec.structs.replace(outcome, value={"output": found} | rest)
        message = "its output is not the JSON that its description promises"
        if self.contract.effect is EffectClass.READ:
            return msgspec.structs.replace(outcome, ending=Ending.FAILED, code="output_unreadable", message=message)
        return msgspec.structs.replace(outcome, message=message)

    def _argv(self, given: dict[str, Any], place: Place) -> tuple[str, ...]:
        recipe = self._recipe
        argv = [program_of(recipe.program, cwd=recipe.cwd, place=place), *recipe.words]
        for option in recipe.options:
            argv += _written(option, given.get(option.argument))
        values = [text for name in recipe.positionals for text in _texts(given.get(name))]
        if values and recipe.separator:
            argv.append("--")
        elif any(value.startswith("-") for value in values):
            raise Malformed("arguments_invalid", f"`{self.contract.name}` takes no value that begins with a hyphen")
        argv += values
        if any("\0" in word for word in argv):
            raise Malformed("arguments_invalid", f"`{self.contract.name}` takes no NUL character")
        check_argv(argv)
        return tuple(argv)

    def _paths(self, given: dict[str, Any]) -> list[str]:
        """The paths among the arguments, as the program reads them: from its folder."""
        cwd = self._recipe.cwd
        return [posixpath.join(cwd, text) for name in self._recipe.paths for text in _texts(given.get(name)) if text]

    def _stdin(self, given: dict[str, Any]) -> bytes:
        text: str = given.get(self._recipe.stdin, "") if self._recipe.stdin else ""
        return text.encode()


def _written(option: CommandOption, value: object) -> list[str]:
    if value is None or (option.writing == "switch" and value is False):
        return []
    if option.writing == "switch":
        return [option.flag]
    texts = _texts(value)
    return [f"{option.flag}={text}" if option.flag.startswith("--") else f"{option.flag}{text}" for text in texts]


def _texts(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [str(item) for item in value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(value)]


def _limits(recipe: CommandRecipe, allowed: Limits) -> Limits:
    if not recipe.wall_ms:
        return allowed
    return msgspec.structs.replace(allowed, wall_ms=min(allowed.wall_ms, recipe.wall_ms))
