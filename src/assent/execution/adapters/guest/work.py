"""A guest's runs: tickets that were given to it, each judged again, written down as used, and carried by its own lanes.

The guest believes a ticket for its signature, not for the connection it came over. It holds the order to the floor that
is asked and to its own least, by its own per-run reading, and never tries again on something weaker. The order's
workspace stands for the guest's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from assent.execution.adapters.guest.membership import Membership
from assent.execution.adapters.guest.session import News
from assent.execution.adapters.guest.spent import Spent
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.guests import (
    CREDIT_BYTES,
    OUTCOME_BYTES_MAX,
    PIECE_BYTES_MAX,
    Cancel,
    Copy,
    Credit,
    Ended,
    Frame,
    Given,
    Piece,
    Say,
    Started,
    Ticket,
    floor_there,
    objection,
    said,
    signed_by,
    signed_outcome,
    signed_ticket,
)
from assent.execution.orders import Order
from assent.execution.outcomes import Ending, Evidence, Outcome, StreamEvent
from assent.execution.ports import Target
from assent.execution.steering import Word
from assent.primitives.clock import Clock
from assent.primitives.ids import GrantId, TenantId

WORDS_MAX = 256
OWED_MAX = 1_000
ArtefactPath = Callable[[Any], Path]
_NOTHING = Attestation(mechanism="none")


class Link(Protocol):
    """The connection a ticket came over. What cannot be said over it any more is dropped."""

    def put(self, frame: Frame) -> None:
        """Say something without waiting; for what is bounded otherwise."""
        ...

    async def send(self, frame: Frame) -> None:
        """Say something, and wait while the hub is slow."""
        ...

    def ended(self, frame: Ended) -> None:
        """A run is over, and there is room for another."""
        ...


class _Line:
    """Between the hub and one run (`ports.Steering`): words come in, and output goes out under the asker's credit."""

    def __init__(self, ticket: GrantId, link: Link) -> None:
        self._ticket, self._link = ticket, link
        self._words: asyncio.Queue[Word] = asyncio.Queue(WORDS_MAX)
        self._credit = CREDIT_BYTES
        self._room = asyncio.Event()
        self._room.set()

    async def word(self) -> Word:
        return await self._words.get()

    def has_room(self) -> bool:
        return self._room.is_set()

    async def room(self) -> None:
        await self._room.wait()

    def say(self, frame: Say) -> None:
        """A word from the asker; one that is none, or one too many, is dropped."""
        with contextlib.suppress(msgspec.ValidationError, asyncio.QueueFull):
            self._words.put_nowait(said(frame))

    def give(self, amount: int) -> None:
        self._credit += amount
        if self._credit > 0:
            self._room.set()

    def hear(self, event: StreamEvent) -> None:
        for start in range(0, len(event.data), PIECE_BYTES_MAX):
            data = event.data[start : start + PIECE_BYTES_MAX]
            self._credit -= len(data)
            self._link.put(Piece(ticket=self._ticket, stream=event.stream, data=data))
        if self._credit <= 0:
            self._room.clear()


class Work:
    """What a guest does with tickets. It outlives connections: what ended while none was there is owed to the next."""

    def __init__(
        self,
        *,
        membership: Membership,
        target: Target,
        workspace: Path,
        least: ConfinementClass,
        spent: Spent,
        artefact: ArtefactPath,
        clock: Clock,
        tell: Callable[[News], None],
    ) -> None:
        self._membership, self._target, self._workspace, self._least = membership, target, workspace, least
        self._spent, self._artefact, self._clock, self._tell = spent, artefact, clock, tell
        self._runs: dict[GrantId, tuple[asyncio.Task[None], _Line]] = {}
        self._owed: dict[GrantId, Ended] = {}

    @property
    def running(self) -> int:
        """How many runs there are."""
        return len(self._runs)

    @property
    def owed(self) -> list[Ended]:
        """Ends that the hub has not recorded yet, oldest first."""
        return list(self._owed.values())

    def recorded(self, ticket: GrantId) -> None:
        """The hub has it."""
        self._owed.pop(ticket, None)

    def take(self, given: Given, link: Link) -> bool:
        """Begin what was given. False: it was not signed by our hub, so nothing more is to be believed there."""
        if not signed_by(self._membership.tickets, signed_ticket(given.data), given.signature):
            self._tell(News(what="ticket_forged"))
            return False
        try:
            ticket = msgspec.json.decode(given.data, type=Ticket)
        except msgspec.DecodeError:
            self._tell(News(what="ticket_refused", why="it cannot be read by this release"))
            return True
        used = ticket.id in self._spent
        why = objection(ticket, guest=self._membership.name, now_ms=self._clock.now_ms(), used=used)
        if why:
            self._tell(News(what="ticket_refused", ticket=ticket.id, why=why))
            if not used:  # of one that was used nothing is said: what was said at its end stands
                self._end(ticket, self._refused(why), link)
            return True
        try:
            self._spent.add(ticket.id, expires_at_ms=ticket.expires_at_ms)
        except OSError as error:
            self._end(ticket, self._refused(f"the guest cannot write it down: {error.strerror}"), link)
            return True
        line = _Line(ticket.id, link)
        task = asyncio.ensure_future(self._run(ticket, line, link))  # noqa: TID251 (`stop` awaits it)
        self._runs[ticket.id] = task, line
        return True

    def hear(self, frame: Say | Credit | Cancel) -> None:
        """A word about a run."""
        if frame.ticket in self._runs:
            task, line = self._runs[frame.ticket]
            match frame:
                case Say():
                    line.say(frame)
                case Credit(amount=amount):
                    line.give(max(0, amount))
                case Cancel():
                    task.cancel()

    async def stop(self) -> None:
        """End every run. What that came to is owed."""
        tasks = [task for task, _ in self._runs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, ticket: Ticket, line: _Line, link: Link) -> None:
        started_ms = self._clock.now_ms()
        self._tell(News(what="started", ticket=ticket.id))
        link.put(Started(ticket=ticket.id))
        try:
            outcome = await self._carry(ticket, line)
        except asyncio.CancelledError:
            outcome = self._without_lane(
                started_ms, Ending.CANCELLED, "cancelled", "stopped, and nothing of it is left"
            )
        except Exception as fault:  # noqa: BLE001 (the top of a run: a lane must not raise)
            outcome = self._without_lane(started_ms, Ending.UNKNOWN, "lane_broken", type(fault).__name__)
        finally:
            del self._runs[ticket.id]
        with contextlib.suppress(asyncio.CancelledError):  # the end is told all the same
            await self._copy_all(ticket, outcome, link)
        self._end(ticket, outcome, link)

    async def _carry(self, ticket: Ticket, line: _Line) -> Outcome:
        order = _here(ticket.order, self._workspace)
        lane = self._target.lane(order) if order is not None else None
        if lane is None or order is None:
            return self._refused(f"no lane of this guest carries a `{type(ticket.order).__name__}`")
        return await lane.carry(order, floor=floor_there(ticket.floor, self._least), on_event=line.hear, steering=line)

    async def _copy_all(self, ticket: Ticket, outcome: Outcome, link: Link) -> None:
        """Send along the large outputs that the outcome names."""
        for digest in _artefacts_in(outcome.value):
            with contextlib.suppress(OSError), self._artefact(digest).open("rb") as file:
                piece = file.read(PIECE_BYTES_MAX)
                while piece:
                    following = file.read(PIECE_BYTES_MAX)
                    await link.send(Copy(ticket=ticket.id, digest=digest, data=piece, last=not following))
                    piece = following

    def _end(self, ticket: Ticket, outcome: Outcome, link: Link) -> None:
        data = msgspec.json.encode(outcome)
        if len(data) > OUTCOME_BYTES_MAX:
            short = msgspec.structs.replace(outcome, value={"left_out": "it was too large to be sent"})
            data = msgspec.json.encode(short)
        signature = self._membership.sign(signed_outcome(ticket.id, data))
        frame = Ended(tenant=TenantId(ticket.tenant), ticket=ticket.id, outcome=data, signature=signature)
        while len(self._owed) >= OWED_MAX:
            del self._owed[next(iter(self._owed))]
        self._owed[ticket.id] = frame
        self._tell(News(what="ended", ticket=ticket.id, why=outcome.code))
        link.ended(frame)

    def _refused(self, why: str) -> Outcome:
        return self._without_lane(self._clock.now_ms(), Ending.FAILED, "ticket_refused", f"the guest refused it: {why}")

    def _without_lane(self, started_ms: int, ending: Ending, code: str, message: str) -> Outcome:
        evidence = Evidence(
            lane="guest", attestation=_NOTHING, started_at_ms=started_ms, ended_at_ms=self._clock.now_ms()
        )
        return Outcome(ending=ending, code=code, message=message, evidence=evidence)


def _here(order: Order, workspace: Path) -> Order | None:
    """The order with the guest's workspace in the place of the asker's; None when it has none of its own."""
    if not hasattr(order, "workspace"):
        return None
    return msgspec.structs.replace(order, workspace=str(workspace))


def _artefacts_in(value: Any) -> list[str]:
    """The digests of the artefacts a value names, at any depth."""
    if isinstance(value, dict):
        own = [value["artefact"]] if isinstance(value.get("artefact"), str) else []
        return own + [digest for one in value.values() for digest in _artefacts_in(one)]
    return [digest for one in value for digest in _artefacts_in(one)] if isinstance(value, list | tuple) else []
