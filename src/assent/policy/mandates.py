"""Mandates: what a request permits, fixed before anything untrusted is read. Pure.

A mandate is a list of allowances, written as people write calls:

    files.write path=reports/*
    mail.send to=ann@example.com to=bob@example.com x2
    http.* url=https://api.example.com/*
    -reads                        (not even looking is permitted beyond what is listed)

A call is within a mandate when one of its allowances covers it: its operation matches, every constrained argument
matches one of that argument's patterns, and the allowance is not used up. Several mandates may hold at once (the
agent's declared purpose, the person's request, who handed work on): a call is within them when it is within each. So
whatever comes later can only narrow; to go beyond one takes a person's approval of that very call.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from assent.ledger.contracts import EffectClass, OperationContract
from assent.primitives.errors import Malformed

ALLOWANCES_MAX = 200
PATTERN_CHARACTERS_MAX = 1_000
TIMES_MAX = 1_000_000
NO_READS = "-reads"
OWN = "assistant"
"""The connector of what an agent does with its own work. It touches nothing else, so every mandate permits it."""
HANDS_ON = frozenset({"assistant.delegate", "assistant.hand_off"})

_OPERATION = re.compile(r"[a-z0-9*][a-z0-9_*-]*(\.[a-z0-9_*-]+)*\Z", re.IGNORECASE)
_LEADS_OUT = re.compile(r"(^|[/\\])\.\.([/\\]|\Z)|%2e|%2f|%5c", re.IGNORECASE)
_TIMES = re.compile(r"x(\d{1,7})\Z")


class Allowance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Calls that are permitted. `where` are patterns for arguments: one of an argument's must match the whole value, in
    which `*` stands for any text. `times` is how many of them (0: any number)."""

    operation: str
    where: dict[str, tuple[str, ...]] = {}
    times: int = 0

    def names(self, operation: str) -> bool:
        """Whether it is about an operation at all, with some arguments."""
        return _matches(self.operation, operation)

    def covers(self, operation: str, arguments: Mapping[str, Any]) -> bool:
        """Whether a call is of this kind, however often there was one."""
        return self.names(operation) and all(
            _all_match(patterns, arguments.get(name)) for name, patterns in self.where.items()
        )

    def __str__(self) -> str:
        where = [f"{name}={shlex.quote(one)}" for name, patterns in self.where.items() for one in patterns]
        return " ".join([self.operation, *where, *([f"x{self.times}"] if self.times else [])])


class Mandate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What somebody asked for. `by` says whose mandate it is. With `reads` whatever reads and reaches no host is within
    it. `until_ms` is when it ends (0: with the work)."""

    by: str
    allowances: tuple[Allowance, ...]
    reads: bool = True
    until_ms: int = 0


Used = Sequence[tuple[str, Mapping[str, Any]]]
"""The calls that were let through before: operation and arguments of each."""


def read_mandate(lines: Iterable[str], *, by: str) -> Mandate:
    """Read a mandate as people write it.

    Raises:
        Malformed: `mandate_malformed`, naming every line that cannot be read.
    """
    allowances: list[Allowance] = []
    faults: list[str] = []
    reads = True
    for line in lines:
        if line.strip() == NO_READS:
            reads = False
            continue
        try:
            allowances.append(_allowance(line))
        except ValueError as error:
            faults.append(f"`{line[:120]}`: {error}")
    if len(allowances) > ALLOWANCES_MAX:
        faults.append(f"there are more than {ALLOWANCES_MAX} lines")
    if faults:
        raise Malformed(
            "mandate_malformed", "a mandate cannot be read: " + "; ".join(faults),
            hint="write lines such as `files.write path=reports/* x3`",
        )  # fmt: skip
    return Mandate(by=by, allowances=tuple(allowances), reads=reads)


def beyond(
    mandates: Iterable[Mandate],
    contract: OperationContract,
    arguments: Mapping[str, Any],
    *,
    used: Used = (),
    now_ms: int = 0,
) -> str:
    """In what a call goes beyond what was asked for, as a sentence; empty when it does not."""
    for mandate in mandates:
        why = _beyond(mandate, contract, arguments, used, now_ms)
        if why:
            return why
    return ""


def _beyond(
    mandate: Mandate, contract: OperationContract, arguments: Mapping[str, Any], used: Used, now_ms: int
) -> str:
    name = contract.name
    if contract.connector == OWN and name not in HANDS_ON:
        return ""
    if mandate.until_ms and now_ms >= mandate.until_ms:
        return f"what {mandate.by} permits has ended"
    if mandate.reads and contract.effect is EffectClass.READ and not contract.reaches_hosts:
        return ""
    fitting = [one for one in mandate.allowances if one.covers(name, arguments)]
    if not fitting:
        near = [str(one) for one in mandate.allowances if _matches(one.operation, name)]
        told = f"only as {' or '.join(f'`{one}`' for one in near[:3])}" if near else f"no `{name}` at all"
        return f"{mandate.by} permits {told}"
    if all(one.times and _count(one, used) >= one.times for one in fitting):
        return f"{mandate.by} permits `{fitting[0]}`, and that is used up"
    return ""


def _count(allowance: Allowance, used: Used) -> int:
    return sum(allowance.covers(operation, arguments) for operation, arguments in used)


def _allowance(line: str) -> Allowance:
    """Raises ValueError, with what is wrong."""
    operation, *rest = shlex.split(line) or [""]
    if not _OPERATION.match(operation):
        raise ValueError("it does not begin with an operation")
    where: dict[str, tuple[str, ...]] = {}
    times = 0
    for word in rest:
        counted = _TIMES.match(word)
        name, equals, pattern = word.partition("=")
        if counted:
            times = int(counted[1])
            if not 0 < times <= TIMES_MAX:
                raise ValueError(f"`{word}` is no number of times")
        elif not equals or not name or len(pattern) > PATTERN_CHARACTERS_MAX:
            raise ValueError(f"`{word[:80]}` is neither `argument=pattern` nor `x3`")
        else:
            where[name] = (*where.get(name, ()), pattern)
    return Allowance(operation=operation, where=where, times=times)


def _all_match(patterns: tuple[str, ...], value: Any) -> bool:  # noqa: ANN401 (a JSON value)
    """Whether a value is one of what the patterns say; a list is when every item is."""
    match value:
        case None:
            return False
        case bool():
            return str(value).lower() in patterns
        case str() | int() | float():
            return any(_matches(pattern, str(value)) for pattern in patterns if "*" not in pattern or _stays(value))
        case list() | tuple():
            return bool(value) and all(_all_match(patterns, one) for one in value)
        case _:
            return False


def _stays(value: object) -> bool:
    """Whether a value cannot lead out of where a pattern says that it is: `reports/../x` is not among `reports/*`."""
    return not _LEADS_OUT.search(str(value))


def _matches(pattern: str, text: str) -> bool:
    """Whether all of `text` is what `pattern` says. Time is linear in the text for every piece."""
    first, *pieces = pattern.split("*")
    if not pieces:
        return text == pattern
    if not text.startswith(first):
        return False
    place = len(first)
    last = pieces.pop()
    for piece in pieces:
        found = text.find(piece, place)
        if found < 0:
            return False
        place = found + len(piece)
    return len(text) - place >= len(last) and text.endswith(last)
