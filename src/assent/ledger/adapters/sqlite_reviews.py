"""Reviews and policy revisions in SQLite."""

# ruff: noqa: S608  # the SQL is put together from this package's own texts only; every value is bound

from __future__ import annotations

import re
import sqlite3

import msgspec
from msgspec.structs import replace

from assent.ledger.adapters.sqlite_effects import IS_OPEN, find_effect, select_effects
from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.commands import ActivatePolicy, AnswerReview, EscalateReview, ExpireReviews
from assent.ledger.decisions import Demands
from assent.ledger.effects import EFFECT, EffectState, Move
from assent.ledger.entries import draft
from assent.ledger.reviews import REVIEW, Review, ReviewMove, ReviewState, is_among, may_not_answer
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Conflict, InvariantBroken, NotFound, Refused
from assent.primitives.ids import EffectId, ReviewId, TenantId

_COLUMNS = (
    "tenant, id, effect, intent, state, question, quorum, requested_by, approvers, reason, opened_at_ms, expires_at_ms,"
    " places, demands, escalated, after"
)
_read_demands = msgspec.json.Decoder(Demands).decode


def select_reviews(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Review]:
    """Reviews by a condition written in this package (never from outside)."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM reviews WHERE {where}", values).fetchall()
    return [_review_of(row) for row in rows]


def select_precedents(
    connection: sqlite3.Connection, tenant: TenantId, operation: str, principal: str, *, limit: int
) -> list[Review]:
    """The newest reviews that are over, of calls of an operation that somebody asked for."""
    begins = re.sub(r"([*?[])", r"[\1]", principal) + " *"
    where = (
        "tenant = ?1 AND state <> 'open' AND (requested_by = ?3 OR requested_by GLOB ?4)"
        " AND effect IN (SELECT id FROM effects WHERE tenant = ?1 AND operation = ?2)"
        f" ORDER BY opened_at_ms DESC, id DESC LIMIT {int(limit)}"
    )
    return select_reviews(connection, where, (tenant, operation, principal, begins))


class Reviews:
    """The review commands, applied inside the writer's transaction."""

    def __init__(self, book: LogBook) -> None:
        self._book = book

    def answer(self, connection: sqlite3.Connection, command: AnswerReview) -> Review:
        """Approve or deny. The effect moves with the answer that completes the review."""
        review = self._open_review(connection, command)
        more = ((command.by,), (command.place_of or "-",)) if command.approve else ((), ())
        approvers, places = (*review.approvers, *more[0]), (*(one or "-" for one in review.places), *more[1])
        complete = not command.approve or (command.completes and len(approvers) >= review.quorum)
        move = ReviewMove.APPROVE if command.approve else ReviewMove.DENY
        state = REVIEW.after(review.state, move) if complete else review.state
        connection.execute(
            "UPDATE reviews SET state = ?, approvers = ?, places = ?, reason = ? WHERE tenant = ? AND id = ?",
            (state, " ".join(approvers), " ".join(places), command.reason, command.tenant, command.review),
        )
        effect_move = (Move.GRANT if command.approve else Move.REFUSE) if complete and not review.after else None
        extra: dict[str, object] = {"review": command.review, "answer": move, "by": command.by, "review_state": state}
        if command.place_of:
            extra["place_of"] = command.place_of
        code = "" if command.approve or review.after else "denied_by_reviewer"
        self._move(connection, review, effect_move, extra, command, code=code)
        return select_reviews(connection, "tenant = ? AND id = ?", (command.tenant, command.review))[0]

    def escalate(self, connection: sqlite3.Connection, command: EscalateReview) -> Review:
        """Put an open review before those whom it goes to when nobody answers."""
        review = self._find(connection, command)
        if review.state is not ReviewState.OPEN:
            raise Conflict("review_answered", f"review `{review.id}` is already {review.state}")
        if not review.demands.escalate_s or review.escalated:
            why = "was escalated already" if review.escalated else "goes to nobody else"
            raise Conflict("review_not_escalated", f"review `{review.id}` {why}", hint="see `assent inbox`")
        if _under_way(connection, review):
            raise Conflict("effect_moved", f"effect `{review.effect}` is still under way", hint="escalate afterwards")
        self._escalate(connection, review, by=command.by)
        return replace(review, escalated=True)

    def _escalate(self, connection: sqlite3.Connection, review: Review, *, by: str) -> None:
        connection.execute("UPDATE reviews SET escalated = 1 WHERE tenant = ? AND id = ?", (review.tenant, review.id))
        told: dict[str, object] = {"review": review.id, "review_state": review.state, "by": by}
        self._move(connection, review, None, told, None, code="", escalated=True)

    def expire(self, connection: sqlite3.Connection, command: ExpireReviews) -> int:
        """Expire what nobody answered, or answered and nobody used, in time."""
        due = select_reviews(
            connection,
            "tenant = ? AND state IN ('open', 'approved') AND NOT after AND expires_at_ms <= assent_now_ms()"
            " ORDER BY id",
            (command.tenant,),
        )
        for review in due:
            state = REVIEW.after(review.state, ReviewMove.EXPIRE)
            connection.execute(
                "UPDATE reviews SET state = ? WHERE tenant = ? AND id = ?", (state, command.tenant, review.id)
            )
            told: dict[str, object] = {"review": review.id, "review_state": state}
            self._move(connection, review, Move.EXPIRE, told, None, code="review_expired")
        now_ms = connection.execute("SELECT assent_now_ms()").fetchone()[0]
        waiting = "tenant = ? AND state = 'open' AND NOT escalated AND demands <> '{}' ORDER BY id"
        for review in select_reviews(connection, waiting, (command.tenant,)):
            wait_s = review.demands.escalate_s
            if wait_s and now_ms >= review.opened_at_ms + wait_s * 1_000 and not _under_way(connection, review):
                self._escalate(connection, review, by="assent")
        return len(due)

    def _move(
        self,
        connection: sqlite3.Connection,
        review: Review,
        move: Move | None,
        extra: dict[str, object],
        answer: AnswerReview | None,
        *,
        code: str,
        escalated: bool = False,
    ) -> None:
        effect = find_effect(connection, review.tenant, review.effect)
        if effect is None:
            raise InvariantBroken("review_orphaned", f"review `{review.id}` has no effect")
        state = EFFECT.after(effect.state, move) if move else effect.state
        body = {
            "effect": effect.id, "before": effect.last_seq, "moves": [move] if move else [], "state": state,
            "code": code or effect.code, **extra,
        }  # fmt: skip
        if answer is None:
            entry = draft("review.escalated", body) if escalated else draft("review.expired", body)
        else:
            entry = draft("review.answered", body, salt=answer.salt, payload=_reason_bytes(answer.reason))
        seq = self._book.append(review.tenant, entry)
        connection.execute(
            "UPDATE effects SET state = ?, code = ?, last_seq = ? WHERE tenant = ? AND id = ?",
            (state, code or effect.code, seq, review.tenant, effect.id),
        )

    def _find(self, connection: sqlite3.Connection, command: AnswerReview | EscalateReview) -> Review:
        found = select_reviews(connection, "tenant = ? AND id = ?", (command.tenant, command.review))
        if not found:
            raise NotFound("review_not_found", f"there is no review `{command.review}`", hint="see `assent inbox`")
        return found[0]

    def _open_review(self, connection: sqlite3.Connection, command: AnswerReview) -> Review:
        review = self._find(connection, command)
        if review.state is not ReviewState.OPEN:
            raise Conflict("review_answered", f"review `{review.id}` is already {review.state}")
        now_ms = connection.execute("SELECT assent_now_ms()").fetchone()[0]
        if now_ms >= review.expires_at_ms and not review.after:
            raise Refused("review_expired", f"review `{review.id}` has expired", hint="ask again")
        why = may_not_answer(review, command.by, place_of=command.place_of)
        if why:
            raise Refused("review_not_yours", why, hint="somebody else has to answer")
        if command.approve and is_among(command.by, (*review.approvers, *review.places)):
            raise Conflict("review_answered", f"`{command.by}` has already approved `{review.id}`")
        if command.approve and command.counted != review.approvers:
            raise Conflict("review_moved", f"somebody else approved `{review.id}` meanwhile", hint="look again")
        if review.after and _under_way(connection, review):
            raise Conflict("effect_moved", f"effect `{review.effect}` is still under way", hint="answer afterwards")
        return review


def activate_policy(connection: sqlite3.Connection, book: LogBook, command: ActivatePolicy) -> int:
    """Make a revision active, if the active one is still the one the caller looked at."""
    row = connection.execute(
        "SELECT revision, number FROM policy_active WHERE tenant = ?", (command.tenant,)
    ).fetchone()
    if (row[0] if row else "") != command.expected:
        raise Conflict("policy_moved", "another revision was activated meanwhile", hint="look again, then activate")
    number = (row[1] if row else 0) + 1
    now_ms = connection.execute("SELECT assent_now_ms()").fetchone()[0]
    connection.execute(
        "INSERT INTO policy_revisions (tenant, revision, number, text, activated_by, activated_at_ms, signatures)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (command.tenant, command.revision, number, command.text, command.by, now_ms, "\n".join(command.signatures)),
    )
    connection.execute(
        "INSERT INTO policy_active (tenant, revision, number) VALUES (?, ?, ?)"
        " ON CONFLICT (tenant) DO UPDATE SET revision = excluded.revision, number = excluded.number",
        (command.tenant, command.revision, number),
    )
    book.append(
        command.tenant,
        draft(
            "policy.activated",
            {
                "revision": command.revision,
                "number": number,
                "by": command.by,
                "text": digest(command.text.encode()),
                "signatures": list(command.signatures),
            },
        ),
    )
    return number


def unfinished_on(connection: sqlite3.Connection, node: str) -> list[tuple[TenantId, EffectId]]:
    """What a node had dispatched and not settled, over all tenants."""
    where = f"{IS_OPEN} AND state = 'dispatched' AND node = ? ORDER BY tenant, first_seq"
    found = select_effects(connection, where, (node,))
    return [(effect.tenant, effect.id) for effect in found]


def _under_way(connection: sqlite3.Connection, review: Review) -> bool:
    """Whether what the review is about is being carried out, or nobody knows: its history is others' to go on with."""
    effect = find_effect(connection, review.tenant, review.effect)
    return effect is not None and effect.state in (EffectState.DISPATCHED, EffectState.UNKNOWN)


def _reason_bytes(reason: str) -> bytes:
    return reason.encode()


def _review_of(row: tuple[object, ...]) -> Review:
    (tenant, id_, effect, intent, state, question, quorum, requested_by, approvers, reason, opened, expires) = row[:12]
    places, demands, escalated, after = row[12:]
    return Review(
        tenant=TenantId(str(tenant)), id=ReviewId(str(id_)), effect=EffectId(str(effect)), intent=Digest(str(intent)),
        state=ReviewState(str(state)), question=str(question), quorum=int(str(quorum)),
        requested_by=tuple(str(requested_by).split()), approvers=tuple(str(approvers).split()), reason=str(reason),
        opened_at_ms=int(str(opened)), expires_at_ms=int(str(expires)),
        places=tuple("" if one == "-" else one for one in str(places).split()) or ("",) * len(str(approvers).split()),
        demands=_read_demands(str(demands)), escalated=bool(escalated), after=bool(after),
    )  # fmt: skip
