"""Intents: a typed wish to do one thing. A model can produce nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from assent.primitives.canonical import canonical
from assent.primitives.digests import Digest, digest
from assent.primitives.ids import TenantId


class Intent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who wishes what done with which arguments.

    `principal` is `person:…`, `agent:…` or `service:…`; an agent's or service's `on_behalf_of` chain ends in a person
    or a `schedule:…`. `contract` is the digest of the operation's contract as the asker saw it. `key` is the
    idempotency key (unique per tenant; empty: none), `run` the run it belongs to (empty: none).
    """

    tenant: TenantId
    operation: str
    contract: Digest
    arguments: dict[str, Any]
    principal: str
    on_behalf_of: tuple[str, ...] = ()
    run: str = ""
    key: str = ""

    @property
    def done_for(self) -> str:
        """Who stands at the end of the chain."""
        return self.on_behalf_of[-1] if self.on_behalf_of else self.principal


def intent_bytes(intent: Intent) -> bytes:
    """The canonical bytes (RFC 8785) of everything in the intent but its key.

    Raises:
        Malformed: an argument is not plain JSON.
    """
    return canonical(
        {
            "tenant": intent.tenant,
            "operation": intent.operation,
            "contract": intent.contract,
            "arguments": intent.arguments,
            "principal": intent.principal,
            "on_behalf_of": list(intent.on_behalf_of),
            "run": intent.run,
        }
    )


def intent_digest(data: bytes) -> Digest:
    """The digest that idempotency, approvals and grants are bound to, of `intent_bytes`."""
    return digest(data)
