"""The words after `assent do`: read by the operation's own contract.

    OPERATION --name value --flag --list a --list b --map key=value -- program and its arguments

Names are written with hyphens or underscores, and a list or map may be named in the singular (`--header a=b` for
`headers`). What stands after `--` fills the operation's list argument word for word.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from assent.ledger.contracts import Argument, OperationContract
from assent.primitives.canonical import Json, parse
from assent.primitives.errors import Malformed

ARGUMENTS_BYTES_MAX = 8_388_608
_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_OWN_TEXTS = ("as", "run", "key", "folder", "arguments", "emergency")
_OWN_FLAGS = ("wait", "raw", "json", "help")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call as it was typed. `principal` is what `--as` says; empty stands for "not given". `more` are the options
    of the command itself, each as often as it was written."""

    operation: str = ""
    arguments: dict[str, Any] = {}
    principal: str = ""
    run: str = ""
    key: str = ""
    emergency: str = ""
    more: Mapping[str, Sequence[str]] = {}
    folder: Path | None = None
    wait: bool = False
    raw: bool = False
    json: bool = False
    help: bool = False


def read_call(
    tokens: Sequence[str],
    *,
    contracts: Mapping[str, OperationContract],
    read: Callable[[str], bytes],
    more: Collection[str] = (),
) -> Call:
    """Read the words. `read` gives the bytes of a file that `--arguments @file` names (`@-`: standard input); `more`
    names options that only this command has.

    Raises:
        Malformed: `usage`, `operation_unknown`: the words do not fit; nothing was done.
    """
    for token in tokens:
        if not _encodable(token):
            raise _usage("an argument is not valid UTF-8", "give bytes by `--arguments @file`, as JSON")
    reader = _Reader(tokens, contracts, more)
    reader.run()
    return reader.call(read)


def folder_of(tokens: Sequence[str]) -> Path | None:
    """What `--folder` says, looked for before the words are read: which operations there are depends on it."""
    words = list(tokens[: tokens.index("--")] if "--" in tokens else tokens)
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--folder":
            return Path(value) if equals else Path(words[place + 1]) if place + 1 < len(words) else None
    return None


def unknown_operation(name: str, contracts: Mapping[str, OperationContract]) -> Malformed:
    """The error for an operation that nobody offers, with the nearest names."""
    near = difflib.get_close_matches(name, contracts, n=3, cutoff=0.4)
    told = f"did you mean {' or '.join(f'`{n}`' for n in near)}? " if near else ""
    return Malformed(
        "operation_unknown", f"no connector offers `{name[:80]}`", hint=f"{told}`assent operations` lists all"
    )


def option(argument: Argument) -> str:
    """How an argument is written on the command line."""
    return "--" + argument.name.replace("_", "-")


class _Reader:
    """Reads words from left to right; what an option takes is told by the operation named before it."""

    def __init__(
        self, tokens: Sequence[str], contracts: Mapping[str, OperationContract], more: Collection[str]
    ) -> None:
        self._more: dict[str, list[str]] = {name: [] for name in more}
        self._words = list(reversed(tokens))
        self._contracts = contracts
        self._contract: OperationContract | None = None
        self._operation = ""
        self._own: dict[str, Any] = {}
        self._given: dict[str, Any] = {}
        self._tail: list[str] | None = None

    def run(self) -> None:
        """Read every word."""
        while self._words:
            word = self._words.pop()
            if word == "--":
                self._tail = self._words[::-1]
                break
            if word == "-h":
                self._own["help"] = True
            elif word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                self._option(name, value if equals else None)
            else:
                self._word(word)

    def call(self, read: Callable[[str], bytes]) -> Call:
        """What was read."""
        own = dict(self._own)
        packed = own.pop("arguments", None)
        arguments = self._given
        if packed is not None:
            if arguments or self._tail is not None:
                raise _usage("`--arguments` and single arguments are both given", "write all of them one way")
            arguments = _unpacked(packed, read)
        elif self._tail is not None and not own.get("help"):
            arguments = self._with_tail(self._tail)
        if "folder" in own:
            own["folder"] = Path(own["folder"])
        principal = own.pop("as", "")
        return Call(operation=self._operation, arguments=arguments, principal=principal, more=self._more, **own)

    def _word(self, word: str) -> None:
        if self._operation:
            hint = f"see `assent do {self._operation} --help`; a program and its arguments stand after `--`"
            raise _usage(f"`{word[:80]}` is not an option", hint)
        self._operation = word
        self._contract = self._contracts.get(word)
        if self._contract is None:
            raise unknown_operation(word, self._contracts)

    def _option(self, name: str, value: str | None) -> None:
        if name in _OWN_FLAGS and value is None:
            self._own[name] = True
        elif name in _OWN_TEXTS:
            if name in self._own:
                raise _twice(name)
            self._own[name] = self._value(name, value)
            if name == "emergency" and not str(self._own[name]).strip():
                raise _usage("`--emergency` says nothing", "say why it cannot wait: somebody looks at it afterwards")
        elif name in self._more:
            self._more[name].append(self._value(name, value))
        elif self._contract is None:
            raise _usage(f"`--{name[:80]}` stands before any operation", "write `assent do OPERATION --name value`")
        else:
            self._argument(self._contract, name, value)

    def _value(self, name: str, value: str | None) -> str:
        """The value of an option: after its `=`, or the next word, whatever that looks like."""
        if value is not None:
            return value
        if not self._words or self._words[-1] == "--":
            raise _usage(f"`--{name}` needs a value", f"write `--{name} VALUE`")
        return self._words.pop()

    def _argument(self, contract: OperationContract, name: str, value: str | None) -> None:
        argument, truth = _named(contract, name.replace("-", "_"))
        if argument is None:
            raise _unknown(contract, name)
        key, given = argument.name, self._given
        match argument.kind:
            case "text":
                _once(given, key, self._value(name, value))
            case "integer":
                _once(given, key, _integer(name, self._value(name, value)))
            case "number":
                _once(given, key, _number(name, self._value(name, value)))
            case "json":
                _once(given, key, _json(name, self._value(name, value)))
            case "boolean":
                _once(given, key, truth if value is None else _boolean(name, value))
            case "texts":
                given.setdefault(key, []).append(self._value(name, value))
            case "map":
                _pair(given.setdefault(key, {}), name, self._value(name, value))

    def _with_tail(self, tail: list[str]) -> dict[str, Any]:
        lists = [a.name for a in self._contract.arguments if a.kind == "texts"] if self._contract else []
        if len(lists) != 1:
            raise _usage(f"`{self._operation}` takes no words after `--`", "write its arguments as `--name value`")
        if lists[0] in self._given:
            raise _twice(lists[0])
        return {**self._given, lists[0]: tail}


def _named(contract: OperationContract, name: str) -> tuple[Argument | None, bool]:
    """The argument that `name` names, and whether it is meant as true (`no_…` for false)."""
    known = {argument.name: argument for argument in contract.arguments}
    several = {a.name.removesuffix("s"): a for a in contract.arguments if a.kind in ("texts", "map")}
    found = known.get(name) or several.get(name)
    if found is None and name.startswith("no_"):
        denied = known.get(name[3:])
        return (denied, False) if denied is not None and denied.kind == "boolean" else (None, True)
    return found, True


def _once(given: dict[str, Any], key: str, value: object) -> None:
    if key in given:
        raise _twice(key)
    given[key] = value


def _pair(given: dict[str, str], name: str, text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise _usage(f"`--{name} {text[:80]}` is not `key=value`", f"write `--{name} key=value`")
    if key in given:
        raise _twice(f"{name} {key[:80]}")
    given[key] = value


def _integer(name: str, text: str) -> int:
    try:
        return int(text) if text.isascii() and len(text) <= 20 else int("")
    except ValueError as error:
        raise _usage(f"`--{name} {text[:40]}` is not a whole number", f"write `--{name} 10`") from error


def _number(name: str, text: str) -> float:
    found = _json(name, text)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _usage(f"`--{name} {text[:40]}` is not a number", f"write `--{name} 1.5`")
    return found


def _json(name: str, text: str) -> Json:
    try:
        return parse(text.encode(), bytes_max=ARGUMENTS_BYTES_MAX)
    except Malformed as malformed:
        hint = f"""write `--{name} '{{"a": 1}}'`; a text stands in quotes of its own"""
        raise _usage(f"`--{name}` is not JSON: {malformed.message}", hint) from malformed


def _boolean(name: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise _usage(f"`--{name}={text[:40]}` is neither true nor false", f"write `--{name}` or `--no-{name}`")


def _unpacked(packed: str, read: Callable[[str], bytes]) -> dict[str, Any]:
    data = read(packed[1:]) if packed.startswith("@") else packed.encode()
    if len(data) > ARGUMENTS_BYTES_MAX:
        raise _usage(f"the arguments are larger than {ARGUMENTS_BYTES_MAX} bytes", "split the call")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _usage(
            f"`--arguments` is not JSON: {str(error)[:200]}", """write `--arguments '{"path": "a"}'`"""
        ) from error
    if not isinstance(found, dict):
        raise _usage("`--arguments` is not a JSON object", """write `--arguments '{"path": "a"}'`""")
    return found


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unknown(contract: OperationContract, name: str) -> Malformed:
    names: Iterable[str] = [option(argument) for argument in contract.arguments]
    near = difflib.get_close_matches(f"--{name}", list(names), n=1)
    told = f"did you mean `{near[0]}`? " if near else f"it takes {', '.join(names)}; "
    return _usage(f"`{contract.name}` takes no `--{name[:80]}`", f"{told}see `assent do {contract.name} --help`")


def _twice(name: str) -> Malformed:
    return _usage(f"`--{name}` is given twice", "give it once")


def _usage(message: str, hint: str) -> Malformed:
    return Malformed("usage", message, hint=hint)
