"""Guest nodes, as people deal with them: invite one, look at them, turn one out; and what comes late from them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from assent.execution.guests import GUESTS_MAX, TOKEN_TTL_MS, Guest, Ticket, vouched
from assent.execution.outcomes import Outcome
from assent.ledger.entries import SALT_BYTES
from assent.ledger.guests import Invitation
from assent.ledger.late import late_result
from assent.ledger.ports import LedgerStore
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import NotFound, Refused

SECRET_BYTES = 16


class GuestRoll(Protocol):
    """Which guests there are."""

    async def invite(self, *, name: str, secret: str, ttl_ms: int, guests_max: int) -> bool:
        """Expect a newcomer; False when there are too many guests."""
        ...

    async def remove(self, *, name: str) -> bool:
        """Turn one out; whether there was one."""
        ...

    async def guests(self) -> list[Guest]:
        """All of them, by name."""
        ...


class Gatekeeper(Protocol):
    """The hub's own keys, as far as an invitation needs them."""

    def token(self, *, name: str, secret: str) -> str:
        """The token that lets the holder of `secret` in as `name`."""
        ...

    def digest(self, secret: str) -> str:
        """What is kept of a secret."""
        ...


class Guests:
    """Guests of one installation. `declared` are the names that the settings have as guest targets."""

    def __init__(
        self,
        *,
        roll: GuestRoll,
        gatekeeper: Callable[[], Gatekeeper],
        declared: Collection[str],
        hub: str,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._roll, self._gatekeeper, self._declared, self._hub = roll, gatekeeper, declared, hub
        self._clock, self._entropy = clock, entropy

    async def invite(self, name: str) -> Invitation:
        """A one-time invitation for `name`, good for `TOKEN_TTL_MS`. Whoever had the name is out from now on.

        Raises:
            NotFound: `target_undeclared`.
            Refused: `guests_full`.
        """
        if name not in self._declared:
            raise NotFound(
                "target_undeclared", f"the settings have no guest `{name[:80]!a}`",
                hint=f'add `[targets.{name[:63]}]` with `kind = "guest"`',
            )  # fmt: skip
        gatekeeper = self._gatekeeper()
        secret = self._entropy(SECRET_BYTES).hex()
        expected = await self._roll.invite(
            name=name, secret=gatekeeper.digest(secret), ttl_ms=TOKEN_TTL_MS, guests_max=GUESTS_MAX
        )
        if not expected:
            raise Refused("guests_full", f"there are {GUESTS_MAX} guests already", hint="remove one")
        return Invitation(
            name=name,
            token=gatekeeper.token(name=name, secret=secret),
            hub=self._hub,
            expires_at_ms=self._clock.now_ms() + TOKEN_TTL_MS,
        )

    async def all(self) -> list[Guest]:
        """Every guest, by name."""
        return await self._roll.guests()

    async def remove(self, name: str) -> None:
        """Turn a guest out: its key is nobody's from now on, and what it had is lost.

        Raises:
            NotFound: `guest_unknown`.
        """
        if not await self._roll.remove(name=name):
            raise NotFound("guest_unknown", f"there is no guest `{name[:80]!a}`", hint="see `assent node list`")


class LateResults:
    """Records what guests say after their tickets were lost."""

    def __init__(self, *, store: LedgerStore, entropy: Entropy) -> None:
        self._store, self._entropy = store, entropy

    async def record(self, data: bytes, told: bytes, signature: bytes, key: bytes) -> bool:
        """Record the outcome `told` of the ticket `data` as late, as asserted; False when either cannot be read."""
        try:
            ticket = msgspec.json.decode(data, type=Ticket)
            outcome = msgspec.json.decode(told, type=Outcome)
        except msgspec.DecodeError:
            return False
        seen = vouched(
            outcome, guest=ticket.guest, key=key, signature=signature, data=told, trusted=False, floor=ticket.floor
        )
        try:
            await self._store.apply(late_result(ticket, seen, salt=self._entropy(SALT_BYTES)))
        except NotFound:
            return False
        return True
