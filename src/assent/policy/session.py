"""A governed session that somebody else drives: no model, no server, no disk.

Open one with a policy, the operations there are, whose words count and what is asked for. Tell it what the person says
and what results come back; ask it about calls; answer its reviews. It decides as a node does, with the same rules, and
counts. Nothing is carried out: what is allowed is the driver's to do.

    session = Session(policy=text, operations=contracts, words="pay the bill in bill.txt", mandate=["bank.pay x1"])
    session.observe("files.read", {"text": "…"}, name="bill")
    asked = session.ask("bank.pay", {"payee": "ref:bill#/text", "amount": 12})
    asked.verdict, asked.reason                    # review: a third party may have chosen where this falls
    session.answer(asked, by=["person:ann"])       # allow
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import msgspec

from assent.execution.urls import parse_url
from assent.ledger.contracts import OperationContract, contract_digest, read_arguments
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.operations import Facts, Operation, Place
from assent.ledger.provenance import Provenance
from assent.ledger.rates import COUNTS
from assent.policy.approvals import Approval
from assent.policy.bundle import Bundle
from assent.policy.engine import Engine
from assent.policy.flow import Flow, judged
from assent.policy.mandates import Mandate, beyond, read_mandate
from assent.policy.principals import KnownPrincipal
from assent.primitives.digests import Digest
from assent.primitives.errors import Conflict, Malformed
from assent.primitives.ids import TenantId
from assent.primitives.labels import Integrity, Label

TENANT = TenantId("session")
USER = Label(integrity=Integrity.USER)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One call, what was decided about it, and on whose word it stands. `arguments` are those that count: handles have
    been replaced by what they name."""

    id: int
    operation: str
    arguments: dict[str, Any]
    decision: Decision
    provenance: Provenance
    intent: Digest = Digest("")

    @property
    def verdict(self) -> Verdict:
        """`allow`, `deny` or `review`."""
        return self.decision.verdict

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        return self.decision.reason

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that decided."""
        return self.decision.rules


class Tally(msgspec.Struct, kw_only=True):
    """How many calls were allowed at once, refused, and asked of people; and how many of those people let through."""

    allowed: int = 0
    refused: int = 0
    asked: int = 0
    approved: int = 0


class Session:
    """One asker's session.

    `operations` are what can be called: operations of a connector, or contracts of anything else. `principal` asks on
    behalf of `on_behalf_of`; `roles` are those of either and of whoever approves. `mandate` says what is asked for, in
    lines; left out, nothing does. `words` are the first that the person says.

    Raises:
        Malformed: `policy_invalid`, `mandate_malformed`, `principal_malformed`.
    """

    def __init__(
        self,
        *,
        policy: str,
        operations: Iterable[Operation | OperationContract],
        principal: str = "agent:assistant",
        on_behalf_of: tuple[str, ...] = ("person:user",),
        people: Iterable[str] = (),
        roles: Mapping[str, tuple[str, ...]] | None = None,
        mandate: Iterable[str] | None = None,
        words: str = "",
        workspace: str = "/workspace",
    ) -> None:
        given = tuple(operations)
        self._contracts = {one.name: one for one in map(_contract, given)}
        self._digests = {name: contract_digest(contract) for name, contract in self._contracts.items()}
        self._operations = {_contract(one).name: one for one in given if not isinstance(one, OperationContract)}
        known = dict.fromkeys((principal, *(one for one in on_behalf_of if not one.startswith("schedule:")), *people))
        self._engine = Engine(
            bundle=Bundle(text=policy),
            contracts=self._contracts,
            principals=[KnownPrincipal(name=one, roles=(roles or {}).get(one, ())) for one in known],
        )
        self._principal, self._chain = principal, () if principal.startswith("person:") else on_behalf_of
        self._mandates: tuple[Mandate, ...] = ()
        if mandate is not None:
            self.narrow(mandate, by="the request")
        self._place = Place(workspace=workspace)
        self._flow = Flow()
        self._used: list[tuple[str, dict[str, Any]]] = []
        self._ids = count(1)
        self._open: dict[int, tuple[Asked, Facts]] = {}
        self.tally = Tally()
        if words:
            self.say(words)

    @property
    def context(self) -> Label:
        """The label of everything that was told and observed so far."""
        return self._flow.context

    def say(self, words: str, label: Label = USER) -> None:
        """Somebody tells the asker something; without a label it is the person."""
        self._flow.tell(words, label)

    def narrow(self, mandate: Iterable[str], *, by: str) -> None:
        """From here on calls must also be within this. There is no way back: who wants more approves single calls.

        Raises:
            Malformed: `mandate_malformed`.
        """
        self._mandates = (*self._mandates, read_mandate(mandate, by=by))

    def observe(self, operation: str, value: object, *, name: str = "") -> str:
        """A result of `operation` is shown to the asker, labelled field by field as its contract says; its name in
        handles (`ref:NAME#/field`)."""
        contract = self._contracts.get(operation)
        handle = name or f"r{next(self._ids)}"
        self._flow.observe(handle, value, contract.outputs if contract else ())
        return handle

    def ask(self, operation: str, arguments: Mapping[str, Any]) -> Asked:
        """Decide one call. What cannot be judged is refused; nothing is raised."""
        asked, facts = self._asked(operation, arguments)
        match asked.verdict:
            case Verdict.ALLOW:
                self.tally.allowed += 1
                self._used.append((operation, asked.arguments))
            case Verdict.REVIEW:
                self.tally.asked += 1
                self._open[asked.id] = (asked, facts)
            case Verdict.DENY:
                self.tally.refused += 1
        return asked

    def answer(self, asked: Asked, *, by: Iterable[str], approve: bool = True) -> Asked:
        """People answer a review: the call as it is decided now. It is decided anew, by what is known by now, and the
        approval counts for this very call.

        Raises:
            Conflict: `review_closed`: this call waits for nobody.
        """
        found = self._open.pop(asked.id, None)
        if found is None:
            raise Conflict("review_closed", f"call {asked.id} waits for nobody", hint="ask about it again")
        if not approve:
            return asked
        approvers = tuple(by)
        approval = Approval(intent=asked.intent, quorum=len(approvers), approvers=approvers)
        decision = self._decided(asked.operation, asked.arguments, asked.intent, found[1], approval)
        again = msgspec.structs.replace(asked, decision=decision)
        if decision.verdict is Verdict.ALLOW:
            self.tally.approved += 1
            self._used.append((asked.operation, asked.arguments))
        elif decision.verdict is Verdict.REVIEW:
            self._open[asked.id] = (again, found[1])
        return again

    def _asked(self, operation: str, given: Mapping[str, Any]) -> tuple[Asked, Facts]:
        number, contract = next(self._ids), self._contracts.get(operation)
        arguments, held = dict(given), dict[str, Label]()
        try:
            arguments, held = self._flow.resolve(given)
            provenance = self._flow.provenance(arguments, held)
            facts = Facts()
            if contract is not None:
                why = beyond(self._mandates, contract, arguments, used=self._used)
                provenance = msgspec.structs.replace(provenance, beyond=why)
                arguments = read_arguments(contract, arguments)
                person = self._intent(operation, arguments).done_for
                facts = judged(self._facts(contract, arguments), provenance, contract, arguments, person=person)
                facts = msgspec.structs.replace(facts, **self._counts(operation))
            intent = intent_digest(intent_bytes(self._intent(operation, arguments)))
        except Malformed as malformed:
            decision = Decision(
                verdict=Verdict.DENY, code="arguments_invalid", reason=str(malformed),
                policy_revision=self._engine.revision,
            )  # fmt: skip
            provenance = Provenance(context=self._flow.context)
            asked = Asked(
                id=number, operation=operation, arguments=arguments, decision=decision, provenance=provenance
            )  # fmt: skip
            return asked, Facts()
        decision = self._decided(operation, arguments, intent, facts, None)
        asked = Asked(
            id=number, operation=operation, arguments=arguments, decision=decision, provenance=provenance, intent=intent
        )  # fmt: skip
        return asked, facts

    def _decided(
        self, operation: str, arguments: dict[str, Any], digest: Digest, facts: Facts, approval: Approval | None
    ) -> Decision:
        intent = self._intent(operation, arguments)
        return self._engine.decide(intent=intent, intent_digest=digest, facts=facts, approval=approval)

    def _intent(self, operation: str, arguments: dict[str, Any]) -> Intent:
        return Intent(
            tenant=TENANT,
            operation=operation,
            contract=self._digests.get(operation, Digest("")),
            arguments=arguments,
            principal=self._principal,
            on_behalf_of=self._chain,
        )

    def _counts(self, operation: str) -> dict[str, int]:
        """How often this was let through before: all of a session happens in one run and one hour."""
        names = self._engine.counts(operation) & COUNTS.keys()
        return dict.fromkeys(names, sum(used == operation for used, _ in self._used)) if names else {}

    def _facts(self, contract: OperationContract, arguments: dict[str, Any]) -> Facts:
        operation = self._operations.get(contract.name)
        return operation.facts(arguments, self._place) if operation else _declared(contract, arguments)


def _contract(one: Operation | OperationContract) -> OperationContract:
    return one if isinstance(one, OperationContract) else one.contract


def _declared(contract: OperationContract, arguments: Mapping[str, Any]) -> Facts:
    """The facts of a call of which nothing is known but its contract. Raises Malformed: its address is none."""
    host = contract.reaches[0] if contract.reaches else ""
    if contract.hosts:
        url = parse_url(str(arguments.get(contract.hosts, "")))
        host = f"{url.host.in_url}:{url.port}"
    return Facts(host=host, payload_bytes=len(msgspec.json.encode(arguments)))
