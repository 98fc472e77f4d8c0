"""Sessions: conversations that runs belong to. What a session holds is a list of pieces; every note says it anew.

So a run pins what was said before it by digests, a fork is a session that begins with another's list, a reset one that
is empty, and nothing that was said is ever lost from the record.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import structs

from assent.ledger.commands import WriteNotes
from assent.ledger.entries import SALT_BYTES
from assent.ledger.journals import ID_BYTES_MAX, Journal, Note, content
from assent.ledger.ports import LedgerStore, Record
from assent.operations.runs import entries
from assent.operations.runs.entries import Exchange
from assent.operations.runs.transcript import text_of
from assent.primitives.clock import Entropy
from assent.primitives.digests import digest
from assent.primitives.errors import Conflict, Malformed, NotFound
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence
from assent.reasoning.agents import Reset, ResetPolicy
from assent.reasoning.context import piece_tokens, read_pieces
from assent.reasoning.messages import Message

SESSIONS_MAX = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,126}\Z")


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it is shown; `text` is what was said last."""

    id: str
    agent: str
    state: str
    messages: int
    text: str
    forked: str
    updated_at_ms: int


class Sessions:
    """The sessions of this node's tenants."""

    def __init__(self, *, store: LedgerStore, fence: Fence, entropy: Entropy) -> None:
        self._store = store
        self._fence = fence
        self._entropy = entropy

    async def open(self, tenant: TenantId, *, agent: str, identity: str, channel: str, name: str) -> str:
        """The session of this key, begun if it is not there; its id.

        Raises:
            Malformed: `session_malformed`: a part of the key is not a name.
        """
        id_ = session_id(identity=identity, channel=channel, name=name)
        if await self._store.journal(tenant, "session", id_) is None:
            note = entries.opened(
                id_, Exchange(pieces=()), agent=agent, identity=identity, forked="", salt=self._salt()
            )
            try:
                await self._write(tenant, note)
            except Conflict as conflict:  # somebody else has just opened it
                if conflict.code != "journal_moved":
                    raise
        return id_

    async def now(self, tenant: TenantId, id_: str) -> tuple[Journal, Exchange]:
        """A session as it stands, and what it holds.

        Raises:
            NotFound: there is no such session.
        """
        journal = await self._store.journal(tenant, "session", id_)
        if journal is None:
            raise NotFound("session_not_found", f"there is no session `{id_[:120]}`", hint="see `assent sessions list`")
        return journal, await self._held(journal)

    async def run_of(self, tenant: TenantId, id_: str, key: str) -> str | None:
        """The run that answers what was said under this key, if something was."""
        wanted = digest(key.encode())
        notes = await self._store.notes(tenant, "session", id_)
        return next(
            (one.body["run"] for one in notes if one.type == "session.asked" and one.body.get("key") == wanted), None
        )

    def asked(self, session: Journal, holds: Exchange, *, run: str, key: str, words: Message) -> Note:
        """The note that something was said, to be written with the run that answers it."""
        return entries.asked(
            session, run=run, key=key, words=text_of(words), messages=len(holds.pieces), salt=self._salt()
        )

    async def reset(self, tenant: TenantId, id_: str, *, by: str, why: str = "asked for") -> None:
        """Begin afresh. Raises NotFound, Conflict."""
        journal, _ = await self.now(tenant, id_)
        await self._write(tenant, entries.reset(journal, by=by, why=why, salt=self._salt()))

    async def fork(self, tenant: TenantId, id_: str, *, identity: str, channel: str, name: str) -> str:
        """A new session that holds what this one holds; its id.

        Raises:
            NotFound: there is no such session.
            Conflict: a session of this key is there already.
        """
        journal, exchange = await self.now(tenant, id_)
        return await self.begin(
            tenant, exchange, agent=journal.name, identity=identity, channel=channel, name=name, forked=journal.id
        )

    async def begin(
        self, tenant: TenantId, exchange: Exchange, *, agent: str, identity: str, channel: str, name: str, forked: str
    ) -> str:
        """A new session that holds this much; its id. Raises Conflict: `session_exists`."""
        new = session_id(identity=identity, channel=channel, name=name)
        note = entries.opened(new, exchange, agent=agent, identity=identity, forked=forked, salt=self._salt())
        try:
            await self._write(tenant, note)
        except Conflict as conflict:
            if conflict.code != "journal_moved":
                raise
            raise Conflict(
                "session_exists", f"there is a session `{new[:120]}` already", hint="choose another name"
            ) from conflict
        return new

    async def ids(self, tenant: TenantId) -> list[str]:
        """The ids of the newest sessions."""
        return [one.id for one in await self._store.journals(tenant, "session", limit=SESSIONS_MAX)]

    async def newest(self, tenant: TenantId, *, limit: int = SESSIONS_MAX) -> list[SessionView]:
        """The newest sessions, oldest first; each from its row and its last entry."""
        found = await self._store.journals(tenant, "session", limit=min(limit, SESSIONS_MAX))
        last = await self._store.records_at(tenant, [one.last_seq for one in found])
        return [_view(one, last[one.last_seq]) for one in found]

    async def view(self, tenant: TenantId, id_: str) -> SessionView:
        """One session. Raises NotFound."""
        journal, _ = await self.now(tenant, id_)
        return _view(journal, (await self._store.records_at(tenant, [journal.last_seq]))[journal.last_seq])

    async def renew(self, tenant: TenantId, id_: str, *, policy: ResetPolicy, now_ms: int) -> str:
        """Begin afresh if the agent's reset policy says that it is time; why, or an empty string.

        Raises:
            NotFound: there is no such session.
        """
        journal, exchange = await self.now(tenant, id_)
        if policy.kind == "manual" or not exchange.pieces:
            return ""
        counted = await self._counted(journal, exchange, policy.kind, now_ms)
        if counted < policy.limit:
            return ""
        why = f"{policy.kind} {counted} of {policy.limit}"
        await self.reset(tenant, id_, by="assent", why=why)
        return why

    async def _counted(self, journal: Journal, exchange: Exchange, kind: Reset, now_ms: int) -> int:
        """What a reset policy of this kind counts."""
        match kind:
            case "age":
                notes = await self._store.notes(journal.tenant, "session", journal.id)
                began = max(one.at for one in notes if one.type in ("session.opened", "session.reset"))
                return (now_ms - began) // 1000
            case "idle":
                return (now_ms - journal.updated_at_ms) // 1000
            case "messages":
                return len(exchange.pieces)
            case "tokens":
                held = await self._store.contents(journal.tenant, exchange.pieces)
                return sum(piece_tokens(one) for one in read_pieces(exchange.pieces, held))
            case "manual":
                return 0

    async def shorten(self, journal: Journal, exchange: Exchange, *, summary: bytes, kept: int, run: str) -> None:
        """Tell a session, as `now` gave it, by a summary and the last `kept` pieces from now on. The whole of it stays
        on record.

        Raises:
            Conflict: it was spoken in meanwhile.
        """
        piece = content(summary)
        last = exchange.pieces[len(exchange.pieces) - kept :]
        shorter = structs.replace(exchange, pieces=(piece.digest, *last))
        whole = digest("\n".join(exchange.pieces).encode())
        note = entries.shortened(journal, shorter, originals=whole, run=run, salt=self._salt())
        command = WriteNotes(tenant=journal.tenant, fence=self._fence, notes=(note,), contents=(piece,))
        await self._store.apply(command)

    async def _held(self, journal: Journal) -> Exchange:
        """What a session holds: what its newest entry says that says it."""
        seq = journal.last_seq
        while seq >= 0:
            (record,) = (await self._store.records_at(journal.tenant, [seq])).values()
            if record.type != "session.asked" and record.payload is not None:
                return msgspec.json.decode(record.payload, type=Exchange)
            seq = record.body["before"]
        return Exchange(pieces=())

    async def _write(self, tenant: TenantId, *notes: Note) -> None:
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=notes))

    def _salt(self) -> bytes:
        return self._entropy(SALT_BYTES)


def session_id(*, identity: str, channel: str, name: str) -> str:
    """The key of a session: `session:{identity}:{channel}:{id}`.

    Raises:
        Malformed: `session_malformed`.
    """
    for what, part in (("channel", channel), ("session", name)):
        if not _NAME.match(part):
            raise Malformed("session_malformed", f"`{part[:80]!a}` is not the name of a {what}")
    text = f"session:{identity}:{channel}:{name}"
    if len(text.encode()) > ID_BYTES_MAX:
        raise Malformed("session_malformed", f"the key of a session has at most {ID_BYTES_MAX} bytes")
    return text


def _view(journal: Journal, last: Record) -> SessionView:
    text, agent = "", journal.name
    if last.payload is not None and last.type == "session.asked":
        text = msgspec.json.decode(last.payload, type=str)
    elif last.payload is not None:
        exchange = msgspec.json.decode(last.payload, type=Exchange)
        text, agent = exchange.text, exchange.agent or agent
    return SessionView(
        id=journal.id, agent=agent, state=journal.state, messages=last.body["messages"], text=text,
        forked=journal.parent, updated_at_ms=journal.updated_at_ms,
    )  # fmt: skip
