"""Policy tests: calls with the verdict each must get, written as TOML.

[[principal]]                 # who exists in these tests; leave out to use the declared principals
name = "agent:writer"
roles = ["writers"]

[[case]]
name = "an agent may not delete unasked"
principal = "agent:writer"
operation = "files.delete"
arguments = { path = "notes.txt" }
expect = "review"             # allow, deny or review
rule = "files-delete-reviewed"  # optional: a rule that must be among those that decided
# approved = true             # optional: decide as if everybody else had approved exactly this call
# approvers = ["person:ann"]  # optional: as if these had
# on_behalf_of = ["person:ann"]  # optional: agents and services act for somebody when it is left out
# seen = "third_party"          # optional: the weakest of what the asker had seen (system, user, org, third_party)
# vouched = { path = "user" }   # optional: on whose word single arguments stand, if not on the word of what was seen
# readers = ["person:ann"]      # optional: who alone may read what was seen
# beyond = true                 # optional: it goes beyond what was asked for
# calls_this_hour = 9           # optional: how often the asker was let do it before; so calls_today, calls_in_run
# budget_used = 80              # optional: how much of the fullest of its budgets is gone, in percent
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from assent.ledger.decisions import Decision, Verdict
from assent.ledger.operations import Operation, Place
from assent.ledger.provenance import Provenance
from assent.ledger.rates import COUNTED
from assent.policy.calls import SOMEONE
from assent.policy.engine import Engine
from assent.policy.faults import malformed
from assent.policy.principals import KnownPrincipal, chain_fault, check_principal
from assent.policy.suppositions import Posing, Supposition
from assent.policy.terms import QUORUM_MAX
from assent.primitives.errors import Malformed
from assent.primitives.ids import TenantId
from assent.primitives.labels import Integrity, Label

CASES_MAX = 5_000
TENANT = TenantId("policy-test")


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call and the verdict it must get."""

    name: str
    principal: str
    operation: str
    expect: Verdict
    arguments: dict[str, Any] = {}
    rule: str = ""
    approved: bool = False
    approvers: tuple[str, ...] = ()
    on_behalf_of: tuple[str, ...] = ()
    seen: Integrity = Integrity.USER
    vouched: dict[str, Integrity] = {}
    readers: tuple[str, ...] | None = None
    beyond: bool = False
    calls_in_run: int = 0
    calls_this_hour: int = 0
    calls_today: int = 0
    budget_used: int = 0

    @property
    def provenance(self) -> Provenance:
        """On whose word the call stands."""
        return Provenance(
            context=Label(integrity=self.seen, readers=self.readers),
            arguments={name: Label(integrity=one, readers=self.readers) for name, one in self.vouched.items()},
            beyond="it goes beyond what was asked for" if self.beyond else "",
        )


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All cases of a file, and the principals they are about (empty: the declared ones)."""

    cases: tuple[Case, ...]
    principals: tuple[KnownPrincipal, ...] = ()


class CaseResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a case went. `fault` is empty when it passed."""

    case: Case
    decision: Decision
    fault: str = ""


def read_suite(text: str) -> Suite:
    """Read a test file.

    Raises:
        Malformed: `cases_invalid`, naming every mistake in it.
    """
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise malformed("cases_invalid", "the policy tests are not TOML", [str(error)]) from error
    faults = [f"`{name}` is neither `case` nor `principal`" for name in found if name not in ("case", "principal")]
    principals = _tables(found.get("principal", []), "principal", KnownPrincipal, faults)
    cases = _tables(found.get("case", []), "case", Case, faults)
    faults += _about(cases, principals)
    if faults:
        raise malformed("cases_invalid", "the policy tests cannot be used", faults)
    return Suite(cases=tuple(map(_acting, cases)), principals=tuple(principals))


def run(suite: Suite, *, engine: Engine, operations: Mapping[str, Operation], place: Place) -> tuple[CaseResult, ...]:
    """Decide every case with the real operations' facts. Nothing is carried out."""
    people = frozenset(known.name for known in suite.principals if known.name.startswith("person:"))
    posing = Posing(engine, operations, place, people)
    return tuple(_result(case, posing.decide(_supposed(case))) for case in suite.cases)


def _tables(found: object, kind: str, of: type[Any], faults: list[str]) -> list[Any]:
    """Read the tables `[[kind]]`; what is wrong is added to `faults`."""
    if not isinstance(found, list):
        faults.append(f"`{kind}` must be tables: write `[[{kind}]]`")
        return []
    if len(found) > CASES_MAX:
        faults.append(f"there are more than {CASES_MAX} `{kind}` tables")
        return []
    read: list[Any] = []
    for number, table in enumerate(found, start=1):
        label = f"{kind} {number}"
        if isinstance(table, dict) and isinstance(table.get("name"), str):
            label += f" (`{table['name'][:80]}`)"
        wrong = _wrong(table, of)
        faults += [f"{label}: {fault}" for fault in wrong]
        if not wrong:
            read.append(msgspec.convert(table, of))
    return read


def _wrong(table: object, of: type[Any]) -> list[str]:
    """Everything that is wrong with one table, field by field."""
    if not isinstance(table, dict):
        return ["it is not a table"]
    fields = {field.name: field for field in msgspec.structs.fields(of)}
    faults = [f"`{name}` is not a field of it" for name in table if name not in fields]
    for name, field in fields.items():
        if name not in table:
            if field.required:
                faults.append(f"`{name}` is missing")
            continue
        try:
            msgspec.convert(table[name], field.type)
        except msgspec.ValidationError as error:
            faults.append(f"`{name}`: {str(error)[:1].lower()}{str(error)[1:]}")
    return faults


def _about(cases: list[Case], principals: list[KnownPrincipal]) -> list[str]:
    """What is wrong across tables."""
    faults: list[str] = []
    for known in principals:
        try:
            check_principal(known)
        except Malformed as error:
            faults.append(str(error))
    for what, names in (("case", [c.name for c in cases]), ("principal", [p.name for p in principals])):
        twice = sorted({name for name in names if names.count(name) > 1})
        faults += [f"two {what} tables are named `{name[:80]}`" for name in twice]
    declared = {known.name for known in principals}
    for case in map(_acting, cases):
        fault = chain_fault(case.principal, case.on_behalf_of)
        if fault:
            faults.append(f"case `{case.name[:80]}`: {fault}")
        elif principals and case.principal not in declared:
            faults.append(f"case `{case.name[:80]}`: `{case.principal}` is not among the principals")
    return faults


def _acting(case: Case) -> Case:
    """The case with somebody to act for, when an agent or service names nobody."""
    if case.on_behalf_of or case.principal.startswith("person:"):
        return case
    return msgspec.structs.replace(case, on_behalf_of=(SOMEONE,))


def _supposed(case: Case) -> Supposition:
    return Supposition(
        tenant=TENANT,
        operation=case.operation,
        arguments=case.arguments,
        principal=case.principal,
        on_behalf_of=case.on_behalf_of,
        provenance=case.provenance,
        approved=QUORUM_MAX if case.approved else 0,
        approvers=case.approvers,
        counts={name: getattr(case, name) for name in COUNTED},
    )


def _result(case: Case, decision: Decision) -> CaseResult:
    told = f"it is `{decision.verdict}` (`{decision.code}`): {decision.reason}"
    if decision.verdict is not case.expect:
        return CaseResult(case=case, decision=decision, fault=f"expected `{case.expect}`, but {told}")
    if case.rule and case.rule not in decision.rules:
        return CaseResult(case=case, decision=decision, fault=f"expected rule `{case.rule}` to decide, but {told}")
    return CaseResult(case=case, decision=decision)
