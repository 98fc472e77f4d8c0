"""Grants: the unforgeable, expiring, single-use authority to perform one attempt of one effect.

Execution is the lowest layer that demands a grant, so it defines one; only policy can mint it, because only policy's
`Mint` may reach the sealing key. A grant binds the intent, the exact order, the policy revision, the obligations and
the fence of the node that may use it. Whatever is changed afterwards breaks the seal.
"""

from __future__ import annotations

from typing import NoReturn

import msgspec

from assent.execution.obligations import Obligations
from assent.execution.seals import SealKey
from assent.primitives.digests import Digest
from assent.primitives.errors import Refused
from assent.primitives.ids import EffectId, GrantId, TenantId
from assent.primitives.leases import Fence

GRANT_TTL_MS = 60_000
USED_MAX = 100_000


class GrantBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the seal covers."""

    id: GrantId
    tenant: TenantId
    effect: EffectId
    attempt: int
    intent: Digest
    order: Digest
    policy_revision: str
    target: str
    obligations: Obligations
    fence: Fence
    issued_at_ms: int
    expires_at_ms: int


class Grant:
    """A sealed grant. It has no public constructor: `assent.policy.grants.Mint` makes them."""

    __slots__ = ("_sealed", "body", "mac")
    body: GrantBody
    mac: bytes

    def __init__(self) -> None:
        raise TypeError("a grant has no public constructor: policy mints grants")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a grant cannot be serialised: it is used where it was granted")

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "mac"):
            raise AttributeError("a grant cannot be changed")
        object.__setattr__(self, name, value)


def sealed_bytes(body: GrantBody) -> bytes:
    """The bytes the seal is computed over."""
    return b"assent-grant-v1\0" + msgspec.json.encode(body, order="sorted")


class GrantGate:
    """Checks grants and lets each through once. `USED_MAX` unexpired grants are remembered; beyond that it refuses."""

    def __init__(self, key: SealKey) -> None:
        self._key = key
        self._used: dict[GrantId, int] = {}

    def admit(self, grant: Grant, *, order: Digest, now_ms: int) -> GrantBody:
        """Return the body of a genuine, fresh, unused grant for exactly `order`, and mark it used.

        Raises:
            Refused: `grant_forged`, `grant_expired`, `grant_used`, `grant_order_mismatch` or `grants_full`.
        """
        if type(grant) is not Grant or not hasattr(grant, "mac"):
            raise Refused("grant_forged", "only a grant minted by policy opens execution")
        body = grant.body
        if not self._key.holds(sealed_bytes(body), grant.mac):
            raise Refused("grant_forged", f"the seal of grant `{body.id}` does not hold")
        if now_ms >= body.expires_at_ms or now_ms < body.issued_at_ms - GRANT_TTL_MS:
            raise Refused("grant_expired", f"grant `{body.id}` is not valid now", hint="ask again")
        if body.order != order:
            raise Refused("grant_order_mismatch", f"grant `{body.id}` was given for another order")
        self._use(body, now_ms)
        return body

    def _use(self, body: GrantBody, now_ms: int) -> None:
        if body.id in self._used:
            raise Refused("grant_used", f"grant `{body.id}` was already used")
        if len(self._used) >= USED_MAX:
            self._used = {g: t for g, t in self._used.items() if t > now_ms - GRANT_TTL_MS}
        if len(self._used) >= USED_MAX:
            raise Refused("grants_full", "too many unexpired grants are in use", hint="try again in a minute")
        self._used[body.id] = body.expires_at_ms
