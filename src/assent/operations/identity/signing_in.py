"""Signing in: from a credential, whatever it is, to the one it shows."""

from __future__ import annotations

from collections.abc import Sequence

from assent.operations.identity.callers import Caller
from assent.operations.identity.certificates import Workload, shown
from assent.operations.identity.providers import Provider, issuer_of
from assent.operations.identity.tokens import PREFIX, Tokens
from assent.primitives.clock import Clock
from assent.primitives.errors import Refused
from assent.primitives.ids import TenantId


class SigningIn:
    """Tells who somebody is. Every surface that speaks to a network asks here first. Every dependency is given."""

    def __init__(
        self, *, tokens: Tokens, providers: Sequence[Provider], workloads: Sequence[Workload], clock: Clock
    ) -> None:
        self.tokens = tokens
        self._providers = {one.issuer: one for one in providers}
        self._workloads = workloads
        self._clock = clock

    async def by_token(self, tenant: TenantId, text: str) -> Caller:
        """Whom a token shows: one that was made here, or one of a provider.

        Raises:
            Refused: `token_refused`, `token_expired`, `token_revoked`.
        """
        if text.startswith(PREFIX):
            return await self.tokens.caller(tenant, text)
        provider = self._providers.get(issuer_of(text))
        if provider is None:
            raise Refused("token_refused", "this token shows nobody here: its issuer is not declared")
        return provider.caller(tenant, text, now_ms=self._clock.now_ms())

    def by_certificate(self, tenant: TenantId, certificate: bytes) -> Caller:
        """Whom a certificate (DER) shows that TLS has verified.

        Raises:
            Refused: `certificate_refused`.
        """
        return shown(self._workloads, certificate).caller(tenant)
