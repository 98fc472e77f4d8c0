"""GraphQL schemas as text (the type system language), read into what an introspection would have given. Pure.

Of the language only what makes operations is kept: types, fields, arguments, enums, inputs, unions and descriptions.
Directives are skipped, wherever they stand. Extensions are added to what they extend.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any, NamedTuple, NoReturn

from assent.primitives.canonical import Json
from assent.primitives.errors import Malformed

SDL_BYTES_MAX = 4_194_304
TOKENS_MAX = 1_000_000
DEPTH_MAX = 32

_TOKEN = re.compile(
    r"""(?P<skip>[\s,\ufeff]+|\#[^\n]*)
      | (?P<block>\"\"\"(?:[^"\\]|\\.|"(?!""))*\"\"\")
      | (?P<text>"(?:[^"\\\n]|\\.)*")
      | (?P<name>[_A-Za-z][_0-9A-Za-z]*)
      | (?P<number>-?[0-9][0-9.eE+-]*)
      | (?P<mark>\.\.\.|[!$&()\[\]{}:=|@])""",
    re.VERBOSE | re.DOTALL,
)
_KINDS = {"type": "OBJECT", "interface": "INTERFACE", "input": "INPUT_OBJECT", "enum": "ENUM", "union": "UNION",
          "scalar": "SCALAR"}  # fmt: skip
_WORDS = frozenset({"block", "text"})


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def read_sdl(data: bytes) -> dict[str, Json]:
    """The schema as an introspection's result.

    Raises:
        Malformed: `document_malformed`, with the line.
    """
    if len(data) > SDL_BYTES_MAX:
        raise _malformed(f"it is larger than {SDL_BYTES_MAX} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8") from error
    return _Reader(_tokens(text)).schema()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(found) > TOKENS_MAX:
            raise _malformed(f"line {line}: {text[at : at + 20]!a} is not of the type system language")
        if match.lastgroup != "skip":
            found.append(_Token(match.lastgroup or "", match.group(), line))
        line += match.group().count("\n")
        at = match.end()
    return [*found, _Token("end", "", line)]


class _Reader:
    """Reads definitions one after the other."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._roots = {"query": "Query", "mutation": "Mutation"}
        self._types: dict[str, dict[str, Any]] = {}

    def schema(self) -> dict[str, Json]:
        while self._now.kind != "end":
            described = self._description()
            self._took("extend")
            word = self._name()
            if word in _KINDS:
                self._type(_KINDS[word], described)
            elif word == "schema":
                self._directives()
                self._roots |= {f["name"]: f["type"]["name"] for f in self._fields()} if self._now.text == "{" else {}
            elif word == "directive":
                self._skip_directive()
            else:
                self._wrong(f"`{word[:40]}` begins no definition")
        found: dict[str, Any] = {"types": list(self._types.values())}
        for kind in ("query", "mutation"):
            found[f"{kind}Type"] = {"name": self._roots[kind]} if self._roots[kind] in self._types else None
        return {"__schema": found}

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _took(self, text: str) -> bool:
        if self._now.text != text or self._now.kind in _WORDS:
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._took(text):
            self._wrong(f"`{text}` is expected")

    def _name(self) -> str:
        if self._now.kind != "name":
            self._wrong("a name is expected")
        self._at += 1
        return self._tokens[self._at - 1].text

    def _description(self) -> str | None:
        token = self._now
        if token.kind not in _WORDS:
            return None
        self._at += 1
        return textwrap.dedent(token.text[3:-3]).strip() if token.kind == "block" else token.text[1:-1]

    def _type(self, kind: str, described: str | None) -> None:
        name = self._name()
        made = self._types.setdefault(name, {"kind": kind, "name": name, "description": described})
        if self._took("implements"):
            self._took("&")
            self._name()
            while self._took("&"):
                self._name()
        self._directives()
        if kind == "UNION" and self._took("="):
            self._took("|")
            self._name()
            while self._took("|"):
                self._name()
        elif self._now.text == "{" and kind == "ENUM":
            made.setdefault("enumValues", []).extend(self._values())
        elif self._now.text == "{":
            made.setdefault("inputFields" if kind == "INPUT_OBJECT" else "fields", []).extend(self._fields())

    def _fields(self, opens: str = "{", closes: str = "}") -> list[dict[str, Any]]:
        self._expect(opens)
        found = []
        while not self._took(closes):
            described, name = self._description(), self._name()
            args = self._fields("(", ")") if self._now.text == "(" and opens == "{" else []
            self._expect(":")
            made = {"name": name, "description": described, "args": args, "type": self._written(0)}
            if self._took("="):
                self._value(0)
                made["defaultValue"] = "given"
            self._directives()
            found.append(made)
        return found

    def _values(self) -> list[dict[str, Any]]:
        self._expect("{")
        found = []
        while not self._took("}"):
            self._description()
            found.append({"name": self._name()})
            self._directives()
        return found

    def _written(self, depth: int) -> dict[str, Any]:
        if depth > DEPTH_MAX:
            self._wrong("a type nests too deeply")
        if self._took("["):
            made: dict[str, Any] = {"kind": "LIST", "ofType": self._written(depth + 1)}
            self._expect("]")
        else:
            made = {"kind": "NAMED", "name": self._name()}
        return {"kind": "NON_NULL", "ofType": made} if self._took("!") else made

    def _directives(self) -> None:
        while self._took("@"):
            self._name()
            if self._took("("):
                while not self._took(")"):
                    self._name()
                    self._expect(":")
                    self._value(0)

    def _value(self, depth: int) -> None:
        if depth > DEPTH_MAX or self._now.kind == "end":
            self._wrong("a value nests too deeply, or does not end")
        if self._took("["):
            while not self._took("]"):
                self._value(depth + 1)
        elif self._took("{"):
            while not self._took("}"):
                self._name()
                self._expect(":")
                self._value(depth + 1)
        elif self._now.kind in ("name", "number", *_WORDS):
            self._at += 1
        else:
            self._wrong("a value is expected")

    def _skip_directive(self) -> None:
        self._expect("@")
        self._name()
        if self._now.text == "(":
            self._fields("(", ")")
        self._took("repeatable")
        self._expect("on")
        self._took("|")
        self._name()
        while self._took("|"):
            self._name()

    def _wrong(self, why: str) -> NoReturn:
        raise _malformed(f"line {self._now.line}: {why}, and {self._now.text[:20]!a} stands there")


def _malformed(why: str) -> Malformed:
    return Malformed("document_malformed", f"the schema cannot be used: {why}")
