"""Policies: the active revision's engine, and how a revision becomes active."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from assent.ledger.commands import ActivatePolicy
from assent.ledger.decisions import Decision
from assent.ledger.policy_signatures import Signers
from assent.ledger.ports import ActivePolicy, LedgerStore
from assent.operations.refusals import no_policy, outdated_policy, unsettled_policy, unsigned
from assent.policy.activation import Report
from assent.policy.engine import Engine
from assent.policy.text import pieces
from assent.primitives.digests import Digest
from assent.primitives.errors import AssentError, Conflict, Malformed, Refused
from assent.primitives.ids import TenantId

Build = Callable[[str], Engine]
Check = Callable[[str], Report]
ANYBODY = Signers()


class Activated(msgspec.Struct, frozen=True, kw_only=True):
    """`number` counts activations; `changed` is False when this revision was active already."""

    revision: Digest
    number: int
    changed: bool
    report: Report


class RuleTexts(msgspec.Struct, frozen=True, kw_only=True):
    """A revision as it was activated: its number, its text, and the text of each rule by name."""

    number: int
    text: str
    rules: Mapping[str, str]


class Policies:
    """Engines of active revisions, built once each. `build` and `check` know the operations and principals. Where there
    are `signers`, a revision that they have not signed is neither activated nor decided by. With
    `reviewed` a revision takes the place of another only by a call that policy let through (`policy_changes`)."""

    def __init__(
        self, *, store: LedgerStore, build: Build, check: Check, signers: Signers = ANYBODY, reviewed: bool = False
    ) -> None:
        self._store = store
        self._reviewed = reviewed
        self._signers = signers
        self._build = build
        self._check = check
        self._engines: dict[TenantId, Engine] = {}

    async def active(self, tenant: TenantId) -> Engine | None:
        """The engine of the tenant's active revision; None when no revision is active, or it lacks signatures."""
        engine = self._engines.get(tenant)
        if engine is None:
            row = await self._store.active_policy(tenant)
            if row is None or self._signers.lacking(row.revision, row.signatures):
                return None
            engine = self._engines[tenant] = self._build(row.text)
        return engine

    async def lacking(self, tenant: TenantId) -> str:
        """What signatures the active revision lacks, as a sentence; empty when none."""
        row = await self._store.active_policy(tenant)
        return self._signers.lacking(row.revision, row.signatures) if row else ""

    async def refusal(self, tenant: TenantId) -> Decision:
        """What every call gets where there is no engine."""
        row = await self._store.active_policy(tenant)
        if row is None:
            return no_policy()
        return unsigned(self._signers.lacking(row.revision, row.signatures), revision=row.revision)

    async def unsettled(self, tenant: TenantId) -> AssentError:
        """Why a call could not be decided, however often that was tried: the active text, read by this release, is
        another revision than the one that was activated, or it keeps changing."""
        row = await self._store.active_policy(tenant)
        if row is not None and self._build(row.text).revision != row.revision:
            return outdated_policy()
        return unsettled_policy()

    async def active_revision(self, tenant: TenantId) -> tuple[Digest, int] | None:
        """Revision and number of what is active, without reading its rules."""
        row = await self._store.active_policy(tenant)
        return (row.revision, row.number) if row else None

    async def told(self, tenant: TenantId, revision: str) -> RuleTexts | None:
        """A revision that is or was active, as it was written."""
        row = await self._store.policy_revision(tenant, revision)
        return RuleTexts(number=row[0], text=row[1], rules=_rule_texts(row[1])) if row else None

    async def waivable_s(self, tenant: TenantId, covers: Callable[[str], bool]) -> int:
        """For how long at most the policy in force lets people waive its questions about operations; 0: not at all."""
        engine = await self.active(tenant)
        return engine.waivable_s(covers) if engine is not None else 0

    def built(self, text: str) -> Engine:
        """An engine of a text that need not be in force. Raises Malformed: `policy_invalid`."""
        return self._build(text)

    def forget(self, tenant: TenantId) -> None:
        """Read the active revision again at the next decision."""
        self._engines.pop(tenant, None)

    def check(self, text: str) -> Report:
        """Everything that is wrong or doubtful about a policy text."""
        return self._check(text)

    async def activate(self, tenant: TenantId, text: str, *, by: str, signatures: Sequence[str] = ()) -> Activated:
        """Make `text` the active policy, if it passes every check.

        Raises:
            Refused: `policy_unsigned`: it is not signed by as many of the signers as it takes; `policy_reviewed`:
                another is in force, which it can replace by review alone.
            Malformed: `policy_rejected`, naming each fault; the active revision stays.
            Conflict: `policy_moved`: somebody activated another revision meanwhile.
        """
        row = await self._store.active_policy(tenant)
        decides = row is not None and not self._signers.lacking(row.revision, row.signatures)
        if self._reviewed and decides and row is not None and row.text != text:
            raise Refused(
                "policy_reviewed", "another policy comes into force here by review", hint="run `assent policy propose`"
            )
        return await self._put(tenant, text, row, by=by, signatures=signatures)

    async def replace(
        self, tenant: TenantId, text: str, *, revision: str, replaces: str, by: str, signatures: Sequence[str]
    ) -> Activated:
        """Make `text` the active policy in the place of another, by a call that policy has let through.

        Raises:
            Refused: `policy_unsigned`.
            Malformed: `policy_rejected`.
            Conflict: `policy_moved`: it is not that other that is in force, or `text` is not that `revision` here.
        """
        row = await self._store.active_policy(tenant)
        if self._build(text).revision != revision or row is None or row.revision not in (revision, replaces):
            raise Conflict(
                "policy_moved", "another policy came into force since this was asked for", hint="propose it again"
            )
        return await self._put(tenant, text, row, by=by, signatures=signatures)

    def must_pass(self, text: str) -> Engine:
        """The engine of a text that passes every check.

        Raises:
            Malformed: `policy_rejected`, naming each fault.
        """
        self._passing(text)
        return self._build(text)

    def _passing(self, text: str) -> Report:
        report = self._check(text)
        if report.faults:
            lines = "; ".join(str(fault) for fault in report.faults)
            raise Malformed("policy_rejected", f"the policy was not activated: {lines}", hint="mend it and try again")
        return report

    async def _put(
        self, tenant: TenantId, text: str, row: ActivePolicy | None, *, by: str, signatures: Sequence[str]
    ) -> Activated:
        report = self._passing(text)
        engine = self._build(text)
        if row is not None and self._stands(row, engine):
            return Activated(revision=engine.revision, number=row.number, changed=False, report=report)
        if lacking := self._signers.lacking(engine.revision, signatures):
            raise Refused("policy_unsigned", f"nothing was activated: {lacking}", hint="run `assent policy sign`")
        activation = ActivatePolicy(
            tenant=tenant, revision=engine.revision, text=text, by=by, expected=row.revision if row else "",
            signatures=tuple(signatures),
        )  # fmt: skip
        try:
            number = await self._store.apply(activation)
        except Conflict:
            row = await self._store.active_policy(tenant)
            if row is None or not self._stands(row, engine):
                raise
            return Activated(revision=engine.revision, number=row.number, changed=False, report=report)  # another did
        self.forget(tenant)  # and not kept: a call that was let through does this in another thread
        return Activated(revision=engine.revision, number=number, changed=True, report=report)

    def _stands(self, row: ActivePolicy, engine: Engine) -> bool:
        """Whether a policy is in force already, signed as it must be."""
        return row.revision == engine.revision and not self._signers.lacking(row.revision, row.signatures)


def _rule_texts(text: str) -> dict[str, str]:
    """The text of each rule, by its `@id`."""
    found: dict[str, str] = {}
    for piece in pieces(text):
        words = [token.text for token in piece.tokens]
        for at in range(len(words) - 4):
            if words[at : at + 3] == ["@", "id", "("]:
                found.setdefault(words[at + 3].strip('"'), piece.text)
    return found
