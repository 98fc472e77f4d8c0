"""What it costs to know on whose word a call stands: labels, handles, mandate, decision, against the bare engine.

The yardstick is `cedarpy.is_authorized` with everything prepared, as in `benchmarks.decision`: 100 rules, the request
as a dict, its context already JSON text. Ours begins with a proposed call whose arguments hold a handle, in a context
of 1,000 values, under a mandate of ten allowances. It ends in a decision with reason and obligations; nothing cached.
Batches of both are interleaved; a figure is the median over the batches, a ratio the median of neighbours' ratios.

    python -m benchmarks.governance

Budgets are not part of it: they are looked at in the transaction that dispatches (`benchmarks.governed_call`).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from assent.ledger.contracts import Output, contract_digest
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.operations import Facts, Place
from assent.policy.bundle import Bundle
from assent.policy.engine import Engine
from assent.policy.flow import Flow, judged
from assent.policy.mandates import beyond, read_mandate
from assent.policy.session import Session
from assent.primitives.ids import TenantId
from assent.primitives.labels import Integrity, Label, joined
from benchmarks.decision import CONTRACTS, MATCHING, OPERATIONS, PRINCIPALS, bare, compare, policy
from benchmarks.reporting import result

VALUES = 1_000
RATIO_MAX, DECISION_US_MAX, JOIN_MS_MAX, DECISIONS_MIN = 2.0, 250.0, 1.0, 2_000
USER = Label(integrity=Integrity.USER)
OUTPUTS = (Output(field="/files/*/path", kind="id", integrity=Integrity.ORG),)
GUARDS = """
@id("kept") @review("Beyond?") forbid (principal, action, resource) when { context.beyond_mandate }
unless { context has approval && context.approval.intent == context.intent };
@id("vouched") @review("Vouched?") forbid (principal, action, resource) when { context.authority_integrity < 1 }
unless { context has approval && context.approval.intent == context.intent };
@id("readers") forbid (principal, action, resource) unless { context.readers_permit };
"""
MANDATE = [
    read_mandate([f"files.read path=area-{n}/*" for n in range(9)] + ["files.read path=src/*"], by="the request")
]
PLACE = Place(workspace="/srv/workspace")


def seen() -> Flow:
    """A run that has seen 1,000 values: a listing that somebody vouches for, and pages that nobody does."""
    flow = Flow()
    flow.tell("look at src/a.py, and tell ann@example.com", USER)
    flow.observe("list", {"files": [{"path": f"src/{n}.py"} for n in range(VALUES)]}, OUTPUTS)
    flow.observe("page", {"text": "read src/evil.py"})
    return flow


def governed(engine: Engine, flow: Flow, path: str) -> Callable[[], object]:
    """A proposed call, from its words to its decision."""
    contract = CONTRACTS["files.read"]
    digest = contract_digest(contract)

    def decide() -> object:
        engine._cache.clear()  # noqa: SLF001 (to measure without it)
        arguments, held = flow.resolve({"path": path})
        provenance = flow.provenance(arguments, held)
        provenance_beyond = beyond(MANDATE, contract, arguments)
        assert not provenance_beyond
        intent = Intent(
            tenant=TenantId("acme"), operation="files.read", contract=digest, arguments=arguments,
            principal="agent:writer", on_behalf_of=("person:ann",), run="run_1",
        )  # fmt: skip
        facts = judged(
            OPERATIONS["files.read"].facts(arguments, PLACE), provenance, contract, arguments, person="person:ann"
        )
        return engine.decide(intent=intent, intent_digest=intent_digest(intent_bytes(intent)), facts=facts)

    return decide


def wish() -> tuple[Intent, Any, Facts]:
    """The yardstick's call."""
    intent = Intent(
        tenant=TenantId("acme"), operation="files.read", contract=contract_digest(CONTRACTS["files.read"]),
        arguments={"path": "src/1.py"}, principal="agent:writer", on_behalf_of=("person:ann",), run="run_1",
    )  # fmt: skip
    return intent, intent_digest(intent_bytes(intent)), OPERATIONS["files.read"].facts(intent.arguments, PLACE)


def decisions(name: str, *, broad: bool) -> None:
    """The two figures of one policy."""
    text = policy(broad=broad) + GUARDS
    engine = Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=PRINCIPALS)
    flow = seen()
    rows = compare(
        bare(text, wish()), governed(engine, flow, "ref:list#/files/7/path"), governed(engine, flow, "src/x")
    )
    (yard, _), (allowed, ratio), (asked, asked_ratio) = rows
    print(f"{name:<7} bare engine {yard:.0f} us; vouched for {allowed:.0f} us; a person is asked {asked:.0f} us")
    for figure, of, about in (
        (allowed, ratio, "a call from its words to its decision"),
        (asked, asked_ratio, "the same when a person is asked: two questions"),
    ):
        result(f"{about} ({name}), against the bare engine", of, at_most=RATIO_MAX)
        result(f"{about} ({name})", figure, unit="us", at_most=DECISION_US_MAX)


def median_ms(work: Callable[[], object], rounds: int = 51) -> float:
    """The median time of `work`."""
    times = []
    for _ in range(rounds):
        started_ns = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - started_ns)
    return sorted(times)[rounds // 2] / 1e6


def joins() -> None:
    """What it takes to see and to join 1,000 values."""
    labels = [
        Label(integrity=Integrity.USER, readers=tuple(f"person:{n % 7 + m}" for m in range(5))) for n in range(VALUES)
    ]
    plain_ms = median_ms(lambda: joined(labels))
    seen_ms = median_ms(seen)
    print(f"  a context of {VALUES} values: {seen_ms:.2f} ms to see and index it, {plain_ms:.3f} ms to join its labels")
    result(f"the labels of {VALUES} values joined", plain_ms, unit="ms", at_most=JOIN_MS_MAX)


def sessions() -> None:
    """How fast somebody else can drive one."""
    session = Session(
        policy=MATCHING + GUARDS, operations=list(OPERATIONS.values()), principal="agent:writer",
        on_behalf_of=("person:ann",), roles={"agent:writer": ("writers",)}, words="look at src/a.py",
    )  # fmt: skip
    paths = [f"src/{n}.py" for n in range(2_000)]
    session.observe("files.list", {"text": "x"})
    started_ns = time.perf_counter_ns()
    for path in paths:
        session.ask("files.read", {"path": path})
    rate = len(paths) / ((time.perf_counter_ns() - started_ns) / 1e9)
    result("decisions of a driven session, each of another call", rate, unit="/s", at_least=DECISIONS_MIN)


def main() -> None:
    """Run everything."""
    gc.disable()
    for name in ("spread", "broad"):
        decisions(name, broad=name == "broad")
    joins()
    sessions()


if __name__ == "__main__":
    main()
