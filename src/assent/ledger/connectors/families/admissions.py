"""Admissions: what a person let in of a description, as it is kept beside the policy. Pure values.

The file has two parts. What was *made* of the description is under a seal: a digest over the name, the source and every
entry; a file whose made part is not what it was when it was sealed is refused whole. What a person *said* about effect
classes stands apart and may be edited: each saying names the operation, the class, who says so, why, and the digest of
the definition it is about. When a definition changes, what was said about the old one is dropped.

The seal tells edits and damage; it is no signature. Whoever may write this folder may also write the policy.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from assent.ledger.connectors.families.entries import OPERATIONS_MAX, Draft, Entry, LeftOut, Source
from assent.ledger.connectors.families.names import check_connector, is_argument, is_operation
from assent.ledger.contracts import EffectClass, OperationContract
from assent.ledger.operations import Operation
from assent.ledger.reviews import is_person
from assent.ledger.schemas import read_schema
from assent.primitives.canonical import canonical
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed, NotFound

FORMAT = 1
FILE_BYTES_MAX = 33_554_432
REASON_CHARS_MAX = 500


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word on the effect class of one definition."""

    effect: EffectClass
    by: str
    reason: str
    definition: Digest
    at_ms: int = 0


class Admission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One connector as it was admitted, by whom. `said` and `definitions` are by operation name, without the
    connector's."""

    format: int
    name: str
    family: str
    by: str
    source: Source
    said: dict[str, Said] = {}
    seal: Digest
    definitions: dict[str, Digest]
    operations: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...] = ()

    def contract(self, entry: Entry) -> OperationContract:
        """The contract that is offered: with the definition's digest, and the effect class that holds."""
        said = self.word_on(entry)
        effect = said.effect if said else entry.contract.effect
        definition = self.definitions[short_name(entry)]
        return msgspec.structs.replace(entry.contract, effect=effect, definition=definition)

    def word_on(self, entry: Entry) -> Said | None:
        """What a person said about this very definition."""
        said = self.said.get(short_name(entry))
        return said if said is not None and said.definition == self.definitions.get(short_name(entry)) else None

    def offered(self) -> tuple[Operation, ...]:
        """Every operation, ready to be asked for."""
        return tuple(entry.operation(contract=self.contract(entry)) for entry in self.operations)

    def entry(self, operation: str) -> Entry:
        """The entry of an operation, by its name with or without the connector's.

        Raises:
            NotFound: `operation_unknown`.
        """
        for entry in self.operations:
            if operation in (entry.name, short_name(entry)):
                return entry
        raise NotFound(
            "operation_unknown", f"`{self.name}` has no operation `{operation[:80]}`",
            hint=f"see `assent connect show {self.name}`",
        )  # fmt: skip


_decode = msgspec.json.Decoder(Admission).decode


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How one operation differs from what was admitted before. `was` and `now` are in words."""

    operation: str
    what: str
    was: str = ""
    now: str = ""


def short_name(entry: Entry) -> str:
    """An operation's name without its connector's."""
    return entry.name.partition(".")[2]


def admit(draft: Draft, *, by: str, before: Admission | None = None) -> Admission:
    """A draft as an admission. What was said before stands where the definition is still the same.

    Raises:
        Malformed: `admission_malformed`.
    """
    definitions = {short_name(entry): entry.definition for entry in draft.entries}
    kept = {n: said for n, said in (before.said if before else {}).items() if definitions.get(n) == said.definition}
    made = Admission(
        format=FORMAT, name=draft.name, family=draft.family, by=by, source=draft.source, said=kept, seal=Digest(""),
        definitions=definitions, operations=draft.entries, left_out=draft.left_out,
    )  # fmt: skip
    sealed = msgspec.structs.replace(made, seal=seal_of(made))
    _check(sealed)
    return sealed


def say(admission: Admission, entry: Entry, said: Said) -> Admission:
    """The admission with a person's word on an entry.

    Raises:
        Malformed: `said_malformed`.
    """
    told = msgspec.structs.replace(admission, said={**admission.said, short_name(entry): said})
    _check_said(told)
    return told


def seal_of(admission: Admission) -> Digest:
    """The digest over everything that was made; the entries are in it by their definitions."""
    made = msgspec.structs.replace(admission, said={}, seal=Digest(""), operations=())
    return digest(canonical(msgspec.to_builtins(made)))


def changes(before: Admission | None, after: Admission) -> list[Change]:
    """What differs between two admissions, in words; nothing when there was none before."""
    if before is None:
        return []
    old = {short_name(entry): entry for entry in before.operations}
    new = {short_name(entry): entry for entry in after.operations}
    found = [Change(operation=name, what="gone") for name in old if name not in new]
    found += [Change(operation=name, what="new") for name in new if name not in old]
    for name in (n for n in new if n in old and old[n] != new[n]):
        found += _changed(name, old[name], new[name], said=before.word_on(old[name]))
    return found


def encode(admission: Admission) -> bytes:
    """The file, formatted for people."""
    return msgspec.json.format(msgspec.json.encode(admission), indent=2) + b"\n"


def decode(data: bytes, *, name: str) -> Admission:
    """Read the file of the connector `name`.

    Raises:
        Malformed: `admission_malformed`, `admission_tampered`, `said_malformed`; the message begins with the line.
    """
    try:
        admission = _decode(data)
        _check(admission)
        _check_seal(admission, name=name)
        _check_said(admission)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed("admission_malformed", f"line {_line(data, str(error))}: {str(error)[:300]}") from error
    except Malformed as malformed:
        line = _line(data, malformed.message)
        raise Malformed(malformed.code, f"line {line}: {malformed.message}", hint=malformed.hint) from malformed
    return admission


def _check_seal(admission: Admission, *, name: str) -> None:
    if admission.name != name:
        raise Malformed("admission_malformed", f"`{admission.name[:40]}` is not the name it is kept under")
    if admission.definitions.keys() != {short_name(entry) for entry in admission.operations}:
        raise Malformed("admission_tampered", "its `definitions` are not those of its operations")
    for entry in admission.operations:
        if admission.definitions[short_name(entry)] != entry.definition:
            raise Malformed(
                "admission_tampered", f"`{entry.name}` is not what was admitted",
                hint="connect it again; only what stands under `said` may be edited",
            )  # fmt: skip
    if admission.seal != seal_of(admission):
        raise Malformed(
            "admission_tampered", "the `seal` does not fit what it seals",
            hint="connect it again; only what stands under `said` may be edited",
        )  # fmt: skip


def _changed(name: str, old: Entry, new: Entry, *, said: Said | None) -> list[Change]:
    found = []
    if old.contract.effect is not new.contract.effect:
        found.append(Change(operation=name, what="effect", was=old.contract.effect, now=new.contract.effect))
    if old.contract.reaches != new.contract.reaches:
        found.append(
            Change(operation=name, what="hosts", was=" ".join(old.contract.reaches), now=" ".join(new.contract.reaches))
        )
    if old.contract.arguments != new.contract.arguments:
        was, now = _shapes(old.contract), _shapes(new.contract)
        gone, more = sorted(was.items() - now.items()), sorted(now.items() - was.items())
        told = [" ".join(f"{n}:{shape}" for n, shape in some) or "described otherwise" for some in (gone, more)]
        found.append(Change(operation=name, what="arguments", was=told[0], now=told[1]))
    if old.contract.summary != new.contract.summary:
        found.append(Change(operation=name, what="summary", was=old.contract.summary, now=new.contract.summary))
    if old.recipe != new.recipe and not found:
        found.append(Change(operation=name, what="how it is called"))
    if not found:
        found.append(Change(operation=name, what="what is told of it"))
    if said is not None:
        found.append(Change(operation=name, what="said before", was=said.effect, now="no longer holds"))
    return found


def _shapes(contract: OperationContract) -> Mapping[str, str]:
    return {a.name: f"{a.kind}{'!' if a.required else ''}{'*' if a.authority else ''}" for a in contract.arguments}


def _check(admission: Admission) -> None:
    """What must hold of every admission, however it came about."""
    check_connector(admission.name)
    if admission.format != FORMAT:
        raise Malformed("admission_malformed", f"its format is {admission.format}, and {FORMAT} is read here")
    if len(admission.operations) > OPERATIONS_MAX:
        raise Malformed("admission_malformed", f"it has more than {OPERATIONS_MAX} operations")
    seen: set[str] = set()
    for entry in admission.operations:
        connector, _, own = entry.name.partition(".")
        if connector != admission.name or not is_operation(own) or own.lower() in seen:
            raise Malformed("admission_malformed", f"`{entry.name[:120]}` cannot be an operation of `{admission.name}`")
        seen.add(own.lower())
        _check_entry(entry)


def _check_entry(entry: Entry) -> None:
    names = [argument.name for argument in entry.contract.arguments]
    if len({name.lower() for name in names}) < len(names) or not all(is_argument(name) for name in names):
        raise Malformed("admission_malformed", f"`{entry.name}` has arguments that cannot be told apart, or named")
    if any(argument.default is not None for argument in entry.contract.arguments) or not entry.contract.foreign:
        raise Malformed("admission_malformed", f"`{entry.name}` claims what no description may")
    for argument in entry.contract.arguments:
        if argument.schema:
            read_schema(argument.schema)
    entry.check()


def _check_said(admission: Admission) -> None:
    for name, said in admission.said.items():
        entry = admission.entry(name)
        if not is_person(said.by) or not said.reason.strip() or len(said.reason) > REASON_CHARS_MAX:
            raise Malformed(
                "said_malformed", f"what is said about `{name}` needs a person and a reason",
                hint=f"use `assent connect classify {admission.name}.{name} CLASS --reason …`",
            )  # fmt: skip
        if said.definition != entry.definition:
            raise Malformed(
                "said_malformed", f"what is said about `{name}` is about another definition of it",
                hint="look at it again, and say it again",
            )  # fmt: skip


def _line(data: bytes, message: str) -> int:
    """The line that a message is about: that of the name in it, or the first."""
    for word in message.split("`")[1::2]:
        at = data.find(f'"{word}"'.encode())
        if at >= 0:
            return data.count(b"\n", 0, at) + 1
    place = message.rpartition("$.operations[")[2].partition("]")[0]
    if place.isascii() and place.isdigit():
        at = -1
        for _ in range(int(place) + 1):
            at = data.find(b'"contract"', at + 1)
        return data.count(b"\n", 0, max(at, 0)) + 1
    byte = message.rpartition("(byte ")[2].partition(")")[0]
    return data.count(b"\n", 0, int(byte)) + 1 if byte.isdigit() else 1
