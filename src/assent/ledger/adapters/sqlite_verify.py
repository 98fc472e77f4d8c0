"""Verify a whole SQLite ledger: the file, the log, and every row that the log speaks of."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from assent.ledger import verify_standalone as standalone
from assent.ledger.budgets import standing_text
from assent.ledger.entries import read_entry
from assent.ledger.reviews import demands_text
from assent.ledger.verification import Fault, Fold, FoldedEffect, FoldedJournal, FoldedPolicy, VerificationReport
from assent.primitives.clock import Clock
from assent.primitives.digests import digest
from assent.primitives.errors import AssentError, Malformed
from assent.primitives.ids import TenantId
from assent.storage.adapters.sqlite_faults import translated

FAULTS_MAX = 100
# What stands beside the log and is a copy of what it says. Not here: `leases` say who may act now, no entry records a
# heartbeat; `schema_migrations` is compared with this release at every opening.
_TABLES = (
    "log",
    "effects",
    "reviews",
    "policy_revisions",
    "policy_active",
    "journals",
    "journal_keys",
    "contents",
    "budgets",
    "budget_holds",
)

Rows: TypeAlias = dict[Any, dict[str, Any]]


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
        connection.text_factory = _text
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
        everywhere = " UNION ".join(f"SELECT tenant FROM {table}" for table in _TABLES)  # noqa: S608 (names of ours)
        return [TenantId(str(row[0])) for row in self._connection.execute(everywhere).fetchall()]

    def _rows(self, tenant: TenantId) -> None:
        fold = Fold()
        sql = "SELECT seq, entry, payload, salt FROM log WHERE tenant = ? ORDER BY seq"
        for seq, entry, payload, salt in self._connection.execute(sql, (tenant,)):
            self.entries += 1
            self.payloads += payload is not None
            try:
                wrong = fold.add(read_entry(entry), payload, salt)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                wrong = f"the entry cannot be read: {error}"
            if wrong:
                self._fault("log", tenant, f"seq {seq}", wrong)
        for (count,) in self._connection.execute("SELECT count(*) FROM checkpoints WHERE tenant = ?", (tenant,)):
            self.checkpoints += count
        if fold.erased:
            self.notices.append(f"{tenant}: {fold.erased} payloads are erased; what rows say of them cannot be checked")
        self._effects(tenant, fold)
        self._reviews(tenant, fold)
        self._policies(tenant, fold)
        self._journals(tenant, fold)
        self._contents(tenant)
        self._budgets(tenant, fold)

    def _effects(self, tenant: TenantId, fold: Fold) -> None:
        said = {name: _plain(folded) | {"state": folded.state.value} for name, folded in fold.effects.items()}
        rows = self._read("effects", "id", tuple(FoldedEffect.__struct_fields__), tenant)
        self.effects += len(rows)
        for row in rows.values():
            row["key"] = _digest(row["key"]) if row["key"] is not None else ""
        self._compare("effects", tenant, rows, said)

    def _reviews(self, tenant: TenantId, fold: Fold) -> None:
        said = {
            name: {
                "effect": folded.effect, "intent": fold.effects[folded.effect].intent, "state": folded.state.value,
                "reason": folded.reason, "approvers": " ".join(folded.approvers), "places": " ".join(folded.places),
                "escalated": folded.escalated, **_row_of(folded.terms),
            }
            for name, folded in fold.reviews.items()
        }  # fmt: skip
        columns = (
            "effect", "intent", "state", "question", "quorum", "requested_by", "approvers", "reason", "opened_at_ms",
            "expires_at_ms", "places", "demands", "escalated", "after",
        )  # fmt: skip
        rows = self._read("reviews", "id", columns, tenant)
        for row in rows.values():  # one from before there were places has none
            row["places"] = row["places"] or " ".join("-" for _ in str(row["approvers"]).split())
        self._compare("reviews", tenant, rows, said)

    def _policies(self, tenant: TenantId, fold: Fold) -> None:
        said = {number: _plain(folded) for number, folded in fold.policies.items()}
        rows = self._read("policy_revisions", "number", tuple(FoldedPolicy.__struct_fields__), tenant)
        for row in rows.values():
            row["text"] = _digest(row["text"])
        self._compare("policy_revisions", tenant, rows, said)
        last = max(fold.policies, default=0)
        active = {tenant: {"revision": fold.policies[last].revision, "number": last}} if last else {}
        rows = self._read("policy_active", "tenant", ("revision", "number"), tenant)
        self._compare("policy_active", tenant, rows, active)

    def _journals(self, tenant: TenantId, fold: Fold) -> None:
        said = {name: _plain(folded) for name, folded in fold.journals.items()}
        rows = self._read("journals", "kind || ':' || id", tuple(FoldedJournal.__struct_fields__), tenant)
        self._compare("journals", tenant, rows, said)
        keyed: Rows = {key: _plain(folded) for key, folded in fold.journal_keys.items()}
        sql = "SELECT kind || ':' || journal, key, digest, seq FROM journal_keys WHERE tenant = ?"
        found = self._connection.execute(sql, (tenant,))
        rows = {(one, _digest(key)): {"digest": d, "seq": seq} for one, key, d, seq in found}
        self._compare("journal_keys", tenant, rows, keyed)

    def _budgets(self, tenant: TenantId, fold: Fold) -> None:
        columns = ("most", "spent", "held", "stops", "stopped", "asked")
        said: Rows = {
            key: dict(zip(columns, (b.limit, b.spent, b.held, b.stops, b.stopped, b.asked), strict=True))
            for key, b in fold.budgets.budgets.items()
        }
        sql = f"SELECT scope, unit, per, since_ms, {', '.join(columns)} FROM budgets WHERE tenant = ?"  # noqa: S608 (ours)
        found = self._connection.execute(sql, (tenant,))
        self._compare("budgets", tenant, {row[:4]: dict(zip(columns, row[4:], strict=True)) for row in found}, said)
        held: Rows = {effect: {"holds": standing_text(holds)} for effect, holds in fold.budgets.holds.items()}
        self._compare("budget_holds", tenant, self._read("budget_holds", "effect", ("holds",), tenant), held)

    def _contents(self, tenant: TenantId) -> None:
        for name, data in self._connection.execute("SELECT digest, data FROM contents WHERE tenant = ?", (tenant,)):
            if not isinstance(data, bytes) or digest(data) != name:
                self._fault("contents", tenant, str(name), "the piece is not the one its name says")

    def _read(self, table: str, key: str, columns: tuple[str, ...], tenant: TenantId) -> Rows:
        """A tenant's rows as they are stored, by their key; nothing is believed to be of its type."""
        sql = f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE tenant = ?"  # noqa: S608 (names of ours)
        return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in self._connection.execute(sql, (tenant,))}

    def _compare(self, table: str, tenant: str, rows: Rows, said: Rows) -> None:
        """Name every row that is missing, too many, or not what the log says (None: the log does not say any more)."""
        for key in rows.keys() - said.keys():
            self._fault(table, tenant, str(key), "the log knows nothing of this row")
        for key, expected in said.items():
            if key not in rows:
                self._fault(table, tenant, str(key), "the row is missing")
                continue
            for column, value in rows[key].items():
                if expected[column] is not None and value != expected[column]:
                    self._fault(table, tenant, str(key), f"`{column}` is not what the log says")

    def _fault(self, table: str, tenant: str, place: str, message: str) -> None:
        self.faults.append(Fault(table=table, tenant=_shown(tenant), place=_shown(place), message=_shown(message)))


def _row_of(terms: dict[str, Any]) -> dict[str, Any]:
    """A review's terms as its row holds them."""
    return {
        "question": terms["question"], "quorum": terms["quorum"], "requested_by": " ".join(terms["requested_by"]),
        "opened_at_ms": terms["opened_at"], "expires_at_ms": terms["expires_at"],
        "demands": demands_text(terms.get("demands", {})), "after": terms.get("after", False),
    }  # fmt: skip


def _plain(folded: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(folded)


def _text(data: bytes) -> str:
    """Whatever stands where a text should, so that damage is found at its place and not at the driver's door."""
    return data.decode(errors="surrogateescape")


def _digest(value: object) -> object:
    return digest(value.encode(errors="surrogateescape")) if isinstance(value, str) else value


def _shown(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
