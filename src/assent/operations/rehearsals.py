"""Rehearsals: what policy would say. Nothing is recorded, nothing is carried out, and no database is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from assent.ledger.contracts import contract_digest, read_arguments
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.operations import Facts, Operation, Place
from assent.operations.wishes import Wish
from assent.policy.activation import Report, check
from assent.policy.bundle import Bundle
from assent.policy.cases import CaseResult, read_suite, run
from assent.policy.engine import Engine
from assent.policy.explain import Explanation
from assent.policy.principals import KnownPrincipal
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed


class Rehearsals:
    """Tries policy texts against the declared operations and principals."""

    def __init__(
        self, *, operations: Mapping[str, Operation], principals: Iterable[KnownPrincipal], place: Place
    ) -> None:
        self._operations = operations
        self._contracts = {name: operation.contract for name, operation in operations.items()}
        self._principals = tuple(principals)
        self._place = place

    def check(self, text: str) -> Report:
        """Everything that is wrong or doubtful about a policy text."""
        return check(text, contracts=self._contracts, principals=self._principals)

    def test(self, text: str, cases: str) -> tuple[CaseResult, ...]:
        """Run a file of policy tests against a policy text.

        Raises:
            Malformed: `policy_invalid`, `cases_invalid`.
        """
        suite = read_suite(cases)
        engine = self._engine(text, suite.principals or self._principals)
        return run(suite, engine=engine, operations=self._operations, place=self._place)

    def explain(self, text: str, wish: Wish) -> Explanation:
        """What a policy text makes of one call, rule by rule.

        Raises:
            Malformed: `policy_invalid`; the call is not plain JSON.
        """
        engine = self._engine(text, self._principals)
        operation = self._operations.get(wish.operation)
        arguments, facts = dict(wish.arguments), Facts()
        if operation is not None:
            try:
                arguments = read_arguments(operation.contract, wish.arguments)
                facts = operation.facts(arguments, self._place)
            except Malformed as malformed:
                return Explanation(decision=_unreadable(engine, malformed))
        intent = Intent(
            tenant=wish.tenant,
            operation=wish.operation,
            contract=contract_digest(operation.contract) if operation else Digest(""),
            arguments=arguments,
            principal=wish.principal,
            on_behalf_of=wish.on_behalf_of,
            run=wish.run,
        )
        return engine.explain(intent=intent, intent_digest=intent_digest(intent_bytes(intent)), facts=facts)

    def _engine(self, text: str, principals: Iterable[KnownPrincipal]) -> Engine:
        return Engine(bundle=Bundle(text=text), contracts=self._contracts, principals=principals)


def _unreadable(engine: Engine, malformed: Malformed) -> Decision:
    """What the gate answers to arguments that cannot be read."""
    return Decision(
        verdict=Verdict.DENY, code="arguments_invalid", reason=str(malformed), policy_revision=engine.revision
    )
