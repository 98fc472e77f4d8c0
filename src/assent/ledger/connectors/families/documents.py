"""Documents from strangers: JSON or YAML, read under bounds into plain JSON values. Pure.

YAML can make much of little: an alias stands for a whole tree, a tag for an object. So tags other than JSON's own kinds
are refused, plain words are read as YAML 1.2 reads them (`no` is a text), keys must be unique, and the tree is copied
under a count that aliases do not escape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from assent.primitives.canonical import DEPTH_MAX, Json, canonical, parse
from assent.primitives.errors import Malformed, Unavailable

DOCUMENT_BYTES_MAX = 16_777_216
YAML_BYTES_MAX = 4_194_304
NODES_MAX = 1_000_000
POINTER_STEPS_MAX = 32
CHAIN_MAX = 16

_YAML_INTEGER = r"^[-+]?(?:0|[1-9][0-9]*|0o[0-7]+|0x[0-9a-fA-F]+)$"
_YAML_FLOAT = r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"


def read_document(data: bytes) -> dict[str, Json]:
    """The object that `data` spells, as JSON when it begins like JSON, else as YAML.

    Raises:
        Malformed: `document_malformed`: it is neither, too large, or no object.
        Unavailable: `yaml_missing`: it is YAML and the library for it is not installed.
    """
    if len(data) > DOCUMENT_BYTES_MAX:
        raise _malformed(f"it has {len(data)} bytes, and the limit is {DOCUMENT_BYTES_MAX}")
    try:
        found = parse(data, bytes_max=DOCUMENT_BYTES_MAX) if data.lstrip()[:1] in (b"{", b"[") else _yaml(data)
    except Malformed as malformed:
        raise malformed if malformed.code == "document_malformed" else _malformed(str(malformed)) from malformed
    if not isinstance(found, dict):
        raise _malformed("it is no object")
    return found


class Pointers:
    """Finds what a `$ref` means, inside one document only."""

    def __init__(self, document: dict[str, Json]) -> None:
        self._document = document

    def find(self, reference: object) -> Json:
        """What `reference` leads to, or None: nothing, or another document.

        References to references are followed, at most `CHAIN_MAX` of them; a circle leads nowhere.
        """
        for _ in range(CHAIN_MAX):
            found = self._one(reference)
            if not isinstance(found, dict) or "$ref" not in found:
                return found
            reference = found["$ref"]
        return None

    def resolved(self, value: Json) -> dict[str, Json]:
        """`value`, or what it refers to; an empty object when that is none."""
        if isinstance(value, dict) and "$ref" in value:
            value = self.find(value["$ref"])
        return value if isinstance(value, dict) else {}

    def _one(self, reference: object) -> Json:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            return None
        steps = reference.split("/")[1:]
        found: Json = self._document
        if len(steps) > POINTER_STEPS_MAX:
            return None
        for step in steps:
            name = step.replace("%7B", "{").replace("%7D", "}").replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(name)
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        return found


def _yaml(data: bytes) -> Json:
    if len(data) > YAML_BYTES_MAX:
        raise _malformed(f"it is YAML of {len(data)} bytes, and the limit is {YAML_BYTES_MAX}; convert it to JSON")
    try:
        import yaml  # noqa: PLC0415 (an extra: JSON needs nothing)
    except ImportError as error:
        raise Unavailable(
            "yaml_missing", "this is YAML, and nothing here reads YAML", hint="install `assent[openapi]`, or use JSON"
        ) from error
    try:
        text = data.decode()
        found = yaml.load(text, Loader=_loader(yaml))  # noqa: S506 (a loader that makes JSON values only)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        at = f" in line {place.line + 1}" if place is not None else ""
        why = getattr(error, "problem", None) or type(error).__name__
        raise _malformed(f"it is neither JSON nor YAML that is taken here{at}: {str(why)[:120]}") from error
    plain = _plain(found, iter(range(NODES_MAX)), 0)
    canonical(plain)
    return plain


def _loader(yaml: Any) -> Any:  # noqa: ANN401 (the module, when it is there)
    """A loader for JSON's kinds: no other tags, no repeated keys, no numbers that count in sixties."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
            keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
            if len(set(keys)) < len(keys):
                raise yaml.constructor.ConstructorError(None, None, "a key is there twice", node.start_mark)
            return super().construct_mapping(node, deep=deep)

    import re  # noqa: PLC0415 (with the library)

    for tag, pattern, first in (
        ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
        ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
        ("tag:yaml.org,2002:int", _YAML_INTEGER, list("-+0123456789")),
        ("tag:yaml.org,2002:float", _YAML_FLOAT, list("-+.0123456789")),
    ):
        Loader.add_implicit_resolver(tag, re.compile(pattern), first)
    return Loader


def _plain(value: object, budget: Iterator[int], depth: int) -> Json:
    """A copy in JSON's kinds. Every visit counts, so a tree behind an alias counts as often as it is meant."""
    if next(budget, None) is None:
        raise _malformed(f"it stands for more than {NODES_MAX} values")
    if depth > DEPTH_MAX:
        raise _malformed(f"it nests deeper than {DEPTH_MAX} levels, or in a circle")
    if isinstance(value, dict):
        return {_key(key): _plain(found, budget, depth + 1) for key, found in value.items()}
    if isinstance(value, list):
        return [_plain(found, budget, depth + 1) for found in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise _malformed(f"it holds a `{type(value).__name__[:40]}`, which JSON does not have")


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)  # `200:` among responses
    raise _malformed("a key is not a text")


def _malformed(why: str) -> Malformed:
    return Malformed("document_malformed", f"the description cannot be used: {why}")
