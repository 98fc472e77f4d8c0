"""A small world for policy tests: the built-in operations, a few principals, and calls made of plain values."""

from __future__ import annotations

from typing import Any, NamedTuple

from assent.bootstrap.offering import STANDARD
from assent.ledger.connectors import catalogue
from assent.ledger.contracts import contract_digest, read_arguments
from assent.ledger.decisions import Decision
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.operations import Facts, Place
from assent.policy.approvals import Approval
from assent.policy.bundle import Bundle
from assent.policy.engine import Engine
from assent.policy.principals import KnownPrincipal
from assent.primitives.digests import Digest
from assent.primitives.ids import TenantId

OPERATIONS = catalogue(STANDARD)
CONTRACTS = {name: operation.contract for name, operation in OPERATIONS.items()}
PLACE = Place(workspace="/srv/workspace")
PRINCIPALS = (
    KnownPrincipal(name="agent:writer", roles=("writers",)),
    KnownPrincipal(name="person:ann", roles=("owners",)),
    KnownPrincipal(name="person:ben"),
    KnownPrincipal(name="service:build"),
)
READ_FILES = '@id("read") permit(principal, action == Action::"read", resource in Connector::"files");\n'
DELETE = '@id("delete") permit(principal, action, resource == Operation::"files.delete");\n'
ASK = (
    '@id("ask") @review("Delete it?") forbid(principal, action, resource == Operation::"files.delete") '
    "unless { context has approval && context.approval.intent == context.intent };\n"
)


class Call(NamedTuple):
    intent: Intent
    digest: Digest
    facts: Facts

    def approved(self, *people: str, quorum: int | None = None, digest: Digest | None = None) -> Approval:
        return Approval(
            intent=self.digest if digest is None else digest,
            quorum=len(people) if quorum is None else quorum,
            approvers=people,
        )


def engine(text: str, **more: Any) -> Engine:
    return Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=PRINCIPALS, **more)


def call(
    operation: str = "files.read",
    arguments: dict[str, Any] | None = None,
    *,
    principal: str = "agent:writer",
    on_behalf_of: tuple[str, ...] = ("person:ann",),
    facts: Facts | None = None,
    run: str = "",
) -> Call:
    """A call whose facts the operation computes, unless they are given."""
    known = OPERATIONS.get(operation)
    raw = {"path": "a.txt"} if arguments is None else arguments
    read = read_arguments(known.contract, raw) if known is not None and facts is None else raw
    intent = Intent(
        tenant=TenantId("acme"),
        operation=operation,
        contract=contract_digest(known.contract) if known is not None else Digest(""),
        arguments=read,
        principal=principal,
        on_behalf_of=() if principal.startswith("person:") else on_behalf_of,
        run=run,
    )
    if facts is None:
        facts = known.facts(read, PLACE) if known is not None else Facts()
    return Call(intent, intent_digest(intent_bytes(intent)), facts)


def decide(judge: Engine, wish: Call, approval: Approval | None = None) -> Decision:
    return judge.decide(intent=wish.intent, intent_digest=wish.digest, facts=wish.facts, approval=approval)
