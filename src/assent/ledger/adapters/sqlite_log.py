"""The log in SQLite: entries get their place, their leaf and their tree nodes, and the head is signed, inside the
transaction of the change they record.

A `LogBook` belongs to the writer's thread. It keeps the tail of each tenant's log between transactions and trusts it
only while the signed head in the database is still the one it wrote: another process may have written in between, or
the last commit may have failed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from assent.ledger.checkpoints import Checkpoint, Signer, origin, sign, verify
from assent.ledger.entries import GENESIS, Draft, Entry, entry_bytes, read_entry
from assent.ledger.merkle import Frontier, leaf_hash
from assent.primitives.errors import InvariantBroken, Refused
from assent.primitives.ids import TenantId
from assent.storage.adapters.sqlite_rows import ManyRows

KEEP_EVERY = 1024

_ENTRIES = ManyRows(before="INSERT INTO log (tenant, seq, entry, leaf, salt, payload) VALUES", columns=6)
_NODES = ManyRows(before="INSERT INTO log_nodes (tenant, level, idx, hash) VALUES", columns=4)

Keep = Callable[[list[str]], None]


class _Tail:
    """Where one tenant's log ends. `note` is the head over its first `signed` entries."""

    __slots__ = ("frontier", "note", "prev", "signed")

    def __init__(self, *, frontier: Frontier, prev: str, note: str, signed: int) -> None:
        self.frontier = frontier
        self.prev = prev
        self.note = note
        self.signed = signed

    def copy(self) -> _Tail:
        return _Tail(frontier=self.frontier.copy(), prev=self.prev, note=self.note, signed=self.signed)


Mark = tuple[int, int, dict[TenantId, _Tail], set[TenantId]]


class LogBook:
    """Appends entries of one transaction at a time. `keep` receives the notes that are kept for ever, once durable."""

    def __init__(self, *, signer: Signer, log_id: str, keep: Keep) -> None:
        self._signer = signer
        self.log_id = log_id
        self._keep = keep
        self._known: dict[TenantId, _Tail] = {}
        self._open: dict[TenantId, _Tail] = {}
        self._entries: list[tuple[str, int, bytes, bytes, bytes | None, bytes | None]] = []
        self._nodes: list[tuple[str, int, int, bytes]] = []
        self._wanted: set[TenantId] = set()
        self._kept: list[str] = []

    def begin(self, connection: sqlite3.Connection, *, now_ms: int) -> None:
        """Start a transaction's worth of entries."""
        self._connection = connection
        self._now_ms = now_ms
        self._open = {}
        self._entries = []
        self._nodes = []
        self._wanted = set()
        self._kept = []

    @property
    def now_ms(self) -> int:
        """The database's clock in this transaction: what its entries say."""
        return self._now_ms

    def append(self, tenant: TenantId, entry: Draft) -> int:
        """Give `entry` the next place in the tenant's log and return its seq."""
        tail = self._open.get(tenant)
        if tail is None:
            tail = self._open[tenant] = self._tail(tenant)
        seq = tail.frontier.size
        data = entry_bytes(draft=entry, tenant=tenant, seq=seq, prev=tail.prev, at_ms=self._now_ms)
        leaf = leaf_hash(data)
        self._entries.append((tenant, seq, data, leaf, entry.salt, entry.payload))
        for level, index, node in tail.frontier.append(leaf):
            self._nodes.append((tenant, level, index, node))
        tail.prev = leaf.hex()
        return seq

    def size(self, tenant: TenantId) -> int:
        """How many entries the tenant's log has, as this transaction sees it."""
        tail = self._open.get(tenant) or self._tail(tenant)
        return tail.frontier.size

    def entry(self, tenant: TenantId, seq: int) -> Entry:
        """An entry of the log, as this transaction sees it."""
        for owner, place, data, *_ in reversed(self._entries):
            if (owner, place) == (tenant, seq):
                return read_entry(data)
        row = self._connection.execute("SELECT entry FROM log WHERE tenant = ? AND seq = ?", (tenant, seq)).fetchone()
        if row is None:
            raise InvariantBroken("log_broken", f"entry {seq} of the log of `{tenant}` is missing")
        return read_entry(row[0])

    def mark(self) -> Mark:
        """Where this transaction stands, to come back to with `rewind`."""
        tails = {tenant: tail.copy() for tenant, tail in self._open.items()}
        return len(self._entries), len(self._nodes), tails, set(self._wanted)

    def rewind(self, mark: Mark) -> None:
        """Forget what was appended since `mark`."""
        entries, nodes, self._open, self._wanted = mark
        del self._entries[entries:]
        del self._nodes[nodes:]

    def want_checkpoint(self, tenant: TenantId) -> None:
        """Keep the head that this transaction ends with for ever."""
        self._wanted.add(tenant)
        if tenant not in self._open:
            self._open[tenant] = self._tail(tenant)

    def flush(self) -> None:
        """Write what was appended and sign the new heads. Called last in the transaction."""
        _ENTRIES.run(self._connection, self._entries)
        _NODES.run(self._connection, self._nodes)
        self._entries = []
        self._nodes = []
        for tenant, tail in self._open.items():
            self._sign(tenant, tail)

    def committed(self) -> None:
        """The transaction is durable: its tails may be trusted and its kept notes handed out."""
        self._known.update(self._open)
        self._open = {}
        if self._kept:
            self._keep(self._kept)
            self._kept = []

    def note(self, tenant: TenantId) -> str:
        """The signed head of the tenant's log as this transaction (flushed) or the last one left it."""
        tail = self._open.get(tenant) or self._known.get(tenant)
        return tail.note if tail else ""

    def _sign(self, tenant: TenantId, tail: _Tail) -> None:
        size = tail.frontier.size
        head = Checkpoint(origin=origin(log_id=self.log_id, tenant=tenant), size=size, root=tail.frontier.root())
        tail.note = sign(head, self._signer)
        execute = self._connection.execute
        execute(
            "INSERT INTO log_heads (tenant, size, note) VALUES (?, ?, ?)"
            " ON CONFLICT (tenant) DO UPDATE SET size = excluded.size, note = excluded.note",
            (tenant, size, tail.note),
        )
        crossed = size // KEEP_EVERY > tail.signed // KEEP_EVERY
        tail.signed = size
        if crossed or tenant in self._wanted:
            execute(
                "INSERT OR IGNORE INTO checkpoints (tenant, size, note) VALUES (?, ?, ?)", (tenant, size, tail.note)
            )
            self._kept.append(tail.note)

    def _tail(self, tenant: TenantId) -> _Tail:
        row = self._connection.execute("SELECT size, note FROM log_heads WHERE tenant = ?", (tenant,)).fetchone()
        known = self._known.get(tenant)
        if row is None:
            return _Tail(frontier=Frontier(), prev=GENESIS, note="", signed=0)
        if known is not None and known.note == row[1]:
            return known.copy()
        return self._load(tenant, size=row[0], note=row[1])

    def _load(self, tenant: TenantId, *, size: int, note: str) -> _Tail:
        """Read the tail back. It never repairs: what does not fit stops the write."""
        last = self._connection.execute(
            "SELECT seq, leaf FROM log WHERE tenant = ? ORDER BY seq DESC LIMIT 1", (tenant,)
        ).fetchone()
        if (last[0] + 1 if last else 0) != size:
            raise InvariantBroken(
                "log_broken",
                f"the log of `{tenant}` does not end where its signed head says ({size} entries)",
                hint="run `assent verify`; nothing was written",
            )
        frontier = Frontier.read(size, lambda level, index: self._node(tenant, level, index))
        self._must_be_ours(tenant, frontier, note)
        return _Tail(frontier=frontier, prev=last[1].hex() if last else GENESIS, note=note, signed=size)

    def _must_be_ours(self, tenant: TenantId, frontier: Frontier, note: str) -> None:
        """Never sign on from what was not signed: whoever changed the rows behind our back would get our signature."""
        expected = Checkpoint(
            origin=origin(log_id=self.log_id, tenant=tenant), size=frontier.size, root=frontier.root()
        )
        try:
            said = verify(note, self._signer.key)
        except Refused as error:
            raise InvariantBroken("log_broken", f"the head of the log of `{tenant}` is not ours: {error}") from error
        if said != expected:
            raise InvariantBroken(
                "log_broken",
                f"the log of `{tenant}` is not the one that was signed",
                hint="run `assent verify`; nothing was written",
            )

    def _node(self, tenant: TenantId, level: int, index: int) -> bytes:
        if level == 0:
            row = self._connection.execute("SELECT leaf FROM log WHERE tenant = ? AND seq = ?", (tenant, index))
        else:
            row = self._connection.execute(
                "SELECT hash FROM log_nodes WHERE tenant = ? AND level = ? AND idx = ?", (tenant, level, index)
            )
        found = row.fetchone()
        if found is None:
            raise InvariantBroken("log_broken", f"node {level}/{index} of the log of `{tenant}` is missing")
        return bytes(found[0])
