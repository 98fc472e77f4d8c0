"""Policies: the active revision's engine, and how a revision becomes active."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from assent.ledger.commands import ActivatePolicy
from assent.ledger.ports import LedgerStore
from assent.policy.activation import Report
from assent.policy.engine import Engine
from assent.policy.text import pieces
from assent.primitives.digests import Digest
from assent.primitives.errors import Conflict, Malformed
from assent.primitives.ids import TenantId

Build = Callable[[str], Engine]
Check = Callable[[str], Report]


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
    """Engines of active revisions, built once each. `build` and `check` know the operations and principals."""

    def __init__(self, *, store: LedgerStore, build: Build, check: Check) -> None:
        self._store = store
        self._build = build
        self._check = check
        self._engines: dict[TenantId, Engine] = {}

    async def active(self, tenant: TenantId) -> Engine | None:
        """The engine of the tenant's active revision, or None when no revision is active."""
        engine = self._engines.get(tenant)
        if engine is None:
            row = await self._store.active_policy(tenant)
            if row is None:
                return None
            engine = self._engines[tenant] = self._build(row[2])
        return engine

    async def active_revision(self, tenant: TenantId) -> tuple[Digest, int] | None:
        """Revision and number of what is active, without reading its rules."""
        row = await self._store.active_policy(tenant)
        return (row[0], row[1]) if row else None

    async def told(self, tenant: TenantId, revision: str) -> RuleTexts | None:
        """A revision that is or was active, as it was written."""
        row = await self._store.policy_revision(tenant, revision)
        return RuleTexts(number=row[0], text=row[1], rules=_rule_texts(row[1])) if row else None

    def built(self, text: str) -> Engine:
        """An engine of a text that need not be in force. Raises Malformed: `policy_invalid`."""
        return self._build(text)

    def forget(self, tenant: TenantId) -> None:
        """Read the active revision again at the next decision."""
        self._engines.pop(tenant, None)

    def check(self, text: str) -> Report:
        """Everything that is wrong or doubtful about a policy text."""
        return self._check(text)

    async def activate(self, tenant: TenantId, text: str, *, by: str) -> Activated:
        """Make `text` the active policy, if it passes every check.

        Raises:
            Malformed: `policy_rejected`, naming each fault; the active revision stays.
            Conflict: `policy_moved`: somebody activated another revision meanwhile.
        """
        report = self._check(text)
        if report.faults:
            lines = "; ".join(str(fault) for fault in report.faults)
            raise Malformed("policy_rejected", f"the policy was not activated: {lines}", hint="mend it and try again")
        engine = self._build(text)
        row = await self._store.active_policy(tenant)
        if row is not None and row[0] == engine.revision:
            return Activated(revision=engine.revision, number=row[1], changed=False, report=report)
        activation = ActivatePolicy(
            tenant=tenant, revision=engine.revision, text=text, by=by, expected=row[0] if row else ""
        )
        try:
            number = await self._store.apply(activation)
        except Conflict:
            row = await self._store.active_policy(tenant)
            if row is None or row[0] != engine.revision:
                raise
            return Activated(revision=engine.revision, number=row[1], changed=False, report=report)  # somebody else did
        self._engines[tenant] = engine
        return Activated(revision=engine.revision, number=number, changed=True, report=report)


def _rule_texts(text: str) -> dict[str, str]:
    """The text of each rule, by its `@id`."""
    found: dict[str, str] = {}
    for piece in pieces(text):
        words = [token.text for token in piece.tokens]
        for at in range(len(words) - 4):
            if words[at : at + 3] == ["@", "id", "("]:
                found.setdefault(words[at + 3].strip('"'), piece.text)
    return found
