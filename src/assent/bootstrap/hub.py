"""The hub that guests come in by, and a guest node itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from assent.bootstrap.anchors import AnchorFile
from assent.bootstrap.beyond import GUEST_KEYS
from assent.bootstrap.keys import log_identity
from assent.bootstrap.node import DATABASE_NAME
from assent.bootstrap.own_machine import own_targets
from assent.bootstrap.settings import Settings
from assent.bootstrap.system import SystemEntropy
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.guest import Authority, GuestNode, Hub, Membership, join
from assent.execution.adapters.guest.session import News
from assent.execution.adapters.guest.spent import Spent
from assent.execution.adapters.guest.work import Work
from assent.execution.attestations import ConfinementClass
from assent.execution.guests import Ended
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_guests import APPLIES, SqliteGuests
from assent.ledger.adapters.sqlite_log import LogBook
from assent.operations.guests import LateResults
from assent.primitives.clock import Clock
from assent.primitives.errors import Unavailable
from assent.storage.adapters.sqlite import SqliteDatabase

Tell = Callable[[Mapping[str, str]], None]


@asynccontextmanager
async def hub_of(settings: Settings, *, clock: Clock, tell: Tell) -> AsyncIterator[str]:
    """Let guests in until the block ends; gives the address.

    It takes no node's lease: it accepts nothing and dispatches nothing.

    Raises:
        Unavailable: the database, the keys, the address or the door cannot be used.
    """
    data, hub, entropy = settings.data, settings.hub, SystemEntropy()
    identity = log_identity(data / "keys", entropy=entropy)
    store = SqliteLedger(
        SqliteDatabase(data / DATABASE_NAME, clock=clock),
        book=LogBook(signer=identity.signer, log_id=identity.log_id, keep=AnchorFile(data / "checkpoints.txt").keep),
        more=APPLIES,
    )
    store.open()
    try:
        book, late = SqliteGuests(store), LateResults(store=store, entropy=entropy)

        async def record_late(ended: Ended) -> None:
            ticket = await book.ticket(ended.tenant, ended.ticket)
            guest = await book.guest(_guest_named_in(ticket)) if ticket else None
            if ticket and guest is not None:
                await late.record(ticket, ended.outcome, ended.signature, bytes.fromhex(guest.key))

        made = Hub(
            book=book,
            authority=Authority(data / GUEST_KEYS, clock=clock),
            artefacts=ArtefactFolder(data / "artefacts", entropy=entropy),
            lease_ms=hub.lease_s * 1_000,
            tell=_plainly(tell),
            on_late=record_late,
        )
        async with made.open(host=hub.host, port=hub.port, folder=data) as port:
            yield f"{hub.host}:{port}"
    finally:
        store.close()


async def join_as_guest(home: Path, *, hub: str, token: str) -> str:
    """Use an invitation; the name that was given. Raises what `join` raises."""
    return (await join(home, hub=hub, token=token)).name


async def guest_of(home: Path, *, hub: str, least: ConfinementClass, clock: Clock, tell: Tell) -> None:
    """Serve the hub that `home` is a member of, for ever.

    Raises:
        Malformed: `guest_not_joined`.
        Refused: the hub says that it knows no such guest.
        Unavailable: `folder_unwritable`.
    """
    membership, entropy = Membership(home), SystemEntropy()
    try:
        workspace = home / "workspace"
        workspace.mkdir(exist_ok=True, mode=0o700)
        spent = Spent(home / "spent", now_ms=clock.now_ms())
    except OSError as error:
        raise Unavailable("folder_unwritable", f"`{home}` cannot be used: {error.strerror}") from error
    (target,) = own_targets(clock, entropy, home, None)
    work = Work(
        membership=membership,
        target=target,
        workspace=workspace,
        least=least,
        spent=spent,
        artefact=ArtefactFolder(home / "artefacts", entropy=entropy).path,
        clock=clock,
        tell=_plainly(tell),
    )
    node = GuestNode(membership=membership, target=target, work=work, clock=clock, tell=_plainly(tell))
    try:
        await node.serve(hub=hub or membership.hub)
    finally:
        await work.stop()
        await target.close()
        spent.close()


def _guest_named_in(ticket: bytes) -> str:
    class Named(msgspec.Struct):
        guest: str

    return msgspec.json.decode(ticket, type=Named).guest


def _plainly(tell: Tell) -> Callable[[News], None]:
    return lambda news: tell(msgspec.to_builtins(news))
