"""The ledger's store on SQLite: every command is applied, with its log entry, in one group-committed transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from assent.ledger.adapters.sqlite_budgets import Budgets, count, select_budgets
from assent.ledger.adapters.sqlite_effects import (
    IS_OPEN,
    OPEN_STATES,
    Effects,
    find_by_key,
    find_effect,
    select_effects,
)
from assent.ledger.adapters.sqlite_journals import find_journal, select_contents, select_journals, write_notes
from assent.ledger.adapters.sqlite_leases import fence_out, read_leases, release_lease, renew_lease, take_lease
from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.adapters.sqlite_reviews import Reviews, activate_policy, select_precedents, select_reviews
from assent.ledger.budgets import Budget
from assent.ledger.commands import (
    Accept,
    ActivatePolicy,
    AnswerReview,
    Command,
    DismissStop,
    Dispatch,
    EscalateReview,
    ExpireReviews,
    FenceOut,
    Judge,
    KeepCheckpoint,
    OpenLog,
    ReleaseLease,
    RenewLease,
    Settle,
    TakeLease,
    Withdraw,
    WriteNotes,
)
from assent.ledger.effects import Effect, EffectState
from assent.ledger.entries import draft, read_entry
from assent.ledger.journals import Journal, JournalKind
from assent.ledger.ports import ActivePolicy, Record
from assent.ledger.rates import Count
from assent.ledger.reviews import Review, ReviewState
from assent.primitives.digests import Digest
from assent.primitives.errors import InvariantBroken, Malformed, NotFound
from assent.primitives.ids import EffectId, ReviewId, TenantId
from assent.primitives.leases import Lease
from assent.storage.adapters.sqlite import SqliteDatabase


class SqliteLedger:
    """`LedgerStore` on one SQLite file."""

    def __init__(
        self, database: SqliteDatabase, *, book: LogBook, more: Mapping[type, Callable[..., Any]] | None = None
    ) -> None:
        """`more` are commands that write no log entry, with what applies them."""
        self._database = database
        self._book = book
        budgets = Budgets(book)
        self._effects = Effects(book, budgets)
        reviews = Reviews(book)
        self._applies: dict[type, Callable[[sqlite3.Connection, Any], Any]] = {
            Accept: self._effects.accept,
            Dispatch: self._effects.dispatch,
            Settle: self._effects.settle,
            Judge: self._effects.judge,
            Withdraw: self._effects.withdraw,
            DismissStop: budgets.dismiss,
            AnswerReview: reviews.answer,
            EscalateReview: reviews.escalate,
            ExpireReviews: reviews.expire,
            ActivatePolicy: lambda connection, command: activate_policy(connection, book, command),
            TakeLease: take_lease,
            RenewLease: renew_lease,
            ReleaseLease: release_lease,
            WriteNotes: lambda connection, command: write_notes(connection, book, command),
            FenceOut: lambda connection, command: fence_out(connection, book, command),
            OpenLog: self._open_log,
            KeepCheckpoint: self._keep_checkpoint,
            **(more or {}),
        }

    def open(self) -> None:
        """Open the database. Raises what `SqliteDatabase.open` raises."""
        self._database.open(self._apply_batch, committed=self._book.committed)

    def close(self) -> None:
        """Finish what is queued and close. Idempotent."""
        self._database.close()

    async def apply(self, command: Command) -> Any:
        return await self._database.write(command)

    async def look(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run a reader's `query` of this package."""
        return await self._database.read(query)

    async def look_quick(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        """As `look`, but in the caller's thread while the query turns out to be quick."""
        return await self._database.read_quick(query)

    def look_now(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        """As `look`, in the caller's thread, however long it takes."""
        return self._database.read_now(query)

    async def effect(self, tenant: TenantId, effect: EffectId) -> Effect | None:
        found: Effect | None = await self._database.read(lambda c: find_effect(c, tenant, effect))
        return found

    async def effect_by_key(self, tenant: TenantId, key: str) -> Effect | None:
        found: Effect | None = await self._database.read(lambda c: find_by_key(c, tenant, key))
        return found

    async def effects(
        self, tenant: TenantId, *, states: tuple[EffectState, ...] = (), run: str = "", limit: int
    ) -> list[Effect]:
        where, values = ["tenant = ?"], [tenant]
        if states:
            where.append(f"state IN ({','.join('?' * len(states))})")
            where += [IS_OPEN] * OPEN_STATES.issuperset(states)
            values += [TenantId(s) for s in states]
        if run:
            where.append("run = ? AND run <> ''")
            values.append(TenantId(run))
        sql = f"{' AND '.join(where)} ORDER BY rowid DESC LIMIT {int(limit)}"
        found: list[Effect] = await self._database.read(lambda c: select_effects(c, sql, values))
        return found[::-1]

    async def review(self, tenant: TenantId, review: ReviewId) -> Review | None:
        rows = await self._database.read(lambda c: select_reviews(c, "tenant = ? AND id = ?", (tenant, review)))
        return rows[0] if rows else None

    async def precedents(self, tenant: TenantId, operation: str, principal: str, *, limit: int) -> list[Review]:
        found: list[Review] = await self._database.read(
            lambda c: select_precedents(c, tenant, operation, principal, limit=limit)
        )
        return found

    async def reviews(self, tenant: TenantId, *, states: tuple[ReviewState, ...], limit: int) -> list[Review]:
        where = f"tenant = ? AND state IN ({','.join('?' * len(states))}) ORDER BY opened_at_ms LIMIT {int(limit)}"
        found: list[Review] = await self._database.read(lambda c: select_reviews(c, where, (tenant, *states)))
        return found

    async def history(self, tenant: TenantId, effect: Effect) -> list[Record]:
        found: list[Record] = await self._database.read(lambda c: _walk_back(c, tenant, effect))
        return found

    async def histories(self, tenant: TenantId, run: str, *, limit: int) -> list[tuple[Effect, list[Record]]]:
        sql = f"tenant = ? AND run = ? AND run <> '' ORDER BY rowid DESC LIMIT {int(limit)}"
        found: list[tuple[Effect, list[Record]]] = await self._database.read(
            lambda c: [(one, _walk_back(c, tenant, one)) for one in select_effects(c, sql, (tenant, run))]
        )
        return found[::-1]

    async def budgets(self, tenant: TenantId, *, scope: str = "", stopped: bool = False, limit: int) -> list[Budget]:
        found: list[Budget] = await self._database.read(
            lambda c: select_budgets(c, tenant, scope=scope, stopped=stopped, limit=limit)
        )
        return found

    async def counted(self, tenant: TenantId, counts: Sequence[Count]) -> list[int]:
        found: list[int] = await self._database.read_quick(lambda c: count(c, tenant, counts))
        return found

    async def journal(self, tenant: TenantId, kind: JournalKind, id_: str) -> Journal | None:
        found: Journal | None = await self._database.read(lambda c: find_journal(c, tenant, kind, id_))
        return found

    async def journals(
        self,
        tenant: TenantId,
        kind: JournalKind,
        *,
        states: tuple[str, ...] = (),
        parent: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Journal]:
        found: list[Journal] = await self._database.read(
            lambda c: select_journals(c, tenant, kind, states=states, parent=parent, before=before, limit=limit)
        )
        return found

    async def notes(self, tenant: TenantId, kind: JournalKind, id_: str) -> list[Record]:
        found: list[Record] = await self._database.read(lambda c: _walk_journal(c, tenant, kind, id_))
        return found

    async def contents(self, tenant: TenantId, digests: Collection[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = await self._database.read(lambda c: select_contents(c, tenant, digests))
        return found

    async def records(self, tenant: TenantId, *, after: int, limit: int) -> list[Record]:
        sql = "SELECT entry, payload FROM log WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?"
        found: list[Record] = await self._database.read(
            lambda c: [_record(*row) for row in c.execute(sql, (tenant, after, limit))]
        )
        return found

    async def records_at(self, tenant: TenantId, seqs: Collection[int]) -> dict[int, Record]:
        found: dict[int, Record] = await self._database.read(lambda c: _records_at(c, tenant, seqs))
        return found

    async def size(self, tenant: TenantId) -> int:
        sql = "SELECT size FROM log_heads WHERE tenant = ?"
        row = await self._database.read(lambda c: c.execute(sql, (tenant,)).fetchone())
        return int(row[0]) if row else 0

    async def names(self, tenant: TenantId, part: str, *, limit: int) -> list[str]:
        sql = (
            "SELECT id FROM effects WHERE tenant = ?1 AND instr(id, ?2)"
            " UNION SELECT id FROM reviews WHERE tenant = ?1 AND instr(id, ?2)"
            " UNION SELECT run FROM effects WHERE tenant = ?1 AND run <> '' AND instr(run, ?2) LIMIT ?3"
        )
        rows = await self._database.read(lambda c: c.execute(sql, (tenant, part, limit)).fetchall())
        return [str(name) for (name,) in rows]

    async def policy_revision(self, tenant: TenantId, revision: str) -> tuple[int, str] | None:
        sql = "SELECT number, text FROM policy_revisions WHERE tenant = ? AND revision = ? ORDER BY number DESC LIMIT 1"
        row = await self._database.read(lambda c: c.execute(sql, (tenant, revision)).fetchone())
        return (row[0], row[1]) if row else None

    async def active_policy(self, tenant: TenantId) -> ActivePolicy | None:
        sql = (
            "SELECT a.revision, a.number, r.text, r.signatures FROM policy_active a JOIN policy_revisions r"
            " ON r.tenant = a.tenant AND r.number = a.number WHERE a.tenant = ?"
        )
        row = await self._database.read(lambda c: c.execute(sql, (tenant,)).fetchone())
        return ActivePolicy(Digest(row[0]), row[1], row[2], tuple(row[3].splitlines())) if row else None

    async def leases(self) -> list[tuple[Lease, bool]]:
        found: list[tuple[Lease, bool]] = await self._database.read(read_leases)
        return found

    def _apply_batch(self, connection: sqlite3.Connection, commands: Sequence[Command]) -> list[Any]:
        now_ms = connection.execute("SELECT assent_now_ms()").fetchone()[0]
        self._book.begin(connection, now_ms=now_ms)
        if len(commands) == 1:  # what it raises undoes the transaction, which is all its own
            results: list[Any] | None = [self._one(connection, commands[0])]
        else:
            results = self._in_bulk(connection, commands)
        if results is None:
            results = [self._alone(connection, command) for command in commands]
        self._book.flush()
        if KeepCheckpoint in map(type, commands):
            return [_note_of(self._book, c, r) for c, r in zip(commands, results, strict=True)]
        return results

    def _in_bulk(self, connection: sqlite3.Connection, commands: Sequence[Command]) -> list[Any] | None:
        """All accepts, then all settles, when the batch holds nothing else and every guard holds; otherwise None."""
        accepts = [c for c in commands if type(c) is Accept and c.review is None and c.shortage is None and not c.notes]
        settles = [c for c in commands if type(c) is Settle]
        if len(accepts) + len(settles) != len(commands):
            return None
        mark = self._book.mark()
        connection.execute("SAVEPOINT bulk")
        accepted = self._effects.accept_all(connection, accepts)
        settled = None if accepted is None else self._effects.settle_all(connection, settles)
        if accepted is None or settled is None:
            connection.execute("ROLLBACK TO bulk")
            self._book.rewind(mark)
            return None
        connection.execute("RELEASE bulk")
        first, second = iter(accepted), iter(settled)
        return [next(first) if type(c) is Accept else next(second) for c in commands]

    def _alone(self, connection: sqlite3.Connection, command: Command) -> Any:
        """Apply one command in a savepoint; what it raises is its own result and undoes nothing else."""
        mark = self._book.mark()
        connection.execute("SAVEPOINT alone")
        try:
            result = self._one(connection, command)
        except sqlite3.DatabaseError:
            raise  # the database itself: the whole batch fails
        except Exception as error:  # noqa: BLE001 (the top of one command: the caller gets it)
            connection.execute("ROLLBACK TO alone")
            self._book.rewind(mark)
            result = error
        connection.execute("RELEASE alone")
        return result

    def _one(self, connection: sqlite3.Connection, command: Command) -> Any:
        try:
            return self._applies[type(command)](connection, command)
        except sqlite3.IntegrityError as error:
            raise InvariantBroken("row_taken", f"a row of `{command.tenant}` would stand twice: {error}") from error
        except UnicodeEncodeError as error:
            raise Malformed("text_malformed", f"`{error.object[:60]!a}` is not valid Unicode") from error

    def _open_log(self, _: sqlite3.Connection, command: OpenLog) -> None:
        if not self._book.size(command.tenant):
            self._book.append(command.tenant, draft("log.opened", {"log": self._book.log_id}))

    def _keep_checkpoint(self, _: sqlite3.Connection, command: KeepCheckpoint) -> None:
        if not self._book.size(command.tenant):
            raise NotFound("log_not_found", f"`{command.tenant}` has no log", hint="it begins with the first call")
        self._book.want_checkpoint(command.tenant)


def _note_of(book: LogBook, command: Command, result: Any) -> Any:
    """A kept checkpoint's note exists once the head is signed."""
    return book.note(command.tenant) if type(command) is KeepCheckpoint and result is None else result


def _walk_back(connection: sqlite3.Connection, tenant: TenantId, effect: Effect) -> list[Record]:
    """The effect's entries; none when the tenant has no such effect."""
    return _walk(connection, tenant, effect.last_seq if find_effect(connection, tenant, effect.id) else -1)


def _walk_journal(connection: sqlite3.Connection, tenant: TenantId, kind: JournalKind, id_: str) -> list[Record]:
    """The journal's entries; none when the tenant has no such journal."""
    journal = find_journal(connection, tenant, kind, id_)
    return _walk(connection, tenant, journal.last_seq if journal else -1)


def _walk(connection: sqlite3.Connection, tenant: TenantId, seq: int) -> list[Record]:
    """From the entry at `seq` back to the first of its history; oldest first."""
    found: list[Record] = []
    while seq >= 0:
        row = connection.execute(
            "SELECT entry, payload FROM log WHERE tenant = ? AND seq = ?", (tenant, seq)
        ).fetchone()
        record = _record(*row)
        found.append(record)
        seq = record.body["before"]
    return found[::-1]


def _records_at(connection: sqlite3.Connection, tenant: TenantId, seqs: Collection[int]) -> dict[int, Record]:
    sql = "SELECT entry, payload FROM log WHERE tenant = ? AND seq = ?"
    rows = ((seq, connection.execute(sql, (tenant, seq)).fetchone()) for seq in seqs)
    return {seq: _record(*row) for seq, row in rows if row is not None}


def _record(entry: bytes, payload: bytes | None) -> Record:
    read = read_entry(entry)
    return Record(
        at=read.at, body=read.body, prev=read.prev, seq=read.seq, tenant=read.tenant, type=read.type, v=read.v,
        payload=payload,
    )  # fmt: skip
