"""Rehearsals: what policy would say. Nothing is recorded, nothing is carried out, and no database is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from assent.ledger.operations import Operation, Place
from assent.ledger.provenance import Provenance
from assent.ledger.rates import COUNTED
from assent.operations.wishes import Wish
from assent.policy.activation import Report, check
from assent.policy.bundle import Bundle
from assent.policy.cases import CaseResult, read_suite, run
from assent.policy.engine import Engine
from assent.policy.explain import Explanation
from assent.policy.mandates import read_mandate
from assent.policy.matrix import Row, as_markdown, matrix
from assent.policy.principals import KnownPrincipal
from assent.policy.suppositions import Posing, Supposition
from assent.primitives.labels import Integrity, Label


class Supposing(msgspec.Struct, frozen=True, kw_only=True):
    """What is supposed about a call: the weakest of what its asker had `seen`, on whose word single arguments stand,
    who alone may read what was seen, the calls that were asked for (empty: nobody said), and how many people, or who,
    approved exactly this one. `counts` are how often it was done before, by the name of the attribute."""

    seen: Integrity = Integrity.USER
    vouched: Mapping[str, Integrity] = {}
    readers: tuple[str, ...] | None = None
    only: tuple[str, ...] = ()
    approved: int = 0
    approvers: tuple[str, ...] = ()
    counts: Mapping[str, int] = {}


COUNTS_SUPPOSED = COUNTED
"""What can be supposed to have been before a call that nobody makes."""


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

    def simulate(self, text: str, wish: Wish, supposing: Supposing) -> Explanation:
        """What a policy text makes of one call that nobody makes, rule by rule.

        Raises:
            Malformed: `policy_invalid`, `mandate_malformed`.
        """
        labels = {name: Label(integrity=one, readers=supposing.readers) for name, one in supposing.vouched.items()}
        one = Supposition(
            tenant=wish.tenant,
            operation=wish.operation,
            arguments=wish.arguments,
            principal=wish.principal,
            on_behalf_of=wish.on_behalf_of,
            run=wish.run,
            provenance=Provenance(context=Label(integrity=supposing.seen, readers=supposing.readers), arguments=labels),
            mandates=(read_mandate(supposing.only, by="the request"),) if supposing.only else (),
            approved=supposing.approved,
            approvers=supposing.approvers,
            counts=supposing.counts,
        )
        people = [known.name for known in self._principals if known.name.startswith("person:")]
        return Posing(self._engine(text, self._principals), self._operations, self._place, people).explain(one)

    def matrix(self, text: str) -> tuple[tuple[Row, ...], str]:
        """What a policy text decides, as a table, and as a page.

        Raises:
            Malformed: `policy_invalid`.
        """
        rows = matrix(self._engine(text, self._principals))
        return rows, as_markdown(rows)

    def _engine(self, text: str, principals: Iterable[KnownPrincipal]) -> Engine:
        return Engine(bundle=Bundle(text=text), contracts=self._contracts, principals=principals)
