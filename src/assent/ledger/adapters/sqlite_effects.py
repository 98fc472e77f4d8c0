"""Effects in SQLite: accept, dispatch, settle, judge, withdraw. Every guard stands in the statement that writes.

The two hot commands, a plain accept and a settle, also come in bulk: one call for all of a batch, whose row
count says whether every guard held. When it did not, the batch is replayed one by one, where each refusal is named.
"""

# ruff: noqa: S608  # the SQL is put together from this package's own texts only; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec import to_builtins
from msgspec.structs import replace

from assent.ledger.acceptances import held, placed
from assent.ledger.adapters.sqlite_budgets import Budgets
from assent.ledger.adapters.sqlite_halts import halted, has_halts
from assent.ledger.adapters.sqlite_journals import keep_contents, write_notes
from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.budgets import Shortage
from assent.ledger.commands import Accept, Accepted, Dispatch, Judge, Settle, Settled, Withdraw, WriteNotes
from assent.ledger.effects import EFFECT, Effect, EffectState, Move
from assent.ledger.entries import Draft, draft
from assent.ledger.halts import scopes_of
from assent.ledger.reviews import REVIEW, Review, ReviewMove, ReviewState, demands_text
from assent.primitives.errors import Conflict, InvariantBroken, NotFound, Unavailable
from assent.primitives.ids import EffectId, TenantId
from assent.primitives.leases import Fence
from assent.storage.adapters.sqlite_rows import ManyRows

# The guards of a batch. A transaction begins IMMEDIATE, so what they read cannot change before it commits, and asking
# once for every distinct fence and revision of a batch guards each of its rows.
_HELD = (
    "SELECT 1 FROM leases WHERE tenant = '' AND name = ? AND holder = name AND fence = ?"
    " AND expires_at_ms > assent_now_ms()"
)
# An attempt may settle on a lapsed lease as long as nobody took it over: taking over moves the fence.
_NOT_FENCED_OUT = "SELECT 1 FROM leases WHERE tenant = '' AND name = ? AND fence = ?"
_ACTIVE = "SELECT 1 WHERE IFNULL((SELECT revision FROM policy_active WHERE tenant = ?), '') = ?"

# An approval that is good for its effect now.
SKEW_MS_MAX = 60_000
_APPROVED = "tenant = ? AND id = ? AND effect = ? AND state = 'approved' AND expires_at_ms > assent_now_ms()"

# The states that the index `effects_open` holds, and its condition word for word: SQLite uses a partial index only for
# a query that repeats it.
OPEN_STATES = frozenset({"in_review", "granted", "dispatched", "unknown", "quarantined"})
IS_OPEN = (
    "(state = 'in_review' OR state = 'granted' OR state = 'dispatched' OR state = 'unknown' OR state = 'quarantined')"
)

_COLUMNS = (
    "tenant, id, key, intent, operation, run, parent, state, code, review, attempt, node, fence, observations,"
    " first_seq, last_seq"
)
_ACCEPT = ManyRows(
    before=f"INSERT INTO effects ({_COLUMNS}) VALUES", columns=16, after="ON CONFLICT (tenant, key) DO NOTHING"
)
_SETTLE = (
    "UPDATE effects SET state = ?, code = ?, last_seq = ? WHERE tenant = ? AND id = ? AND attempt = ? AND node = ?"
    " AND fence = ? AND last_seq = ? AND (state = 'dispatched' OR state = 'unknown')"
)


def effect_of(row: tuple[object, ...]) -> Effect:
    """An effect from a row of `SELECT {columns}`."""
    values = dict(zip(Effect.__struct_fields__, row, strict=True))
    values["key"] = values["key"] or ""
    return Effect(**{**values, "state": EffectState(values["state"])})  # type: ignore[arg-type]


def find_effect(connection: sqlite3.Connection, tenant: TenantId, effect: EffectId) -> Effect | None:
    """The effect as it stands, or None."""
    sql = f"SELECT {_COLUMNS} FROM effects WHERE tenant = ? AND id = ?"
    row = connection.execute(sql, (tenant, effect)).fetchone()
    return effect_of(row) if row else None


def find_by_key(connection: sqlite3.Connection, tenant: TenantId, key: str) -> Effect | None:
    """The effect that has the idempotency key, or None."""
    sql = f"SELECT {_COLUMNS} FROM effects WHERE tenant = ? AND key = ?"
    row = connection.execute(sql, (tenant, key)).fetchone()
    return effect_of(row) if row else None


def select_effects(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> list[Effect]:
    """Effects by a condition written in this package (never from outside)."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM effects WHERE {where}", values).fetchall()
    return [effect_of(row) for row in rows]


class Effects:
    """The effect commands, applied inside the writer's transaction."""

    def __init__(self, book: LogBook, budgets: Budgets) -> None:
        self._book = book
        self._budgets = budgets

    def accept_all(self, connection: sqlite3.Connection, commands: Sequence[Accept]) -> list[Accepted] | None:
        """Accept a batch at once, or None when some guard did not hold (the caller then undoes and goes one by one)."""
        if not _all_hold(connection, commands):
            return None
        holding = [c for c in commands if c.holds or c.ceilings]
        if holding and self._budgets.short(connection, holding) is not None:
            return None
        seqs = [self._book.append(c.tenant, c.draft) for c in commands]
        rows = [_accept_row(c, seq) for c, seq in zip(commands, seqs, strict=True)]
        if _ACCEPT.run(connection, rows) != len(rows):
            return None
        for command in commands:
            keep_contents(connection, command.tenant, command.contents)
        return [Accepted(effect=c.effect, seq=seq, fresh=True) for c, seq in zip(commands, seqs, strict=True)]

    def accept(self, connection: sqlite3.Connection, command: Accept) -> Accepted | Shortage:
        """Accept one, naming what stands against it. With a shortage nothing was written."""
        self._must_hold(connection, command)
        if command.holds or command.ceilings:
            if command.intent.key and find_by_key(connection, command.tenant, command.intent.key):
                return self._accept_again(connection, command)
            lacking = self._budgets.short(connection, [command])
            if isinstance(lacking, Conflict):
                raise lacking
            if lacking is not None:
                return lacking
        mark = self._book.mark()
        seq = self._book.append(command.tenant, command.draft)
        if _ACCEPT.run(connection, [_accept_row(command, seq)]) != 1:
            self._book.rewind(mark)
            return self._accept_again(connection, command)
        keep_contents(connection, command.tenant, command.contents)
        if command.review is not None:
            _must_agree_on_time(connection, command.review)
            insert_review(connection, command.review)
        if command.notes:
            said = WriteNotes(tenant=command.tenant, fence=command.fence, notes=command.notes)
            write_notes(connection, self._book, said)
        if command.shortage is not None:
            self._budgets.stop(connection, command.tenant, command.effect, command.shortage)
        return Accepted(effect=command.effect, seq=seq, fresh=True)

    def settle_all(self, connection: sqlite3.Connection, commands: Sequence[Settle]) -> list[Settled] | None:
        """Settle a batch at once, or None when some guard did not hold."""
        if not all(_not_fenced_out(connection, fence) for fence in {c.fence for c in commands}):
            return None
        seqs = [self._book.append(c.tenant, c.draft) for c in commands]
        rows = [_settle_row(c, seq) for c, seq in zip(commands, seqs, strict=True)]
        if connection.executemany(_SETTLE, rows).rowcount != len(rows):
            return None
        self._budgets.settle(connection, commands)
        return [Settled(seq=seq, applied=True) for seq in seqs]

    def settle(self, connection: sqlite3.Connection, command: Settle) -> Settled:
        """Settle one; a result that comes too late is recorded and changes nothing."""
        mark = self._book.mark()
        seq = self._book.append(command.tenant, command.draft)
        held = _not_fenced_out(connection, command.fence)
        if held and connection.execute(_SETTLE, _settle_row(command, seq)).rowcount == 1:
            self._budgets.settle(connection, [command])
            return Settled(seq=seq, applied=True)
        self._book.rewind(mark)
        effect = self._must_find(connection, command.tenant, command.effect)
        if held and self._only_late_since(effect, command.last_seq):
            body = {**command.draft.body, "before": effect.last_seq}
            return self.settle(
                connection, replace(command, last_seq=effect.last_seq, draft=replace(command.draft, body=body))
            )
        kept = {k: v for k, v in command.draft.body.items() if k not in ("moves", "state", "before")}
        entry = Draft(
            type="effect.late_result",
            body={**kept, "before": effect.last_seq},
            salt=command.draft.salt,
            payload=command.draft.payload,
        )
        seq = self._book.append(command.tenant, entry)
        connection.execute(
            "UPDATE effects SET last_seq = ? WHERE tenant = ? AND id = ?", (seq, command.tenant, command.effect)
        )
        return Settled(seq=seq, applied=False)

    def dispatch(self, connection: sqlite3.Connection, command: Dispatch) -> int | Shortage:
        """Dispatch a granted effect, or send an unknown one again."""
        self._must_hold(connection, command)
        lacking = self._budgets.short(connection, [command]) if command.holds or command.ceilings else None
        if isinstance(lacking, Shortage):
            return self._stop(connection, command, lacking)
        was = EffectState.UNKNOWN if command.again else EffectState.GRANTED
        becomes = was if command.again else EFFECT.after(was, Move.DISPATCH)
        body = {
            "effect": command.effect, "before": command.last_seq, "moves": [] if command.again else [Move.DISPATCH],
            "state": becomes, "attempt": command.attempt, "grant": command.grant_id, "node": command.fence.node,
            "fence": command.fence.number, "policy": command.policy_revision, "rules": list(command.rules),
            "review": command.review or "", **placed(command.placement), **held(command.holds),
        }  # fmt: skip
        seq = self._book.append(command.tenant, draft("effect.resent" if command.again else "effect.dispatched", body))
        changed = connection.execute(
            "UPDATE effects SET state = ?, attempt = ?, node = ?, fence = ?, last_seq = ?"
            " WHERE tenant = ? AND id = ? AND state = ? AND last_seq = ? AND (? OR review = ?)",
            (
                becomes, command.attempt, command.fence.node, command.fence.number, seq,
                command.tenant, command.effect, was, command.last_seq, command.again, command.review or "",
            ),
        ).rowcount  # fmt: skip
        if changed != 1:
            raise self._moved(connection, command)
        if command.review is not None:
            self._consume(connection, command)
        if lacking is not None:
            raise lacking
        return seq

    def judge(self, connection: sqlite3.Connection, command: Judge) -> int:
        """Move an unknown effect by what was observed, attested, or given up on."""
        seq = self._book.append(command.tenant, command.draft)
        changed = connection.execute(
            "UPDATE effects SET state = ?, code = ?, observations = ?, last_seq = ?"
            " WHERE tenant = ? AND id = ? AND state = 'unknown' AND last_seq = ?",
            (
                command.state, command.code, command.observations, seq,
                command.tenant, command.effect, command.last_seq,
            ),
        ).rowcount  # fmt: skip
        if changed != 1:
            raise self._moved(connection, command)
        self._budgets.judge(connection, command)
        return seq

    def withdraw(self, connection: sqlite3.Connection, command: Withdraw) -> int:
        """End a granted effect that may no longer run."""
        state = EFFECT.after(EffectState.GRANTED, command.move)
        ends = ReviewMove.EXPIRE if command.move is Move.EXPIRE else ReviewMove.VOID
        review_state = REVIEW.after(ReviewState.APPROVED, ends)
        body = {
            "effect": command.effect, "before": command.last_seq, "moves": [command.move], "state": state,
            "code": command.code, "policy": command.policy_revision, "rules": list(command.rules),
            "review": command.review, "review_state": review_state,
        }  # fmt: skip
        seq = self._book.append(command.tenant, draft("effect.withdrawn", body))
        changed = connection.execute(
            "UPDATE effects SET state = ?, code = ?, last_seq = ?"
            " WHERE tenant = ? AND id = ? AND state = 'granted' AND last_seq = ? AND review = ?",
            (state, command.code, seq, command.tenant, command.effect, command.last_seq, command.review),
        ).rowcount
        if changed != 1:
            raise self._moved(connection, command)
        connection.execute(
            "UPDATE reviews SET state = ? WHERE tenant = ? AND id = ? AND state = 'approved'",
            (review_state, command.tenant, command.review),
        )
        return seq

    def _stop(self, connection: sqlite3.Connection, command: Dispatch, why: Shortage) -> Shortage:
        """Record that a granted effect found no room in a budget. It stays granted, and its approval stays good."""
        body = {
            "effect": command.effect, "before": command.last_seq, "moves": [], "state": EffectState.GRANTED,
            "budget": to_builtins(why),
        }  # fmt: skip
        seq = self._book.append(command.tenant, draft("effect.stopped", body))
        changed = connection.execute(
            "UPDATE effects SET last_seq = ?"
            " WHERE tenant = ? AND id = ? AND state = 'granted' AND last_seq = ? AND review = ?",
            (seq, command.tenant, command.effect, command.last_seq, command.review or ""),
        ).rowcount
        if changed != 1:
            raise self._moved(connection, command)
        if connection.execute(f"SELECT 1 FROM reviews WHERE {_APPROVED}", _approval(command)).fetchone() is None:
            raise _approval_gone(command)
        self._budgets.stop(connection, command.tenant, command.effect, why)
        return why

    def _only_late_since(self, effect: Effect, dispatched_at: int) -> bool:
        """Whether only earlier attempts' late results came after the dispatch: its attempt is still the current one."""
        seq = effect.last_seq
        while seq > dispatched_at:
            entry = self._book.entry(effect.tenant, seq)
            if entry.type != "effect.late_result":
                return False
            seq = entry.body["before"]
        return seq == dispatched_at < effect.last_seq

    def _consume(self, connection: sqlite3.Connection, command: Dispatch) -> None:
        sql = f"UPDATE reviews SET state = 'consumed' WHERE {_APPROVED}"
        if connection.execute(sql, _approval(command)).rowcount != 1:
            raise _approval_gone(command)
        self._book.want_checkpoint(command.tenant)

    def _accept_again(self, connection: sqlite3.Connection, command: Accept) -> Accepted:
        key = command.intent.key
        existing = find_by_key(connection, command.tenant, key) if key else None
        if existing is None:
            raise InvariantBroken("accept_ignored", f"effect `{command.effect}` was not written")
        if existing.intent != command.intent_digest:
            raise Conflict(
                "key_conflict", f"the idempotency key `{key}` already belongs to another call (`{existing.id}`)",
                hint="use a new key, or repeat the call exactly",
            )  # fmt: skip
        return Accepted(effect=existing.id, seq=existing.first_seq, fresh=False)

    def _must_hold(self, connection: sqlite3.Connection, command: Accept | Dispatch) -> None:
        """Name the guard that does not hold in this transaction."""
        revision = command.decision.policy_revision if isinstance(command, Accept) else command.policy_revision
        if not _held(connection, command.fence):
            raise Unavailable("lease_lost", "this node's lease lapsed or was taken", hint="start again")
        if not _active(connection, command.tenant, revision):
            raise Conflict("policy_moved", "the policy changed while this was decided", hint="ask again")
        scope = _halted(connection, command)
        if scope:
            raise Conflict("halted", f"`{scope}` is halted", hint="see `assent halts`; `assent lift` lets it go on")

    def _moved(self, connection: sqlite3.Connection, command: Dispatch | Judge | Withdraw) -> Conflict:
        """Why no row was changed: the effect stands elsewhere by now (one that is not there is `NotFound`)."""
        self._must_find(connection, command.tenant, command.effect)
        return Conflict("effect_moved", f"effect `{command.effect}` has moved on meanwhile", hint="look at it again")

    def _must_find(self, connection: sqlite3.Connection, tenant: TenantId, effect: EffectId) -> Effect:
        found = find_effect(connection, tenant, effect)
        if found is None:
            raise NotFound("effect_not_found", f"there is no effect `{effect}`")
        return found


def _must_agree_on_time(connection: sqlite3.Connection, review: Review) -> None:
    """A review ends by the database's clock, so it must have begun by it: a node whose clock is off would let a
    question stand for longer than its rule says."""
    off_ms = review.opened_at_ms - int(connection.execute("SELECT assent_now_ms()").fetchone()[0])
    if abs(off_ms) > SKEW_MS_MAX:
        raise Unavailable(
            "clock_skewed",
            f"this node's clock is {off_ms / 1_000:+.0f} s off the database's, so no review can be opened",
            hint="set the clock; `assent doctor` looks at it",
        )


def insert_review(connection: sqlite3.Connection, review: Review) -> None:
    """Write a new review's row."""
    connection.execute(
        "INSERT INTO reviews (tenant, id, effect, intent, state, question, quorum, requested_by, approvers, reason,"
        " opened_at_ms, expires_at_ms, demands, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', ?, ?, ?, ?)",
        (
            review.tenant, review.id, review.effect, review.intent, review.state, review.question, review.quorum,
            " ".join(review.requested_by), review.opened_at_ms, review.expires_at_ms, demands_text(review.demands),
            review.after,
        ),
    )  # fmt: skip


def _approval(command: Dispatch) -> tuple[object, ...]:
    return command.tenant, command.review, command.effect


def _approval_gone(command: Dispatch) -> Conflict:
    return Conflict("approval_gone", f"review `{command.review}` is no longer an approval", hint="ask again")


def _halted(connection: sqlite3.Connection, command: Accept | Dispatch) -> str:
    """The scope by which what would be dispatched is halted, or an empty string."""
    if isinstance(command, Dispatch):
        return halted(connection, command.tenant, command.scopes)
    if command.state is not EffectState.DISPATCHED:
        return ""
    return halted(connection, command.tenant, scopes_of(command.intent))


def _held(connection: sqlite3.Connection, fence: Fence) -> bool:
    return connection.execute(_HELD, (fence.node, fence.number)).fetchone() is not None


def _not_fenced_out(connection: sqlite3.Connection, fence: Fence) -> bool:
    return connection.execute(_NOT_FENCED_OUT, (fence.node, fence.number)).fetchone() is not None


def _active(connection: sqlite3.Connection, tenant: TenantId, revision: str) -> bool:
    return connection.execute(_ACTIVE, (tenant, revision)).fetchone() is not None


def _all_hold(connection: sqlite3.Connection, commands: Sequence[Accept]) -> bool:
    fences = {c.fence for c in commands}
    revisions = {(c.tenant, c.decision.policy_revision) for c in commands}
    return (
        all(_held(connection, f) for f in fences)
        and all(_active(connection, t, r) for t, r in revisions)
        and not any(has_halts(connection, tenant) for tenant in {c.tenant for c in commands})
    )


def _accept_row(c: Accept, seq: int) -> tuple[object, ...]:
    dispatched = c.state is EffectState.DISPATCHED
    return (
        c.tenant, c.effect, c.intent.key or None, c.intent_digest, c.intent.operation, c.intent.run, c.parent, c.state,
        c.decision.code, c.review.id if c.review else "", 1 if dispatched else 0,
        c.fence.node if dispatched else "", c.fence.number if dispatched else 0, 0, seq, seq,
    )  # fmt: skip


def _settle_row(c: Settle, seq: int) -> tuple[object, ...]:
    return (c.state, c.code, seq, c.tenant, c.effect, c.attempt, c.fence.node, c.fence.number, c.last_seq)
