r"""Regular expressions from strangers, matched in time that grows with the text and not with its square or worse. Pure.

The patterns of JSON Schema come with somebody's document, and a backtracking matcher can be made to think for years by
thirty characters. So they are not handed to one: a pattern is compiled to a machine without memory (Thompson's
construction) whose states are all followed at the same time, and each character is looked at once.

The grammar is the part of ECMA 262 that such a machine can decide, which is what schemas use: characters and escapes
(`\d \w \s \D \W \S \t \n \r \f \v \xHH \uHHHH`), `.`, classes, groups, `|`, `* + ?` and `{m,n}` (lazy or not is one
here), and the anchors `^` and `$`. Look-around, back references and word boundaries are refused when a pattern is read.
As in JSON Schema a pattern may match anywhere in the text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from assent.primitives.errors import Malformed

PATTERN_CHARS_MAX = 1_000
STATES_MAX = 2_000
REPEATS_MAX = 1_000
STEPS_MAX = 2_000_000
_KNOWN_MAX = 4_096

_COUNTED = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")
_HEX = {"x": 2, "u": 4}
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_SPACES = frozenset(
    "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
)


class _Set(NamedTuple):
    """Some characters: ranges of code points, and whether they are the ones that are not meant."""

    ranges: tuple[tuple[int, int], ...]
    inverted: bool = False

    def holds(self, char: str) -> bool:
        code = ord(char)
        return any(low <= code <= high for low, high in self.ranges) is not self.inverted


_DIGITS = _Set(((48, 57),))
_WORDS = _Set(((48, 57), (65, 90), (95, 95), (97, 122)))
_BLANKS = _Set(tuple((ord(c), ord(c)) for c in sorted(_SPACES)))
_NOT_ENDS = _Set(tuple((ord(c), ord(c)) for c in "\n\r\u2028\u2029"), inverted=True)
_NAMED = {"d": _DIGITS, "w": _WORDS, "s": _BLANKS}
_START, _END = "start", "end"


class _State:
    """One state: what it takes (a set, an anchor, or nothing), and where it leads."""

    __slots__ = ("takes", "to")

    def __init__(self, takes: _Set | str | None = None) -> None:
        self.takes = takes
        self.to: list[int] = []


class Pattern:
    """One compiled pattern.

    Raises:
        Malformed: `pattern_refused`: it is none in this grammar, or too large.
    """

    def __init__(self, text: str) -> None:
        self._states: list[_State] = []
        if len(text) > PATTERN_CHARS_MAX:
            raise _refused(f"it is longer than {PATTERN_CHARS_MAX} characters")
        reader = _Reader(text, self._states)
        self._first, self._last = reader.read()
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def matches(self, text: str) -> bool:
        """Whether it matches anywhere in `text`.

        Raises:
            Malformed: `pattern_refused`: `text` is too long to be looked at with this pattern.
        """
        if len(text) * len(self._states) > STEPS_MAX:
            raise _refused("the text is too long to be compared with it")
        now = self._closure({self._first}, at_start=True, at_end=not text)
        for place, char in enumerate(text, 1):
            if self._last in now:
                return True
            now = self._after(now, char, at_end=place == len(text))
        return self._last in now

    def _after(self, now: frozenset[int], char: str, *, at_end: bool) -> frozenset[int]:
        known = None if at_end else self._known.get((now, char))
        if known is not None:
            return known
        taken = {self._first}  # it may also begin here
        for state in now:
            takes = self._states[state].takes
            if isinstance(takes, _Set) and takes.holds(char):
                taken.update(self._states[state].to)
        found = self._closure(taken, at_start=False, at_end=at_end)
        if not at_end and len(self._known) < _KNOWN_MAX:
            self._known[now, char] = found
        return found

    def _closure(self, states: set[int], *, at_start: bool, at_end: bool) -> frozenset[int]:
        """`states` with all that can be reached from them without taking a character."""
        todo, seen = list(states), set(states)
        while todo:
            state = self._states[todo.pop()]
            open_ = state.takes is None or (state.takes == _START and at_start) or (state.takes == _END and at_end)
            for after in state.to if open_ else ():
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return frozenset(seen)


@lru_cache(maxsize=256)
def read_pattern(text: str) -> Pattern:
    """The pattern that `text` spells. What it learns while it matches changes no answer, so it may be shared.

    Raises:
        Malformed: `pattern_refused`.
    """
    return Pattern(text)


class _Reader:
    """Reads a pattern into states, by recursive descent; each part is a first and a last state."""

    def __init__(self, text: str, states: list[_State]) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._states = states

    def read(self) -> tuple[int, int]:
        part = self._choice()
        if self._at < len(self._text):
            raise _refused("a `)` closes nothing")
        return part

    def _state(self, takes: _Set | str | None = None) -> int:
        if len(self._states) >= STATES_MAX:
            raise _refused(f"it has more than {STATES_MAX} states")
        self._states.append(_State(takes))
        return len(self._states) - 1

    def _join(self, *pairs: tuple[int, int]) -> None:
        for before, after in pairs:
            self._states[before].to.append(after)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise _refused("it ends too early")
        self._at += 1
        return char

    def _choice(self) -> tuple[int, int]:
        first, last = self._state(), self._state()
        while True:
            one = self._sequence()
            self._join((first, one[0]), (one[1], last))
            if self._peek() != "|":
                return first, last
            self._at += 1

    def _sequence(self) -> tuple[int, int]:
        first = last = self._state()
        while self._peek() not in ("", "|", ")"):
            part = self._repeated()
            self._join((last, part[0]))
            last = part[1]
        return first, last

    def _repeated(self) -> tuple[int, int]:
        begins = self._at
        part = self._atom()
        ends = self._at
        least, most = self._amount()
        if (least, most) == (1, 1):
            return part
        first = last = self._state()
        for count in range(least if most is None else most):
            one = part if count == 0 else self._again(begins, ends)
            self._join((last, one[0]))
            if count >= least:
                skipped = self._state()
                self._join((last, skipped), (one[1], skipped))
                last = skipped
            else:
                last = one[1]
        if most is None:
            one = self._again(begins, ends) if least else part
            after = self._state()
            self._join((last, one[0]), (one[1], one[0]), (one[1], after), (last, after))
            last = after
        return first, last

    def _again(self, begins: int, ends: int) -> tuple[int, int]:
        """The same atom once more, in states of its own."""
        kept, self._at = self._at, begins
        part = self._atom()
        assert self._at == ends, "an atom is read alike each time"
        self._at = kept
        return part

    def _amount(self) -> tuple[int, int | None]:
        found: tuple[int, int | None] = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek(), (1, 1))
        counted = _COUNTED.match(self._text, self._at)
        if counted:
            self._at = counted.end()
            least = int(counted[1])
            found = (least, least) if not counted[2] else (least, int(counted[3]) if counted[3] else None)
        elif found != (1, 1):
            self._at += 1
        else:
            return found
        if self._peek() == "?":
            self._at += 1
        if self._peek() in ("*", "+", "?") or max(found[0], found[1] or 0) > REPEATS_MAX:
            raise _refused("it repeats a repetition, or too often")
        if found[1] is not None and found[1] < found[0]:
            raise _refused("it repeats at most less often than at least")
        return found

    def _atom(self) -> tuple[int, int]:
        char = self._next()
        if char == "(":
            return self._group()
        if char in "*+?":
            raise _refused(f"`{char}` repeats nothing")
        takes: _Set | str = _one(char)
        if char in "^$":
            takes = _START if char == "^" else _END
        elif char == ".":
            takes = _NOT_ENDS
        elif char == "[":
            takes = self._class()
        elif char == "\\":
            takes = self._escape()
        first, last = self._state(takes), self._state()
        self._join((first, last))
        return first, last

    def _group(self) -> tuple[int, int]:
        self._depth += 1
        if self._depth > 50:
            raise _refused("it nests too deeply")
        if self._peek() == "?":
            self._at += 1
            if self._next() != ":":
                raise _refused("it looks around itself")
        part = self._choice()
        if self._next() != ")":
            raise _refused("a `(` is not closed")
        self._depth -= 1
        return part

    def _class(self) -> _Set:
        inverted = self._peek() == "^"
        self._at += inverted
        ranges: list[tuple[int, int]] = []
        while (char := self._next()) != "]":
            found = self._escape(inside=True) if char == "\\" else _one(char)
            if found.inverted or len(found.ranges) > 1 or found.ranges[0][0] != found.ranges[0][1]:
                ranges += _outside(found)
                continue
            low = high = found.ranges[0][0]
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                char = self._next()
                ends = self._escape(inside=True) if char == "\\" else _one(char)
                if ends.inverted or len(ends.ranges) > 1 or ends.ranges[0][0] != ends.ranges[0][1]:
                    raise _refused("a range ends with a class")
                high = ends.ranges[0][0]
            if high < low:
                raise _refused("a range runs backwards")
            ranges.append((low, high))
        return _Set(tuple(ranges), inverted)

    def _escape(self, *, inside: bool = False) -> _Set:
        char = self._next()
        if char.lower() in _NAMED:
            found = _NAMED[char.lower()]
            return found if char.islower() else _Set(found.ranges, inverted=True)
        if char in _HEX:
            digits = self._text[self._at : self._at + _HEX[char]]
            if not re.fullmatch(r"[0-9A-Fa-f]+", digits) or len(digits) < _HEX[char]:
                raise _refused(f"`\\{char}` is not followed by {_HEX[char]} hex digits")
            self._at += len(digits)
            return _one(chr(int(digits, 16)))
        if char in _CONTROL:
            return _one(_CONTROL[char])
        if inside and char == "b":
            return _one("\b")
        if char.isalnum():
            raise _refused(f"`\\{char}` is not understood")
        return _one(char)


def _one(char: str) -> _Set:
    return _Set(((ord(char), ord(char)),))


def _outside(found: _Set) -> list[tuple[int, int]]:
    """The ranges of a set, turned round when it is inverted."""
    if not found.inverted:
        return list(found.ranges)
    ranges, start = [], 0
    for low, high in sorted(found.ranges):
        if low > start:
            ranges.append((start, low - 1))
        start = max(start, high + 1)
    return [*ranges, (start, 0x10FFFF)]


def _refused(why: str) -> Malformed:
    return Malformed("pattern_refused", f"a pattern cannot be used: {why}")
