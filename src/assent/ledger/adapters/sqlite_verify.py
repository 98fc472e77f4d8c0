"""Verify a whole SQLite ledger: the file, the log, and every row that the log speaks of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assent.ledger import verify_standalone as standalone
from assent.ledger.adapters.sqlite_effects import select_effects
from assent.ledger.adapters.sqlite_reviews import select_reviews
from assent.ledger.entries import read_entry
from assent.ledger.reviews import review_terms
from assent.ledger.verification import Fault, Fold, FoldedEffect, VerificationReport
from assent.primitives.clock import Clock
from assent.primitives.digests import digest
from assent.primitives.errors import AssentError, Malformed
from assent.primitives.ids import TenantId
from assent.storage.adapters.sqlite import translated

FAULTS_MAX = 100


class SqliteVerifier:
    """Reads one database file; it never writes, so it may look at a copy or at one that others are writing."""

    def __init__(self, path: Path, *, key: str, clock: Clock) -> None:
        self._path = path
        self._key = key
        self._clock = clock

    def verify(self, tenant: TenantId | None, *, trusted: str = "") -> VerificationReport:
        """Check one tenant (or all). `trusted` is the path of a file of checkpoints kept elsewhere, or empty.

        Raises:
            Malformed: the key or the checkpoint file is not one.
            Unavailable: there is no such database.
        """
        started_ns = self._clock.monotonic_ns()
        try:
            key = standalone.read_key(self._key)
            notes = list(standalone.read_trusted(trusted, key)) if trusted else []
        except (ValueError, OSError) as error:
            raise Malformed("checkpoint_malformed", f"cannot read what to verify against: {error}") from error
        with translated(self._path):
            connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            check = _Check(connection)
            check.run(key, tenant, notes)
        finally:
            connection.close()
        duration_ms = (self._clock.monotonic_ns() - started_ns) // 1_000_000
        return VerificationReport(
            entries=check.entries,
            effects=check.effects,
            payloads=check.payloads,
            checkpoints=check.checkpoints,
            duration_ms=duration_ms,
            faults=tuple(check.faults[:FAULTS_MAX]),
            notices=tuple(check.notices),
        )


class _Check:
    """One pass over one snapshot."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.faults: list[Fault] = []
        self.notices: list[str] = []
        self.entries = self.effects = self.payloads = self.checkpoints = 0

    def run(self, key: Any, tenant: TenantId | None, notes: list[Any]) -> None:
        """Check the file, the log and the rows; a file too damaged to read is itself a fault."""
        try:
            self._file()
            self._log(key, tenant, notes)
            for name in self._tenants(tenant):
                self._rows(name)
        except (sqlite3.DatabaseError, AssentError) as error:
            self._fault("file", "", "database", f"it cannot be read on: {error}")

    def _file(self) -> None:
        for (line,) in self._connection.execute("PRAGMA quick_check(10)"):
            if line != "ok":
                self._fault("file", "", "database", line)

    def _log(self, key: Any, tenant: TenantId | None, notes: list[Any]) -> None:
        try:
            report = standalone.verify(self._connection, key, tenant, notes)
            self.notices += report["warnings"]
        except standalone.Tampered as found:
            place = found.place
            where = "log" if place["seq"] is None else f"seq {place['seq']}"
            self._fault(str(place["table"]), str(place["tenant"]), where, str(place["reason"]))

    def _tenants(self, tenant: TenantId | None) -> list[TenantId]:
        if tenant is not None:
            return [tenant]
        rows = self._connection.execute("SELECT tenant FROM log UNION SELECT tenant FROM effects").fetchall()
        return [TenantId(row[0]) for row in rows]

    def _rows(self, tenant: TenantId) -> None:
        fold = Fold()
        sql = "SELECT seq, entry, payload, salt FROM log WHERE tenant = ? ORDER BY seq"
        for seq, entry, payload, salt in self._connection.execute(sql, (tenant,)):
            self.entries += 1
            self.payloads += payload is not None
            try:
                wrong = fold.add(read_entry(entry), payload, salt)
            except (ValueError, KeyError, TypeError) as error:
                wrong = f"the entry cannot be read: {error}"
            if wrong:
                self._fault("log", tenant, f"seq {seq}", wrong)
        for (count,) in self._connection.execute("SELECT count(*) FROM checkpoints WHERE tenant = ?", (tenant,)):
            self.checkpoints += count
        self._effects(tenant, fold)
        self._reviews(tenant, fold)
        self._policy(tenant, fold)

    def _effects(self, tenant: TenantId, fold: Fold) -> None:
        left = dict(fold.effects)
        for effect in select_effects(self._connection, "tenant = ?", (tenant,)):
            self.effects += 1
            folded = left.pop(effect.id, None)
            if folded is None:
                self._fault("effects", tenant, effect.id, "the log knows no such effect")
                continue
            row = {name: getattr(effect, name) for name in FoldedEffect.__struct_fields__}
            row["key"] = digest(effect.key.encode()) if effect.key else ""
            for name in _differing(row, folded):
                self._fault("effects", tenant, effect.id, f"`{name}` is not what the log says")
        for missing in left:
            self._fault("effects", tenant, missing, "the row is missing")

    def _reviews(self, tenant: TenantId, fold: Fold) -> None:
        left = dict(fold.reviews)
        for review in select_reviews(self._connection, "tenant = ?", (tenant,)):
            folded = left.pop(review.id, None)
            if folded is None:
                self._fault("reviews", tenant, review.id, "the log knows no such review")
                continue
            intent = fold.effects[folded.effect].intent or review.intent
            said = (folded.effect, intent, folded.state, folded.terms, folded.approvers)
            if (review.effect, review.intent, review.state, review_terms(review), review.approvers) != said:
                self._fault("reviews", tenant, review.id, "the row is not what the log says")
        for missing in left:
            self._fault("reviews", tenant, missing, "the row is missing")

    def _policy(self, tenant: TenantId, fold: Fold) -> None:
        last = max(fold.policies, default=0)
        sql = "SELECT revision, number FROM policy_active WHERE tenant = ?"
        row = self._connection.execute(sql, (tenant,)).fetchone()
        if row != ((fold.policies[last][0], last) if last else None):
            self._fault("policy_active", tenant, "row", "it is not the revision that the log says was activated last")
        sql = "SELECT number, revision, text FROM policy_revisions WHERE tenant = ?"
        rows = {n: (revision, digest(text.encode())) for n, revision, text in self._connection.execute(sql, (tenant,))}
        for number in sorted(rows.keys() | fold.policies.keys()):
            if rows.get(number) != fold.policies.get(number):
                self._fault("policy_revisions", tenant, f"number {number}", "the row is not what the log says")

    def _fault(self, table: str, tenant: str, place: str, message: str) -> None:
        self.faults.append(Fault(table=table, tenant=tenant, place=place, message=message))


def _differing(row: dict[str, Any], folded: FoldedEffect) -> Iterator[str]:
    for name, value in row.items():
        said = getattr(folded, name)
        if value != said and not (name == "intent" and said is None):
            yield name
