"""What a decision costs, against the policy engine alone.

The yardstick is `cedarpy.is_authorized` in the same process, with everything prepared: all policies, entities and the
schema as handles, the request as a dict, its context already JSON text. Ours starts from an intent and facts, and ends
in a decision with reason and obligations. Batches of both are interleaved; a figure is the median over the batches, a
ratio the median of the ratios of neighbouring batches.

    python -m benchmarks.decision

Two policies of 100 rules, of which three match. *spread*: the rules are about the whole catalogue of operations, as
policies are; ours asks only the slice that can match. *broad*: all but two are about the call that is made, so there is
hardly anything to leave out.

Measured on 2 shared cores (CPython 3.11.7, cedarpy 4.12.2), medians in microseconds:

            yardstick   decision          review (two questions)   approved (two questions)   cached
    spread     124      91   0.74 ×        197   1.6 ×              194   1.6 ×                 2.7
    broad      172     200   1.17 ×        422   2.4 ×              419   2.4 ×                 2.7

    a grant minted 4.4, minted and admitted 7.5; activation check of 100 rules 320 ms
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import cedarpy
import msgspec

from assent.bootstrap.offering import STANDARD
from assent.execution.grants import GrantGate
from assent.execution.seals import SealKey
from assent.ledger.connectors import catalogue
from assent.ledger.contracts import contract_digest
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.operations import Facts, Place
from assent.policy.activation import check
from assent.policy.approvals import Approval
from assent.policy.bundle import Bundle
from assent.policy.engine import Engine
from assent.policy.grants import Mint
from assent.policy.principals import KnownPrincipal
from assent.policy.requests import context_of
from assent.policy.schema import SCHEMA
from assent.policy.world import World
from assent.primitives.digests import Digest
from assent.primitives.ids import EffectId, GrantId, NodeId, TenantId
from assent.primitives.leases import Fence
from benchmarks.reporting import result

RULES = 100
BATCHES = 60
BATCH = 100
RATIO_MAX = 1.5
CACHED_US_MAX = 10.0

OPERATIONS = catalogue(STANDARD)
CONTRACTS = {name: operation.contract for name, operation in OPERATIONS.items()}
PRINCIPALS = (
    KnownPrincipal(name="agent:writer", roles=("writers",)),
    KnownPrincipal(name="person:ann", roles=("owners",)),
)
MATCHING = """
@id("files-read") @reason("reading is safe") permit(principal, action == Action::"read", resource in Connector::"files")
when { context.inside_workspace };
@id("writers-read") @wall_s("20") permit(principal in Role::"writers", action == Action::"read", resource);
@id("small") @output_kb("512") permit(principal, action, resource in Connector::"files")
when { context.payload_bytes < 1000 };
@id("delete") permit(principal, action, resource == Operation::"files.delete");
@id("delete-reviewed") @review("Delete it?") forbid(principal, action, resource == Operation::"files.delete")
unless { context has approval && context.approval.intent == context.intent };
"""
Call = tuple[Intent, Digest, Facts]


def policy(*, broad: bool) -> str:
    """The text of `RULES` rules: the matching ones, and others about all operations, or about all of the same ones."""
    names = sorted(CONTRACTS)
    others = RULES - MATCHING.count("@id")
    rules = [MATCHING]
    for number in range(others):
        resource = 'in Connector::"files"' if broad else f'== Operation::"{names[number % len(names)]}"'
        effect = "forbid" if number % 3 == 0 else "permit"
        condition = f'context has path && context.path like "area-{number}/*" && context.payload_bytes > {number}'
        rules.append(f'@id("r{number}") {effect}(principal, action, resource {resource}) when {{ {condition} }};')
    return "\n".join(rules)


def call(operation: str) -> Call:
    """An agent's call of a file operation."""
    intent = Intent(
        tenant=TenantId("acme"),
        operation=operation,
        contract=contract_digest(CONTRACTS[operation]),
        arguments={"path": "src/a.py"},
        principal="agent:writer",
        on_behalf_of=("person:ann",),
        run="run_1",
    )
    facts = OPERATIONS[operation].facts(intent.arguments, Place(workspace="/srv/workspace"))
    return intent, intent_digest(intent_bytes(intent)), facts


def bare(text: str, wish: Call) -> Callable[[], Any]:
    """The yardstick: the same question to the same policies, all prepared."""
    world = World(contracts=CONTRACTS, principals=PRINCIPALS)
    schema = cedarpy.Schema.from_str(SCHEMA)
    rules = cedarpy.PolicySet.from_str(text)
    entities = cedarpy.Entities.from_json_str(msgspec.json.encode(world.entities()).decode(), schema)
    intent, digest, facts = wish
    request = {
        "principal": {"type": "Agent", "id": "writer"},
        "action": {"type": "Action", "id": world.offers[intent.operation].action},
        "resource": {"type": "Operation", "id": intent.operation},
        "context": context_of(intent, digest, facts, counts=()),
    }
    return lambda: cedarpy.is_authorized(request, rules, entities, schema)


def ours(engine: Engine, wish: Call, approval: Approval | None = None, *, cached: bool = False) -> Callable[[], Any]:
    """A decision; `cached` leaves the cache as it is, otherwise it is emptied before each."""
    intent, digest, facts = wish

    def decide() -> object:
        if not cached:
            engine._cache.clear()  # noqa: SLF001 (to measure without it)
        return engine.decide(intent=intent, intent_digest=digest, facts=facts, approval=approval)

    return decide


def batch_us(work: Callable[[], Any]) -> float:
    """Microseconds per call over one batch."""
    started_ns = time.perf_counter_ns()
    for _ in range(BATCH):
        work()
    return (time.perf_counter_ns() - started_ns) / 1000 / BATCH


def compare(*works: Callable[[], Any]) -> list[tuple[float, float]]:
    """For each piece of work the median per call, and the median ratio to the first, over interleaved batches."""
    for work in works:
        batch_us(work)
    rows = [[batch_us(work) for work in works] for _ in range(BATCHES)]
    return [
        (statistics.median(row[n] for row in rows), statistics.median(row[n] / row[0] for row in rows))
        for n in range(len(works))
    ]


def minting(engine: Engine, wish: Call) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Minting a grant, and minting one and admitting it."""
    intent, digest, facts = wish
    decision = engine.decide(intent=intent, intent_digest=digest, facts=facts)
    key = SealKey(b"k" * 32)
    mint, gate = Mint(key), GrantGate(key)
    fence = Fence(node=NodeId("nod_" + "0" * 24), number=7)
    count = 0

    def make() -> Any:
        nonlocal count
        count += 1
        return mint.mint(
            decision=decision,
            intent=digest,
            order=digest,
            tenant=intent.tenant,
            effect=EffectId("eff_" + "0" * 24),
            attempt=1,
            fence=fence,
            now_ms=1_800_000_000_000,
            id=GrantId(f"gra_{count:024}"),
        )

    return make, lambda: gate.admit(make(), order=digest, now_ms=1_800_000_000_000)


def measure(name: str, text: str) -> float:
    """Print the figures of one policy; return the ratio of a decision to the yardstick."""
    read, delete = call("files.read"), call("files.delete")
    approval = Approval(intent=delete[1], quorum=1, approvers=("person:ann",))
    engine = Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=PRINCIPALS)
    decision = engine.decide(intent=read[0], intent_digest=read[1], facts=read[2])
    assert decision.rules == ("files-read", "small", "writers-read"), "the policy decides as it is meant to"
    works = bare(text, read), ours(engine, read), ours(engine, read, cached=True)
    (yard, _), (plain, ratio), (cached, _) = compare(*works)
    print(f"{name:<7} yardstick {yard:7.1f}   decision {plain:7.1f}   {ratio:4.2f} ×; limit {RATIO_MAX} ×")
    print(f"{name:<7} cached    {cached:7.1f}   limit {CACHED_US_MAX:.0f}")
    works = bare(text, delete), ours(engine, delete), ours(engine, delete, approval)
    (yard, _), (review, once), (approved, again) = compare(*works)
    print(f"{name:<7} yardstick {yard:7.1f}   review   {review:7.1f}   {once:4.2f} × (two questions)")
    print(f"{name:<7} yardstick {yard:7.1f}   approved {approved:7.1f}   {again:4.2f} × (two questions)")
    started_ns = time.perf_counter_ns()
    report = check(text, contracts=CONTRACTS, principals=PRINCIPALS)
    took_ms = (time.perf_counter_ns() - started_ns) / 1e6
    print(f"{name:<7} activation check of {RULES} rules: {took_ms:.0f} ms, {len(report.faults)} faults")
    return ratio


def main() -> None:
    """Print one line per figure."""
    gc.disable()
    ratios = {name: measure(name, policy(broad=name == "broad")) for name in ("spread", "broad")}
    engine = Engine(bundle=Bundle(text=MATCHING), contracts=CONTRACTS, principals=PRINCIPALS)
    (make, _), (admitted, _) = compare(*minting(engine, call("files.read")))
    print(f"mint    grant     {make:7.1f}   mint and admit {admitted:7.1f}")
    for name, ratio in ratios.items():
        result(f"a decision among {RULES} rules ({name}), against the bare engine", ratio, at_most=RATIO_MAX)


if __name__ == "__main__":
    main()
