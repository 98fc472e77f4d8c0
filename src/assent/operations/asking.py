"""Asking: a wish read into an intent, with all that policy may look at computed from it. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from assent.execution.secrets import Redactor
from assent.ledger.contracts import contract_digest, read_arguments
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.operations import Facts, Operation, Place
from assent.ledger.provenance import OWN, Provenance
from assent.operations.wishes import Wish, check_names
from assent.policy.flow import judged
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed, NotFound
from assent.primitives.ids import TenantId
from assent.primitives.labels import STRENGTH, Integrity

INTENT_BYTES_MAX = 8 * 1_048_576


class Asked(NamedTuple):
    """An intent with all that was computed from it. `fault` says what is wrong with its arguments, if anything."""

    intent: Intent
    data: bytes
    digest: Digest
    operation: Operation | None
    arguments: dict[str, Any]
    facts: Facts
    fault: str
    place: Place
    provenance: Provenance


class Asking:
    """Reads what is asked, against the operations that are offered and the tenants that are served here."""

    def __init__(
        self,
        *,
        operations: Mapping[str, Operation],
        tenants: Collection[TenantId],
        place: Place,
        redactor: Redactor | None = None,
    ) -> None:
        self._redactor = redactor or Redactor()
        self._place = place
        self._operations = operations
        self._tenants = frozenset(tenants)
        self._contracts = {name: contract_digest(operation.contract) for name, operation in operations.items()}

    def ask(self, wish: Wish) -> Asked:
        """Read a wish.

        Raises:
            NotFound: this node does not serve the tenant.
            Malformed: the wish is not plain JSON, or too large; `secret_in_call`.
        """
        check_names(wish)
        self.must_serve(wish.tenant)
        self._must_hold_no_secret(wish)
        operation = self._operations.get(wish.operation)
        arguments, fault = dict(wish.arguments), ""
        if operation is not None:
            try:
                arguments = read_arguments(operation.contract, wish.arguments)
            except Malformed as malformed:
                fault = str(malformed)
        intent = Intent(
            tenant=wish.tenant,
            operation=wish.operation,
            contract=self._contracts.get(wish.operation, Digest("")),
            arguments=arguments,
            principal=wish.principal,
            on_behalf_of=wish.on_behalf_of,
            run=wish.run,
            key=wish.key,
        )
        provenance = _with_defaults(wish.provenance, [name for name in arguments if name not in wish.arguments])
        contents: dict[str, bytes] = {one.digest: one.data for one in wish.contents}
        asked = self.read(intent, fault, contents=contents, provenance=provenance)
        if len(asked.data) > INTENT_BYTES_MAX:
            raise Malformed("wish_too_large", f"a call has at most {INTENT_BYTES_MAX} bytes", hint="send less at once")
        return asked

    def read(
        self,
        intent: Intent,
        fault: str = "",
        *,
        provenance: Provenance,
        contents: Mapping[str, bytes] | None = None,
    ) -> Asked:
        """Compute from an intent, and the pieces it names, what policy may look at.

        Raises:
            Malformed: it is not plain JSON.
        """
        data = intent_bytes(intent)
        operation = self._operations.get(intent.operation)
        place = replace(self._place, tenant=intent.tenant, contents=contents or {})
        facts = Facts()
        if operation is not None and not fault:
            try:
                facts = operation.facts(intent.arguments, place)
                facts = judged(facts, provenance, operation.contract, intent.arguments, person=intent.done_for)
            except Malformed as malformed:
                fault = str(malformed)
        return Asked(intent, data, intent_digest(data), operation, intent.arguments, facts, fault, place, provenance)

    def _must_hold_no_secret(self, wish: Wish) -> None:
        """Whatever is asked is recorded. What a model proposes was freed of secrets when its answer was read."""
        told = (one.data.decode(errors="replace") for one in wish.contents if not one.kept)
        if self._redactor.holds(dict(wish.arguments)) or any(map(self._redactor.holds, told)):
            raise Malformed(
                "secret_in_call", "a call may not hold a credential, since calls are recorded",
                hint="name the credential in `assent.toml`, and let the lane put it in",
            )  # fmt: skip

    def named(self, intent: Intent) -> list[str]:
        """The pieces that an intent names by digest."""
        operation = self._operations.get(intent.operation)
        kinds = operation.contract.arguments if operation else ()
        return [one for a in kinds if a.kind == "contents" for one in intent.arguments.get(a.name) or ()]

    def must_serve(self, tenant: TenantId) -> None:
        """Another tenant's policy, workspace and log are another node's business, even on the same database.

        Raises:
            NotFound: `tenant_not_found`.
        """
        if tenant not in self._tenants:
            raise NotFound("tenant_not_found", f"this node serves no tenant `{tenant[:80]}`")


def _with_defaults(provenance: Provenance, filled_in: list[str]) -> Provenance:
    """On whose word a call stands whose asker left out some arguments: what the contract says instead is Assent's."""
    if not filled_in or STRENGTH[provenance.context.integrity] >= STRENGTH[Integrity.USER]:
        return provenance
    return replace(provenance, arguments={**dict.fromkeys(filled_in, OWN.context), **provenance.arguments})
