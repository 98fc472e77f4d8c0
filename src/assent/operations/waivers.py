"""Waivers: people answer a question beforehand, for calls of a kind, for a while, for so many of them.

A waiver lifts no rule by itself. It is an approval that was given before the call was asked, and the policy engine
judges it like any other: by the quorum, the roles and the separation that the rule of the day wants, and only where
that rule says that it may be waived at all, and for how long. Each use stands in the waiver's journal, written in the
very commit that accepts the call: of two calls at the same moment only one can take what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.ledger.commands import WriteNotes
from assent.ledger.entries import SALT_BYTES
from assent.ledger.intents import Intent
from assent.ledger.journals import Journal, Note, note
from assent.ledger.ports import LedgerStore, Record
from assent.ledger.reviews import check_reason, is_among, is_person
from assent.operations.timelines import intent_of
from assent.policy.approvals import Waived
from assent.policy.mandates import Allowance, read_mandate
from assent.policy.principals import is_principal
from assent.primitives.clock import Clock, Entropy
from assent.primitives.digests import Digest
from assent.primitives.errors import Conflict, Malformed, NotFound, Refused
from assent.primitives.ids import EffectId, IdSource, TenantId
from assent.primitives.leases import Fence

STANDING, REVOKED = "standing", "revoked"
WAIVERS_MAX = 1_000
PAGE = 500
LONGEST_MS = 30 * 86_400_000


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """The question is waived for calls of `principal` that `allowance` covers, until then. `signers` are who waived it,
    `used` how many calls took it, `reason` what the first of them said (empty once that is erased)."""

    id: str
    principal: str
    allowance: Allowance
    made_at_ms: int
    until_ms: int
    signers: tuple[str, ...]
    used: int
    reason: str
    last_seq: int

    @property
    def left(self) -> int | None:
        """How many more calls it is good for; None: any number."""
        return max(0, self.allowance.times - self.used) if self.allowance.times else None

    def fits(self, intent: Intent, *, now_ms: int) -> bool:
        """Whether it is about this call, and good for one more."""
        return (
            intent.principal == self.principal
            and now_ms < self.until_ms
            and self.left != 0
            and self.allowance.covers(intent.operation, intent.arguments)
        )

    def approval(self, intent: Digest) -> Waived:
        """What it is worth for the call with this digest."""
        lasts_s = -(-(self.until_ms - self.made_at_ms) // 1_000)
        return Waived(intent=intent, quorum=len(self.signers), approvers=self.signers, lasts_s=lasts_s)


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded calls that a waiver would have been about: all of them, those that people were asked about, and how
    they answered; and the newest of them."""

    calls: int
    asked: int
    approved: int
    denied: int
    examples: tuple[str, ...]


class Waivers:
    """The waivers of this node's tenants. Only people make, sign and revoke them. Every dependency is given."""

    def __init__(self, *, store: LedgerStore, fence: Fence, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._fence = fence
        self._clock = clock
        self._entropy = entropy
        self._ids = IdSource(clock, entropy)

    async def make(
        self, tenant: TenantId, *, principal: str, calls: str, until_ms: int, by: str, reason: str
    ) -> Waiver:
        """Waive the question for `calls` (`files.delete path=tmp/* x20`) of `principal`.

        Raises:
            Malformed: `mandate_malformed`, `waiver_too_long`, `waiver_malformed`, `reason_malformed`.
            Refused: `not_a_person`; or `waiver_not_yours`: it would be for their own calls.
        """
        self._must_be_a_person(by, reason)
        allowance, now_ms = one_line(calls, by=by), self._clock.now_ms()
        if not is_principal(principal):
            raise Malformed("waiver_malformed", f"`{principal[:80]}` is not a person, an agent or a service")
        if is_among(by, (principal,)):
            raise Refused("waiver_not_yours", "nobody waives a question about their own calls")
        if not 0 < until_ms - now_ms <= LONGEST_MS:
            days = LONGEST_MS // 86_400_000
            raise Malformed("waiver_too_long", f"a waiver holds from now on, for {days} days at most")
        made = Waiver(
            id=self._ids.waiver(), principal=principal, allowance=allowance, made_at_ms=now_ms, until_ms=until_ms,
            signers=(by,), used=0, reason=reason, last_seq=-1,
        )  # fmt: skip
        body = {"by": by, "principal": principal, "until": until_ms, "signers": [by], "used": 0}
        payload = msgspec.json.encode({"calls": str(allowance), "reason": reason})
        await self._write(tenant, self._note(made, STANDING, "waiver.made", body, payload=payload))
        return await self.find(tenant, made.id)

    async def sign(self, tenant: TenantId, waiver: str, *, by: str, reason: str) -> Waiver:
        """Stand for a waiver that somebody else made, where one person does not suffice.

        Raises:
            NotFound: `waiver_not_found`.
            Conflict: `waiver_over`, `waiver_signed`.
            Refused: `not_a_person`, `waiver_not_yours`.
        """
        self._must_be_a_person(by, reason)
        found = await self._standing(tenant, waiver)
        if is_among(by, found.signers):
            raise Conflict("waiver_signed", f"`{by}` has signed `{waiver}` already")
        if is_among(by, (found.principal,)):
            raise Refused("waiver_not_yours", "nobody waives a question about their own calls")
        body = {"by": by, "signers": [*found.signers, by], "used": found.used}
        await self._write(tenant, self._note(found, STANDING, "waiver.signed", body, payload=reason.encode()))
        return await self.find(tenant, waiver)

    async def revoke(self, tenant: TenantId, waiver: str, *, by: str, reason: str) -> Waiver:
        """Let it lift nothing any more, from the next call on.

        Raises:
            NotFound: `waiver_not_found`.
            Conflict: `waiver_over`.
            Refused: `not_a_person`.
        """
        self._must_be_a_person(by, reason)
        found = await self._standing(tenant, waiver)
        body = {"by": by, "signers": [*found.signers], "used": found.used}
        await self._write(tenant, self._note(found, REVOKED, "waiver.revoked", body, payload=reason.encode()))
        return await self.find(tenant, waiver)

    async def find(self, tenant: TenantId, waiver: str) -> Waiver:
        """One waiver, whether it still stands or not.

        Raises:
            NotFound: `waiver_not_found`.
        """
        journal = await self._store.journal(tenant, "waiver", waiver)
        if journal is None:
            raise NotFound("waiver_not_found", f"there is no waiver `{waiver[:80]}`", hint="see `assent waivers list`")
        return (await self._read(tenant, [journal]))[0]

    async def standing(self, tenant: TenantId) -> list[Waiver]:
        """The waivers that lift something now, oldest first."""
        journals = await self._store.journals(tenant, "waiver", states=(STANDING,), limit=WAIVERS_MAX)
        now_ms = self._clock.now_ms()
        return [one for one in await self._read(tenant, journals) if now_ms < one.until_ms and one.left != 0]

    async def fitting(self, intent: Intent) -> list[Waiver]:
        """Those that are about a call, the newest first."""
        now_ms = self._clock.now_ms()
        return [one for one in reversed(await self.standing(intent.tenant)) if one.fits(intent, now_ms=now_ms)]

    def use(self, waiver: Waiver, effect: EffectId) -> Note:
        """The note by which one more call takes it; it is written with that call's acceptance or not at all."""
        body = {"effect_of": effect, "signers": [*waiver.signers], "used": waiver.used + 1}
        return self._note(waiver, STANDING, "waiver.used", body)

    async def matched(self, tenant: TenantId, *, principal: str, calls: str, since_ms: int) -> Matched:
        """What a waiver would have been about since then, by the record.

        Raises:
            Malformed: `mandate_malformed`, `waiver_malformed`.
        """
        allowance = one_line(calls, by="somebody")
        found: list[Record] = []
        answers: dict[str, str] = {}
        after = -1
        while page := await self._store.records(tenant, after=after, limit=PAGE):
            for record in page:
                if record.type == "review.answered":
                    answers[record.body["effect"]] = record.body["answer"]
                elif record.at >= since_ms and _is_about(record, principal, allowance):
                    found.append(record)
            after = page[-1].seq
        asked = [one.body["effect"] for one in found if one.body["review"]]
        said = [answers.get(effect) for effect in asked]
        return Matched(
            calls=len(found),
            asked=len(asked),
            approved=said.count("approve"),
            denied=said.count("deny"),
            examples=tuple(one.body["effect"] for one in found[-3:]),
        )

    async def _standing(self, tenant: TenantId, waiver: str) -> Waiver:
        found = await self.find(tenant, waiver)
        if found not in await self.standing(tenant):
            raise Conflict("waiver_over", f"`{waiver}` is over: revoked, used up, or its time has passed")
        return found

    async def _read(self, tenant: TenantId, journals: list[Journal]) -> list[Waiver]:
        seqs = [seq for one in journals for seq in (one.first_seq, one.last_seq)]
        records = await self._store.records_at(tenant, seqs)
        return [_waiver(one, records[one.first_seq], records[one.last_seq].body) for one in journals]

    def _note(
        self, waiver: Waiver, state: str, type_: str, body: dict[str, Any], *, payload: bytes | None = None
    ) -> Note:
        salt = self._entropy(SALT_BYTES) if payload is not None else b""
        return note(
            kind="waiver", id_=waiver.id, before=waiver.last_seq, state=state, owned=False, type_=type_, body=body,
            salt=salt, payload=payload, name=waiver.principal,
        )  # fmt: skip

    async def _write(self, tenant: TenantId, written: Note) -> None:
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=(written,)))

    @staticmethod
    def _must_be_a_person(by: str, reason: str) -> None:
        check_reason(reason)
        if not is_person(by):
            raise Refused("not_a_person", f"`{by[:80]}` may not do that: only people waive what people are asked")


def one_line(calls: str, *, by: str) -> Allowance:
    """The kind of calls that one line names.

    Raises:
        Malformed: `mandate_malformed`; `waiver_malformed`: it names none, or everything.
    """
    allowances = read_mandate([calls], by=by).allowances
    if len(allowances) != 1 or not allowances[0].operation.strip("*."):
        raise Malformed(
            "waiver_malformed", "a waiver is for one kind of call", hint="write it as `files.delete path=tmp/* x20`"
        )
    return allowances[0]


def _is_about(record: Record, principal: str, allowance: Allowance) -> bool:
    if record.type != "effect.accepted" or record.body["principal"] != principal:
        return False
    intent = intent_of([record])
    return intent is not None and allowance.covers(intent.operation, intent.arguments)


def _waiver(journal: Journal, made: Record, now: Mapping[str, Any]) -> Waiver:
    said = msgspec.json.decode(made.payload) if made.payload else {}
    allowance = one_line(said["calls"], by="it") if said else Allowance(operation="", times=0)  # erased: covers nothing
    return Waiver(
        id=journal.id, principal=made.body["principal"], allowance=allowance, made_at_ms=made.at,
        until_ms=made.body["until"], signers=tuple(now["signers"]), used=now["used"], reason=said.get("reason", ""),
        last_seq=journal.last_seq,
    )  # fmt: skip
