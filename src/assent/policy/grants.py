"""The mint: the only place where a grant comes into being, and only from a decision to allow."""

from __future__ import annotations

import msgspec

from assent.execution.grants import GRANT_TTL_MS, Grant, GrantBody, sealed_bytes
from assent.execution.obligations import Obligations
from assent.execution.seals import SealKey
from assent.execution.targets import LOCAL
from assent.ledger.decisions import Decision, Placement, Verdict
from assent.primitives.digests import Digest
from assent.primitives.errors import InvariantBroken
from assent.primitives.ids import EffectId, GrantId, TenantId
from assent.primitives.leases import Fence


class Mint:
    """Seals grants with the key that execution checks them with."""

    __slots__ = ("_key",)

    def __init__(self, key: SealKey) -> None:
        self._key = key

    def mint(
        self,
        *,
        decision: Decision,
        intent: Digest,
        order: Digest,
        tenant: TenantId,
        effect: EffectId,
        attempt: int,
        fence: Fence,
        now_ms: int,
        placement: Placement | None = None,
        id: GrantId,  # noqa: A002 (the field of the body)
    ) -> Grant:
        """A grant for one attempt of exactly `order`, good for `GRANT_TTL_MS`, on exactly the target of `placement`
        (None: on this machine, at the floor of the decision).

        Raises:
            InvariantBroken: `grant_without_consent`: the decision does not allow.
        """
        if decision.verdict is not Verdict.ALLOW or decision.obligations is None:
            raise InvariantBroken("grant_without_consent", f"a decision to `{decision.verdict}` grants nothing")
        body = GrantBody(
            id=id,
            tenant=tenant,
            effect=effect,
            attempt=attempt,
            intent=intent,
            order=order,
            policy_revision=decision.policy_revision,
            target=placement.target if placement else LOCAL,
            obligations=_at(decision.obligations, placement),
            fence=fence,
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + GRANT_TTL_MS,
        )
        grant = object.__new__(Grant)
        grant.body = body
        grant.mac = self._key.seal(sealed_bytes(body))
        return grant


def _at(obligations: Obligations, placement: Placement | None) -> Obligations:
    return obligations if placement is None else msgspec.structs.replace(obligations, floor=placement.floor)
