"""Connecting: descriptions become connectors when a person admits them, and stay what they were then.

    description ─► propose (made, compared with what was admitted before, shown) ─► admit (kept)

Nothing here decides what may be done: an admitted operation is offered, and until a rule permits it every call of it is
denied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from assent.ledger.connectors.families.admissions import (
    REASON_CHARS_MAX,
    Admission,
    Change,
    Said,
    admit,
    changes,
    say,
    short_name,
)
from assent.ledger.connectors.families.command_line import read_command_line
from assent.ledger.connectors.families.documents import read_document
from assent.ledger.connectors.families.entries import Draft, Entry, LeftOut, Source
from assent.ledger.connectors.families.graphql import read_graphql
from assent.ledger.connectors.families.graphql_sdl import read_sdl
from assent.ledger.connectors.families.mcp import read_mcp
from assent.ledger.connectors.families.mcp_calls import McpServer
from assent.ledger.connectors.families.names import check_connector, told
from assent.ledger.connectors.families.openapi import read_openapi, title_of
from assent.ledger.connectors.families.servers import check_server
from assent.ledger.contracts import EffectClass, OperationContract
from assent.ledger.reviews import is_person
from assent.operations.rule_texts import rules_for
from assent.primitives.canonical import Json, canonical
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Conflict, Malformed, NotFound, Refused


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A connector whose file cannot be used: none of its operations is offered."""

    name: str
    file: str
    code: str
    message: str
    hint: str = ""


class Shelf(Protocol):
    """Where admitted connectors are kept."""

    def admissions(self) -> tuple[Admission, ...]:
        """Every one that can be used."""
        ...

    def broken(self) -> tuple[Broken, ...]:
        """Every one that cannot."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else keeps or drops anything here meanwhile, and what is there is read anew. Raises: Unavailable."""
        ...

    def keep(self, admission: Admission) -> str:
        """Keep one, in place of an older one of its name; where it is kept. Raises: Unavailable."""
        ...

    def drop(self, name: str) -> str:
        """Forget one; where it was kept. Raises: NotFound, Unavailable."""
        ...


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as it is shown. `made` is the class that the description gave it, `effect` the one that holds."""

    operation: str
    summary: str
    effect: EffectClass
    made: EffectClass
    why: str
    idempotency: str
    hosts: tuple[str, ...]
    hints: tuple[str, ...]
    answers: dict[str, str]
    definition: Digest
    contract: OperationContract


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One connector as it is shown. `rules` are policy rules to begin with."""

    name: str
    family: str
    by: str
    where: str
    source: Digest
    title: str
    operations: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    rules: str


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A connector that may be admitted, and how it differs from the one that was.

    `known`: there was one; `same`: nothing differs.
    """

    shown: Shown
    changes: tuple[Change, ...]
    known: bool
    same: bool
    admission: Admission
    before: Admission | None


class Connecting:
    """Makes, admits, shows and classifies connectors. `builtin` are the names that come with Assent."""

    def __init__(self, *, shelf: Shelf, by: str, builtin: Iterable[str], now_ms: Callable[[], int]) -> None:
        self._shelf = shelf
        self._by = by
        self._builtin = frozenset(builtin)
        self._now_ms = now_ms

    def openapi(
        self, data: bytes, *, name: str, where: str, server: str = "", fetched_from: str = "", only: str = ""
    ) -> Proposal:
        """Propose a connector of an OpenAPI description.

        Raises:
            Malformed: `document_malformed`, `server_refused`, `connector_name`, `too_many_operations`, `nothing_made`.
            Unavailable: `yaml_missing`.
            Conflict: `connector_family`.
        """
        check_connector(name, taken=self._builtin)
        document = read_document(data)
        source = Source(where=_where(where), digest=digest(data), title=title_of(document))
        return self._propose(
            read_openapi(document, name=name, source=source, server=server, fetched_from=fetched_from, only=only)
        )

    def graphql(self, data: bytes, *, name: str, where: str, url: str, only: str = "") -> Proposal:
        """Propose a connector of a GraphQL schema: the result of an introspection, or its text. Its calls go to `url`.

        Raises as `openapi`.
        """
        check_connector(name, taken=self._builtin)
        document = read_document(data) if data.lstrip()[:1] == b"{" else read_sdl(data)
        source = Source(where=_where(where), digest=digest(data))
        return self._propose(read_graphql(document, name=name, source=source, url=url, only=only))

    def command_line(self, data: bytes, *, name: str, where: str, only: str = "") -> Proposal:
        """Propose a connector of a command line's description. Raises as `openapi`."""
        check_connector(name, taken=self._builtin)
        return self._propose(
            read_command_line(data, name=name, where=_where(where), source_digest=digest(data), only=only)
        )

    def mcp(
        self,
        tools: list[Json],
        *,
        name: str,
        url: str = "",
        argv: tuple[str, ...] = (),
        cwd: str = ".",
        host: str = "",
        writes: bool = False,
        stays: bool = False,
        only: str = "",
    ) -> Proposal:
        """Propose a connector of the tool list of an MCP server: what is at `url`, or the program `argv`. Raises as
        `openapi`."""
        check_connector(name, taken=self._builtin)
        checked = check_server(url, by_person=True) if url else ""
        server = McpServer(url=checked, argv=argv, cwd=cwd, host=host, writes=writes, stays=stays)
        source = Source(where=_where(checked or " ".join(argv)), digest=digest(canonical(tools)))
        return self._propose(read_mcp(tools, name=name, source=source, server=server, only=only))

    def admit(self, proposal: Proposal) -> str:
        """Keep a proposal; where it is kept.

        Raises:
            Conflict: `connector_moved`: another one was admitted since it was proposed.
            Unavailable: it could not be written.
        """
        with self._shelf.alone():
            if self._find(proposal.shown.name) != proposal.before:
                raise Conflict("connector_moved", f"`{proposal.shown.name}` changed meanwhile", hint="look at it again")
            return self._shelf.keep(proposal.admission)

    def all(self) -> tuple[Shown, ...]:
        """Every connector that can be used."""
        return tuple(_shown(admission) for admission in self._shelf.admissions())

    def broken(self) -> tuple[Broken, ...]:
        """Every connector that cannot."""
        return self._shelf.broken()

    def show(self, name: str) -> Shown:
        """One connector. Raises: NotFound: `connector_unknown`; Malformed: it is broken."""
        return _shown(self._must_find(name))

    def classify(self, operation: str, effect: EffectClass, *, reason: str) -> Row:
        """Say what an operation does to the world; the word of the person who works here stands beside the file's own.

        Raises:
            NotFound: `connector_unknown`, `operation_unknown`.
            Refused: `classify_not_yours`: only people say so.
            Malformed: `reason_malformed`.
        """
        if not is_person(self._by):
            raise Refused("classify_not_yours", f"only people classify, and `{self._by[:80]}` is not a person")
        if not reason.strip() or len(reason) > REASON_CHARS_MAX:
            raise Malformed("reason_malformed", f"a reason has 1 to {REASON_CHARS_MAX} characters", hint="say why")
        with self._shelf.alone():
            admission = self._must_find(operation.partition(".")[0])
            entry = admission.entry(operation)
            said = Said(effect=effect, by=self._by, reason=reason, definition=entry.definition, at_ms=self._now_ms())
            after = say(admission, entry, said)
            self._shelf.keep(after)
        return _row(after, entry)

    def remove(self, name: str) -> str:
        """Forget a connector, usable or not; where it was kept.

        Raises:
            NotFound: `connector_unknown`.
            Unavailable: it could not be removed.
        """
        return self._shelf.drop(name)

    def _propose(self, draft: Draft) -> Proposal:
        if not draft.entries:
            why = f" ({draft.left_out[0].why})" if draft.left_out else ""
            raise Malformed("nothing_made", f"the description holds nothing that can be called{why}")
        before = self._find(draft.name)
        if before is not None and before.family != draft.family:
            raise Conflict(
                "connector_family", f"`{draft.name}` is a connector of the family `{before.family}`",
                hint=f"choose another name, or `assent connect remove {draft.name}` first",
            )  # fmt: skip
        admission = admit(draft, by=self._by, before=before)
        found = changes(before, admission)
        same = before is not None and not found and before.left_out == admission.left_out
        same = same and before is not None and before.source == admission.source
        return Proposal(
            shown=_shown(admission), changes=tuple(found), known=before is not None, same=same, admission=admission,
            before=before,
        )  # fmt: skip

    def _find(self, name: str) -> Admission | None:
        return next((one for one in self._shelf.admissions() if one.name == name), None)

    def _must_find(self, name: str) -> Admission:
        found = self._find(name)
        if found is not None:
            return found
        for broken in self._shelf.broken():
            if broken.name == name:
                raise Malformed(broken.code, f"`{broken.file}`: {broken.message}", hint=broken.hint)
        raise NotFound("connector_unknown", f"there is no connector `{told(name, chars_max=60)}`",
                       hint="`assent connect list` lists all that were admitted")  # fmt: skip


def _where(where: str) -> str:
    return told(where, chars_max=1_000)


def _shown(admission: Admission) -> Shown:
    return Shown(
        name=admission.name,
        family=admission.family,
        by=admission.by,
        where=admission.source.where,
        source=admission.source.digest,
        title=admission.source.title,
        operations=tuple(_row(admission, entry) for entry in admission.operations),
        left_out=admission.left_out,
        rules=rules_for(admission.name, [admission.contract(entry) for entry in admission.operations]),
    )


def _row(admission: Admission, entry: Entry) -> Row:
    said = admission.said.get(short_name(entry))
    contract = admission.contract(entry)
    return Row(
        operation=entry.name,
        summary=contract.summary,
        effect=contract.effect,
        made=entry.contract.effect,
        why=f"{said.by} says so: {said.reason}" if said is not None else entry.why,
        idempotency=contract.idempotency,
        hosts=contract.reaches,
        hints=entry.hints,
        answers=entry.answers,
        definition=entry.definition,
        contract=contract,
    )
