"""Flow: what one asker has seen, on whose word, and what of it stands in a call. Pure; nothing is asked of a model.

An asker (a run of an agent, a program that drives one) is told words and observes results. From then on

- its *context* is as weak as the weakest of what it has seen, and only grows weaker;
- an argument that is a *handle* (`ref:NAME#/bills/0/payee`) is replaced by the value in that field of that result, and
  has that field's label;
- an argument that is exactly an id which a declared field of a result held has that field's label;
- a field that a person endorsed in so many words (`endorse ref:NAME#/bills/0/payee`) is on that person's word from then
  on: one value of a result that had been shown by then, and nothing else of it;
- an argument that is exactly something a person named in their own words (an address, a path, a number, a quoted text,
  a name with a dot or a dash) is the person's;
- anything else may be made of whatever was seen, so it has the context's label.

A part of a text is never matched, and what the asker says about its own arguments counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from assent.ledger.contracts import EffectClass, OperationContract, Output
from assent.ledger.operations import Facts
from assent.ledger.provenance import Provenance
from assent.primitives.errors import Malformed
from assent.primitives.labels import STRENGTH, Integrity, Label, joined

HANDLE = re.compile(r"ref:([A-Za-z0-9_-]{1,120})(?:#((?:/[^\s]*)?))?\Z")
# It stands where a sentence begins, so that nobody endorses by saying that they do not.
ENDORSED = re.compile(
    r"(?:^|[.!?;\n])\s*(?:I\s+)?endorse\s+(ref:[A-Za-z0-9_-]{1,120}#/[^\s]*[^\s.,;:!?])", re.IGNORECASE | re.MULTILINE
)
IDS_MAX = 100_000
WORKSPACE = "workspace"
"""The reader that stands for everybody who may read the workspace's files."""
ID_CHARACTERS_MAX = 500
NAMED_MAX = 2_000
WORDS_CHARACTERS_MAX = 1_000_000

_INDEX = re.compile(r"(0|[1-9][0-9]{0,8})\Z")
"""As RFC 6901 writes it: a place has one name, or what is said of it could be missed by another."""
_QUOTES = "\"'`\u201c\u201d\u201e\u2018\u2019"
_QUOTED = re.compile(f"[{_QUOTES}]([^{_QUOTES}\n]{{1,500}})[{_QUOTES}]")
# What names one thing in a sentence: it holds something that plain words do not (a digit, @, /, or a dot, dash,
# underscore or colon inside).
_TOKEN = re.compile(rf"[^\s{_QUOTES}<>(){{}}\[\],;]{{1,500}}")
_TELLING = re.compile(r"[\d@/]|\w[.:_-]\w")


class _Field(NamedTuple):
    """What is known of a field of a result."""

    field: str
    kind: str
    label: Label


class _Seen(NamedTuple):
    """One result: its value, and what is known of its fields."""

    value: Any
    outputs: tuple[_Field, ...]
    rest: Label


class Flow:
    """What one asker has seen. Grows only."""

    def __init__(self) -> None:
        self._context = Label(integrity=Integrity.SYSTEM)
        self._seen: dict[str, _Seen] = {}
        self._known: dict[str, Label] = {}
        self._endorsed: dict[tuple[str, str], Integrity] = {}

    @property
    def context(self) -> Label:
        """The label of everything that was seen."""
        return self._context

    def tell(self, words: str, label: Label, *, shown: Callable[[str], bool] = lambda _: True) -> None:
        """The asker is told these words. What a person names in them counts as named by the person. `shown` says which
        of the results that were seen by now had been when the words were said: nobody endorses what is still to come.
        """
        self.weaken(label)
        if label.integrity in (Integrity.USER, Integrity.SYSTEM):
            for named in named_in(words):
                self._know(named, label)
            for name, pointer in endorsed_in(words):
                if name in self._seen and shown(name):
                    self._endorsed[name, pointer] = label.integrity

    def weaken(self, label: Label) -> None:
        """The asker has seen something of this label."""
        self._context = joined((self._context, label))

    def observe(self, name: str, value: object, outputs: Iterable[Output] = (), *, asked: Label | None = None) -> Label:
        """The asker is shown a result, which it can name as `ref:NAME`; the label of all of it.

        What no output speaks of is a third party's. `asked` is the label of what the asker had seen when it asked
        (by default, of all that it has seen): the result may hold any of that, so nobody else may read it.
        """
        readers = (self._context if asked is None else asked).readers
        known = tuple(_Field(one.field, one.kind, _for(readers, one.label)) for one in outputs)
        root = next((one.label for one in known if not one.field), _for(readers, Label()))
        seen = self._seen[name] = _Seen(value, known, root)
        labels = [root]
        for output in known:
            for found in fields(value, output.field):
                labels.append(output.label)
                if output.kind == "id" and output.field:
                    for text in _texts(found):
                        self._know(text, output.label)
        label = joined(labels) if _has_more(seen) or not known else joined(labels[1:])
        self.weaken(label)
        return label

    def resolve(self, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Label]]:
        """The arguments with every handle replaced by its value, and the labels of those that were one.

        Raises:
            Malformed: `handle_unknown`: there is no such result, or no such field in it.
        """
        found: dict[str, Any] = {}
        labels: dict[str, Label] = {}
        for name, value in arguments.items():
            held: list[Label] = []
            found[name] = self._resolved(value, held)
            if held:
                whole = isinstance(value, str)
                labels[name] = joined(held if whole else (*held, self._of(value)))
        return found, labels

    def provenance(self, arguments: Mapping[str, Any], held: Mapping[str, Label] | None = None) -> Provenance:
        """On whose word these arguments stand. `held` are the labels of those that were handles (`resolve`)."""
        labels = {name: self._of(value) for name, value in arguments.items()} | dict(held or {})
        return Provenance(
            context=self._context, arguments={name: one for name, one in labels.items() if one != self._context}
        )

    def _of(self, value: Any) -> Label:  # noqa: ANN401 (a JSON value)
        """The label of a value that was written out."""
        match value:
            case None | bool():
                return self._context
            case str() | int() | float():
                return self._known.get(str(value), self._context)
            case list() | tuple():
                return joined(map(self._of, value)) if value else self._context
            case dict():
                parts = [one for pair in value.items() for one in pair]
                return joined(map(self._of, parts)) if parts else self._context
            case _:
                return self._context

    def _know(self, text: str, label: Label) -> None:
        if not text or len(text) > ID_CHARACTERS_MAX:
            return
        before = self._known.get(text)
        if before is None and len(self._known) >= IDS_MAX:
            return  # what is not known is judged by the context, which is never better
        if before is None or STRENGTH[label.integrity] > STRENGTH[before.integrity]:
            self._known[text] = label
        elif label.integrity is before.integrity:
            self._known[text] = joined((before, label))

    def _resolved(self, value: Any, held: list[Label]) -> Any:  # noqa: ANN401 (a JSON value)
        match value:
            case str() if match := HANDLE.match(value):
                found, label = self._behind(value, match[1], match[2] or "")
                held.append(label)
                return found
            case list() | tuple():
                return [self._resolved(one, held) for one in value]
            case dict():
                return {key: self._resolved(one, held) for key, one in value.items()}
            case _:
                return value

    def _behind(self, handle: str, name: str, pointer: str) -> tuple[Any, Label]:
        seen = self._seen.get(name)
        if seen is None:
            raise _unknown(handle, f"there is no result `{name[:80]}`")
        if "*" in pointer.split("/"):
            raise _unknown(handle, "a handle names one field")
        found = list(fields(seen.value, pointer))
        if not found:
            raise _unknown(handle, f"the result has no field `{pointer[:80]}`")
        label = joined(_labels_at(seen, pointer))
        vouched = self._endorsed.get((name, pointer), label.integrity)
        if STRENGTH[vouched] > STRENGTH[label.integrity] and not isinstance(found[0], dict | list | tuple):
            label = replace(label, integrity=vouched)  # who may read it stays as it is
        return found[0], label


def has_handle(value: object) -> bool:
    """Whether a handle stands anywhere in a JSON value."""
    match value:
        case str():
            return HANDLE.match(value) is not None
        case list() | tuple():
            return any(map(has_handle, value))
        case dict():
            return any(map(has_handle, value.values()))
        case _:
            return False


def endorsed_in(words: str) -> list[tuple[str, str]]:
    """The fields that a text endorses: of which result, and which field."""
    found = [HANDLE.match(handle) for handle in ENDORSED.findall(words[:WORDS_CHARACTERS_MAX])]
    return [(match[1], match[2]) for match in found if match and "*" not in match[2].split("/")][:NAMED_MAX]


def named_in(words: str) -> list[str]:
    """What a text names: quoted texts, and tokens that no plain word is (addresses, paths, numbers, file names)."""
    words = words[:WORDS_CHARACTERS_MAX]
    found = dict.fromkeys(one.strip() for one in _QUOTED.findall(words))
    for token in _TOKEN.findall(words):
        bare = token.rstrip(".:!?")
        if _TELLING.search(bare):
            found[bare] = None
        if len(found) > NAMED_MAX:
            break
    return list(found)[:NAMED_MAX]


def fields(value: object, pointer: str) -> Iterator[Any]:
    """The values that a pointer names; `*` stands for every item and member."""
    places = [value]
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        places = [inner for place in places for inner in _inside(place, step, key)]
    yield from places


def judged(
    facts: Facts, provenance: Provenance, contract: OperationContract, arguments: Mapping[str, Any], *, person: str
) -> Facts:
    """The facts of a call with what its provenance says. An argument that has its default is nobody's choice. `person`
    is for whom it is done."""
    chosen = [a for a in contract.arguments if a.name in arguments and arguments[a.name] != a.default]
    labels = {a.name: provenance.of(a.name) for a in chosen}
    strength = {name: STRENGTH[label.integrity] for name, label in labels.items()}
    context = STRENGTH[provenance.context.integrity]
    sinks = _sinks(facts, contract, person)
    return replace(
        facts,
        integrity=context,
        authority_integrity=min((strength[a.name] for a in chosen if a.authority), default=context),
        untrusted=tuple(sorted(name for name, one in strength.items() if one == 0)),
        readers_permit=all(_may_read(one, labels.values()) for one in sinks),
        beyond_mandate=bool(provenance.beyond),
    )


def _sinks(facts: Facts, contract: OperationContract, person: str) -> list[str]:
    """Where the arguments of a call go: to a host, before a person's eyes, into files that others read."""
    found = [f"host:{facts.host}"] if facts.host else []
    if contract.tells:
        found.append(person)
    if contract.effect is not EffectClass.READ and not facts.host and facts.path:
        found.append(WORKSPACE)
    return found


def _for(readers: tuple[str, ...] | None, label: Label) -> Label:
    """A label, for no more than these readers."""
    return joined((label, Label(integrity=Integrity.SYSTEM, readers=readers)))


def _may_read(who: str, labels: Iterable[Label]) -> bool:
    return all(label.readers is None or who in label.readers for label in labels)


def _labels_at(seen: _Seen, pointer: str) -> list[Label]:
    """The labels of what stands at a pointer: of the nearest output above it or at it, and of all below it."""
    steps = list(map(_unescaped, pointer.split("/")[1:]))
    above: dict[int, list[Label]] = {-1: [seen.rest]}
    below: list[Label] = []
    for output in seen.outputs:
        theirs = list(map(_unescaped, output.field.split("/")[1:]))
        common = all(a in (b, "*") for a, b in zip(theirs, steps, strict=False))
        if common and len(theirs) <= len(steps):
            above.setdefault(len(theirs), []).append(output.label)
        elif common:
            below.append(output.label)
    return [*above[max(above)], *below]


def _has_more(seen: _Seen) -> bool:
    """Whether a result holds anything that no output with a field speaks of."""
    return bool(_left(seen.value, [one.field.split("/")[1:] for one in seen.outputs if one.field]))


def _left(value: Any, spoken: list[list[str]]) -> bool:  # noqa: ANN401 (a JSON value)
    if any(not steps for steps in spoken):
        return False
    pairs: Iterable[tuple[str, Any]]
    match value:
        case dict() if value:
            pairs = value.items()
        case list() | tuple() if value:
            pairs = ((str(place), one) for place, one in enumerate(value))
        case dict() | list() | tuple() | None:
            return False
        case _:
            return True
    return any(
        _left(inner, [steps[1:] for steps in spoken if steps and _unescaped(steps[0]) in ("*", key)])
        for key, inner in pairs
    )


def _unescaped(step: str) -> str:
    return step if step == "*" else step.replace("~1", "/").replace("~0", "~")


def _inside(place: object, step: str, key: str) -> Iterable[Any]:
    if isinstance(place, dict):
        return place.values() if step == "*" else [place[key]] if key in place else []
    if isinstance(place, list | tuple):
        if step == "*":
            return place
        return [place[int(key)]] if _INDEX.match(key) and int(key) < len(place) else []
    return []


def _texts(value: object) -> Iterator[str]:
    """An id as a call would write it."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        yield str(value)


def _unknown(handle: str, why: str) -> Malformed:
    hint = "name a result you were shown, and a field of it"
    return Malformed("handle_unknown", f"`{handle[:120]}` names nothing: {why}", hint=hint)
