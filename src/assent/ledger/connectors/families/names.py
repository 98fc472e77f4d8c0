"""Names for what was made from a description: of connectors, operations and arguments. Pure.

A name stands in rules, in the log and on command lines, so two names must not look alike. They are ASCII, and no two of
one connector differ only in case. What a description calls something else is named anew where that can be done without
guessing, and left out where it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from assent.primitives.errors import Malformed

CONNECTOR_CHARS_MAX = 32
OPERATION_CHARS_MAX = 80
ARGUMENT_CHARS_MAX = 60
TEXT_CHARS_MAX = 300

_CONNECTOR = re.compile(rf"[a-z](?:[a-z0-9-]{{0,{CONNECTOR_CHARS_MAX - 2}}}[a-z0-9])?\Z")
_OPERATION = re.compile(rf"[A-Za-z][A-Za-z0-9_-]{{0,{OPERATION_CHARS_MAX - 1}}}\Z")
_ARGUMENT = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{ARGUMENT_CHARS_MAX - 1}}}\Z")
_OTHER = re.compile(r"[^A-Za-z0-9]+")
# What `assent do` takes itself: an argument of that name could not be given there.
RESERVED_ARGUMENTS = frozenset({"as", "run", "key", "folder", "arguments", "wait", "raw", "json", "help"})


def check_connector(name: str, *, taken: Collection[str] = ()) -> str:
    """Return `name` when a connector may have it.

    Raises:
        Malformed: `connector_name`: it is malformed, or belongs to a connector that comes with Assent.
    """
    if not _CONNECTOR.match(name):
        raise Malformed(
            "connector_name",
            f"`{name[:80]!a}` cannot be the name of a connector".replace("`'", "`").replace("'`", "`"),
            hint=f"use 1 to {CONNECTOR_CHARS_MAX} of `a-z`, `0-9` and `-`, a letter first",
        )
    if name in taken:
        raise Malformed("connector_name", f"`{name}` is a connector that comes with Assent", hint="choose another name")
    return name


def is_operation(name: str) -> bool:
    """Whether `name` can stand after the dot."""
    return _OPERATION.match(name) is not None


def is_argument(name: str) -> bool:
    """Whether an argument may be called `name`."""
    return _ARGUMENT.match(name) is not None and name not in RESERVED_ARGUMENTS


def operation_name(*wishes: str) -> str:
    """The first wish that can be a name, its foreign characters replaced; empty when none can.

    Only ASCII is taken: a letter of another script may look like one of these.
    """
    for wish in wishes:
        if not wish.isascii():
            continue
        name = _OTHER.sub("_", wish.replace("-", "_")).strip("_")[:OPERATION_CHARS_MAX].rstrip("_")
        if is_operation(name):
            return name
    return ""


def argument_names(wishes: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A name for each (place, wire name): distinct without regard to case, and none that a command line takes itself.

    What cannot be named is left out of the answer.
    """
    found: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    for place, wire in wishes:
        plain = _OTHER.sub("_", wire).strip("_") if wire.isascii() else ""
        for name in (plain, f"{place}_{plain}", f"its_{plain}"):
            short = name[:ARGUMENT_CHARS_MAX].rstrip("_")
            if plain and is_argument(short) and short.lower() not in taken:
                taken.add(short.lower())
                found[place, wire] = short
                break
    return found


def distinct(names: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """A distinct name for each thing: from `names`, or from `other` where two things of `names` would share one.

    Sameness is without regard to case. What cannot be told apart in either way is left out.
    """
    first = _shared(names.values())
    chosen = {thing: name if name.lower() not in first else other.get(thing, "") for thing, name in names.items()}
    second = _shared(chosen.values())
    return {thing: name for thing, name in chosen.items() if name and name.lower() not in second}


def told(text: object, *, chars_max: int = TEXT_CHARS_MAX) -> str:
    """A description's text in one line of bounded length; empty when it is none."""
    if not isinstance(text, str):
        return ""
    line = " ".join(text[: 4 * chars_max].split())
    return line if len(line) <= chars_max else line[: chars_max - 1] + "…"


def _shared(names: Iterable[str]) -> frozenset[str]:
    seen: set[str] = set()
    twice: set[str] = set()
    for name in names:
        key = name.lower()
        (twice if key in seen else seen).add(key)
    return frozenset(twice)
