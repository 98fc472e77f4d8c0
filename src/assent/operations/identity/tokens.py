"""Tokens: a text that a person makes so that a program can ask in a name, with less than that name may do.

Of a token only the digest of its secret part is kept, in a journal of its own, with who made it, for whom, for what and
until when; the text is shown once. The secret has 256 random bits, so the plain digest of it gives nothing away.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from assent.ledger.commands import WriteNotes
from assent.ledger.entries import SALT_BYTES
from assent.ledger.journals import Journal, note
from assent.ledger.ports import LedgerStore
from assent.ledger.reviews import check_reason, is_person
from assent.operations.identity.callers import Caller
from assent.policy.mandates import read_mandate
from assent.policy.principals import chain_fault
from assent.primitives.clock import Clock, Entropy
from assent.primitives.digests import digest
from assent.primitives.errors import Conflict, Malformed, NotFound, Refused
from assent.primitives.ids import IdSource, TenantId
from assent.primitives.leases import Fence

STANDING, REVOKED = "standing", "revoked"
PREFIX = "assent_"
SECRET_BYTES = 32
TOKENS_MAX = 1_000
LABEL_CHARACTERS_MAX = 100
LONGEST_MS = 366 * 86_400_000

_TEXT = re.compile(r"assent_(tok_[0-9a-f]{28})_([A-Za-z0-9_-]{43})\Z")
_NOBODY = digest(b"the secret of a token that there is not")


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it is listed. `scope` are lines such as `files.write path=reports/*` (none: everything)."""

    id: str
    label: str
    principal: str
    on_behalf_of: tuple[str, ...]
    scope: tuple[str, ...]
    may_answer: bool
    made_by: str
    made_at_ms: int
    until_ms: int
    state: str


class Made(NamedTuple):
    """A new token, and the text that is shown this once."""

    token: Token
    text: str


class Tokens:
    """The tokens of this node's tenants. Every dependency is given."""

    def __init__(self, *, store: LedgerStore, fence: Fence, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._fence = fence
        self._clock = clock
        self._entropy = entropy
        self._ids = IdSource(clock, entropy)

    async def make(
        self,
        tenant: TenantId,
        *,
        by: str,
        principal: str,
        label: str,
        until_ms: int,
        scope: Sequence[str] = (),
        may_answer: bool = False,
    ) -> Made:
        """Make a token for `by` themself, or for an agent or a service on their behalf.

        Raises:
            Malformed: `token_malformed`: label, time, principal; `mandate_malformed`: the scope.
            Refused: `not_a_person`, `asking_as_another`: it would be another person's.
        """
        chain = self._check(by, principal, label, until_ms, may_answer=may_answer)
        read_mandate(scope, by="a token")
        name = self._ids.token()
        secret = base64.urlsafe_b64encode(self._entropy(SECRET_BYTES)).rstrip(b"=").decode()
        written = note(
            kind="token", id_=name, before=-1, state=STANDING, owned=False, type_="token.made",
            body={
                "by": by, "principal": principal, "on_behalf_of": [*chain], "scope": [*scope], "until": until_ms,
                "may_answer": may_answer, "secret": digest(secret.encode()),
            },
            salt=self._entropy(SALT_BYTES), payload=label.encode(), name=principal,
        )  # fmt: skip
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=(written,)))
        return Made(await self.find(tenant, name), f"{PREFIX}{name}_{secret}")

    async def revoke(self, tenant: TenantId, token: str, *, by: str, reason: str) -> Token:
        """Let a token show nobody any more, from the next call on.

        Raises:
            NotFound: `token_not_found`.
            Conflict: `token_revoked`: it is already.
            Refused: `not_a_person`.
        """
        check_reason(reason)
        if not is_person(by):
            raise Refused("not_a_person", f"`{by[:80]}` may not do that: only people revoke tokens")
        journal = await self._must_find(tenant, token)
        if journal.state == REVOKED:
            raise Conflict("token_revoked", f"`{token}` was revoked already")
        written = note(
            kind="token", id_=token, before=journal.last_seq, state=REVOKED, owned=False, type_="token.revoked",
            body={"by": by}, salt=self._entropy(SALT_BYTES), payload=reason.encode(),
        )  # fmt: skip
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=(written,)))
        return await self.find(tenant, token)

    async def find(self, tenant: TenantId, token: str) -> Token:
        """One token, whether it still shows anybody or not.

        Raises:
            NotFound: `token_not_found`.
        """
        return (await self._read(tenant, [await self._must_find(tenant, token)]))[0][0]

    async def all(self, tenant: TenantId) -> list[Token]:
        """Every token, the newest last."""
        journals = await self._store.journals(tenant, "token", limit=TOKENS_MAX)
        return [one for one, _ in await self._read(tenant, journals)]

    async def caller(self, tenant: TenantId, text: str) -> Caller:
        """Whom a token shows.

        Raises:
            Refused: `token_refused` (there is no such token, or it is another's; which of them is not told),
                `token_expired`, `token_revoked`.
        """
        matched = _TEXT.match(text)
        journal = await self._store.journal(tenant, "token", matched[1]) if matched else None
        found = (await self._read(tenant, [journal]))[0] if journal else None
        kept = str(found[1]["secret"]) if found else _NOBODY
        shown = digest((matched[2] if matched else "").encode())
        if not hmac.compare_digest(shown.encode(), kept.encode()) or found is None:
            raise Refused("token_refused", "this token shows nobody here", hint="see `assent tokens list`")
        token, _ = found
        if token.state == REVOKED:
            raise Refused("token_revoked", f"the token `{token.id}` was revoked", hint="make another one")
        if self._clock.now_ms() >= token.until_ms:
            raise Refused("token_expired", f"the token `{token.id}` has expired", hint="make another one")
        return Caller(
            tenant=tenant, principal=token.principal, on_behalf_of=token.on_behalf_of, shown_by=f"token {token.id}",
            scope=read_mandate(token.scope, by="a token").allowances, may_answer=token.may_answer,
        )  # fmt: skip

    def _check(self, by: str, principal: str, label: str, until_ms: int, *, may_answer: bool) -> tuple[str, ...]:
        """The chain of the principal that a token shows."""
        if not is_person(by):
            raise Refused("not_a_person", f"`{by[:80]}` may not do that: only people make tokens")
        if principal.startswith("person:") and principal != by:
            raise Refused("asking_as_another", f"`{by}` cannot make a token that shows `{principal[:80]}`")
        chain = () if principal == by else (by,)
        fault = chain_fault(principal, chain)
        if not fault and may_answer and principal != by:
            fault = "only people answer reviews"
        if not fault and not (label.isprintable() and 0 < len(label.strip()) <= LABEL_CHARACTERS_MAX):
            fault = f"a label is a printable text of 1 to {LABEL_CHARACTERS_MAX} characters"
        if not fault and not 0 < until_ms - self._clock.now_ms() <= LONGEST_MS:
            fault = f"a token is good from now on, for {LONGEST_MS // 86_400_000} days at most"
        if fault:
            raise Malformed("token_malformed", f"this token cannot be made: {fault}")
        return chain

    async def _must_find(self, tenant: TenantId, token: str) -> Journal:
        journal = await self._store.journal(tenant, "token", token)
        if journal is None:
            raise NotFound("token_not_found", f"there is no token `{token[:80]}`", hint="see `assent tokens list`")
        return journal

    async def _read(self, tenant: TenantId, journals: Iterable[Journal]) -> list[tuple[Token, Mapping[str, Any]]]:
        found = [*journals]
        records = await self._store.records_at(tenant, [one.first_seq for one in found])
        read: list[tuple[Token, Mapping[str, Any]]] = []
        for journal in found:
            made = records[journal.first_seq]
            body = made.body
            token = Token(
                id=journal.id, label=(made.payload or b"").decode(errors="replace"), principal=body["principal"],
                on_behalf_of=tuple(body["on_behalf_of"]), scope=tuple(body["scope"]), may_answer=body["may_answer"],
                made_by=body["by"], made_at_ms=made.at, until_ms=body["until"], state=journal.state,
            )  # fmt: skip
            read.append((token, body))
        return read
