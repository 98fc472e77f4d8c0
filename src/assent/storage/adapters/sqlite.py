"""SQLite: one file, one writer thread that commits in groups, many readers.

Every write of a process goes through one queue. The writer takes whatever has gathered while the last commit was in
flight, applies it in one transaction, and flushes once for all of them (WAL, synchronous=FULL: a commit returns after
the flush). A caller is answered only after its commit. Other processes may use the same file: transactions begin
IMMEDIATE, so two writers take turns, and nothing read before a transaction is trusted inside it.

Commands of one batch are independent of each other, because each caller waits for its answer. The fast path applies
them in bulk; when bulk does not fit (a duplicate key, a lost lease, …) the transaction is rolled back and the batch is
replayed one command at a time, each in a savepoint, so one refused command never takes its neighbours down.

Times in SQL come from `assent_now_ms()`: the database's clock, fixed for the length of one transaction.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError, InvariantBroken, Unavailable
from assent.storage.adapters.sqlite_faults import translated
from assent.storage.adapters.sqlite_readers import Readers
from assent.storage.migrations import migrations

BATCH_MAX = 512
QUEUE_MAX = 20_000
BUSY_TIMEOUT_MS = 10_000
WAL_PAUSE_S = 0.01
# Pages are written back to the file once the WAL holds this many: rarely enough that it costs little per commit, often
# enough that the WAL stays near 32 MB.
WAL_PAGES = 8_000

Apply = Callable[[sqlite3.Connection, Sequence[Any]], list[Any]]
Committed = Callable[[], None]


class SqliteDatabase:
    """One SQLite file. `apply(connection, commands)` turns a batch of commands into results inside a transaction; a
    result that is an exception rolls back that command alone."""

    def __init__(self, path: Path, *, clock: Clock, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self.path = path
        self._clock = clock
        self._busy_timeout_ms = busy_timeout_ms
        self._now_ms = 0
        self._readers = Readers(self._connect, path=path)
        self._writer: _Writer | None = None

    def open(self, apply: Apply, *, committed: Committed) -> None:
        """Create or migrate the file and start the writer. `committed` is called on its thread after each commit.

        Raises:
            Unavailable: the file is locked, read-only, full, not a database, damaged or newer than this release.
        """
        with translated(self.path):
            connection = self._connect(fixed_clock=True)
            try:
                self._migrate(connection)
            except BaseException:
                connection.close()
                raise
        self._readers.open()
        self._writer = _Writer(connection, apply=apply, committed=committed, stamp=self._stamp, path=self.path)

    async def write(self, command: object) -> Any:
        """Apply one command durably and return its result, or raise the exception it resulted in."""
        if self._writer is None:
            raise Unavailable("database_closed", "the database is not open")
        return await self._writer.submit(command)

    async def read(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run `query` in a reader's transaction, off the event loop."""
        return await self._readers.read(query)

    async def read_quick(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        """As `read`, but in this thread while `query` turns out to be quick."""
        return await self._readers.read_quick(query)

    def read_now(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run `query` in a reader's transaction, in this thread."""
        return self._readers.read_now(query)

    def close(self) -> None:
        """Finish what is queued, wait for reads that run, and close every connection. Idempotent."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._readers.close()

    def _stamp(self) -> None:
        self._now_ms = self._clock.now_ms()

    def _connect(self, *, fixed_clock: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            self._use_wal(connection)
            connection.execute(f"PRAGMA busy_timeout={self._busy_timeout_ms}")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
            now = (lambda: self._now_ms) if fixed_clock else self._clock.now_ms
            connection.create_function("assent_now_ms", 0, now)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Two first starts may ask for this at once, and here SQLite says `busy` without waiting: the wait is ours."""
        tries = max(1, int(self._busy_timeout_ms / 1000 / WAL_PAUSE_S))
        for left in reversed(range(tries)):
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if not left or not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    raise
                threading.Event().wait(WAL_PAUSE_S)
            else:
                return

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._run_migrations(connection)
        except BaseException:
            connection.rollback()
            raise
        connection.execute("COMMIT")

    def _run_migrations(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, ran_at_ms INTEGER NOT NULL)"
        )
        # On a read-only file BEGIN IMMEDIATE quietly begins a read; only a write, even of nothing, says so.
        connection.execute("DELETE FROM schema_migrations WHERE number < 1")
        ran = dict(connection.execute("SELECT number, digest FROM schema_migrations").fetchall())
        known = migrations()
        if max(ran, default=0) > known[-1].number:
            raise Unavailable(
                "database_newer",
                f"`{self.path}` was written by a newer release (schema {max(ran)}, this one knows {known[-1].number})",
                hint="upgrade assent, or open another folder",
            )
        for step in known:
            if step.number not in ran:
                _run_script(connection, step.sql)
                connection.execute(
                    "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
                    (step.number, step.name, step.digest, self._clock.now_ms()),
                )
            elif ran[step.number] != step.digest:
                raise InvariantBroken(
                    "migration_changed", f"migration {step.number} of `{self.path}` is not the one this release ships"
                )


class _Writer:
    """The one thread that writes. Its queue is bounded; a full queue is an answer, not a wait."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        apply: Apply,
        committed: Committed,
        stamp: Callable[[], None],
        path: Path,
    ) -> None:
        self._connection = connection
        self._apply = apply
        self._committed = committed
        self._stamp = stamp
        self._path = path
        self._queue: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        self._queued = 0
        self._counting = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="assent-writer", daemon=True)
        self._thread.start()

    async def submit(self, command: object) -> Any:
        if self._closed:
            raise Unavailable("database_closed", "the database is closing")
        loop = asyncio.get_running_loop()
        gathered = self._gathered.get(loop)
        if self._queued + len(gathered or ()) >= QUEUE_MAX:
            raise Unavailable("queue_full", f"{QUEUE_MAX} writes are waiting", hint="slow down and try again")
        job = _Job(command, loop, loop.create_future())
        if gathered is None:
            self._gathered[loop] = [job]
            loop.call_soon(self._hand_over, loop)
        else:
            gathered.append(job)
        return await job.future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the writer what all callers of this turn of the loop have asked for: one wake-up, one larger batch."""
        jobs = self._gathered.pop(loop)
        self._count(len(jobs))
        self._queue.put(jobs)
        if not self._thread.is_alive():
            self._turn_away()

    def _count(self, change: int) -> None:
        with self._counting:
            self._queued += change

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()
            self._connection.close()
            self._turn_away()

    def _turn_away(self) -> None:
        """Answer what was handed over after the end, so that nobody waits for ever."""
        while not self._queue.empty():
            jobs = self._queue.get() or []
            _answer(jobs, [Unavailable("database_closed", "the database is closing")] * len(jobs))

    def _run(self) -> None:
        open_ = True
        while open_:
            taken = [self._queue.get()]
            while not self._queue.empty():
                taken.append(self._queue.get_nowait())
            open_ = None not in taken
            jobs = [job for some in taken if some is not None for job in some]
            for start in range(0, len(jobs), BATCH_MAX):
                batch = jobs[start : start + BATCH_MAX]
                results = self._commit(batch)
                self._count(-len(batch))
                _answer(batch, results)

    def _commit(self, batch: list[_Job]) -> list[Any]:
        commands = [job.command for job in batch]
        try:
            with translated(self._path):
                return self._transact(lambda: self._apply(self._connection, commands))
        except AssentError as error:
            if isinstance(error, Unavailable) or len(commands) == 1:
                return [error] * len(commands)
        except Exception as error:  # noqa: BLE001 (the worker loop's top: a bug must not stop all writing)
            if len(commands) == 1:
                return [error]
        return [self._commit_alone(command) for command in commands]

    def _commit_alone(self, command: object) -> Any:
        try:
            with translated(self._path):
                return self._transact(lambda: self._apply(self._connection, [command]))[0]
        except Exception as error:  # noqa: BLE001 (the same: the caller gets it)
            return error

    def _transact(self, work: Callable[[], list[Any]]) -> list[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._stamp()
            results = work()
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        self._tell()
        return results

    def _tell(self) -> None:
        """What is committed stands, whatever the listener does with the news; applying it again would do it twice."""
        try:
            self._committed()
        except Exception as error:  # noqa: BLE001 (reported like any uncaught one, and the thread goes on)
            threading.excepthook(
                threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
            )


class _Job:
    __slots__ = ("command", "future", "loop")

    def __init__(self, command: object, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self.command = command
        self.loop = loop
        self.future = future


def _answer(batch: list[_Job], results: list[Any]) -> None:
    """Resolve every future, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for job, result in zip(batch, results, strict=True):
        by_loop.setdefault(job.loop, []).append((job.future, result))
    for loop, pairs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, pairs)
        except RuntimeError:
            # The caller's loop is gone; its command is durable all the same.
            continue


def _resolve(pairs: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if future.cancelled():
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def _run_script(connection: sqlite3.Connection, sql: str) -> None:
    """Run statements one by one: `executescript` would commit the transaction that must hold them together."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
