"""A whole node on a test's bench: the real gate, policy, ledger and dispatcher, over lanes and a clock of the test's.

Wired as `assent.bootstrap.node` wires one, but with every part open to be replaced or to die (`CrashPlan`), and without
a heartbeat: a test renews the lease when it wants to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from assent.bootstrap.offering import STANDARD
from assent.execution.adapters.local import LocalTarget
from assent.execution.carry import Executor
from assent.execution.grants import GrantGate
from assent.execution.ports import Lane
from assent.execution.seals import SealKey
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.budget_limits import Limit
from assent.ledger.commands import OpenLog, ReleaseLease, RenewLease, TakeLease
from assent.ledger.connectors import catalogue
from assent.ledger.dispatch import Dispatcher
from assent.ledger.operations import Operation, Place
from assent.operations.asking import Asking
from assent.operations.backtests import BackTests
from assent.operations.budgeting import Budgeting
from assent.operations.budgets import Budgets
from assent.operations.executions import Executions
from assent.operations.gate import Gate
from assent.operations.policies import Policies
from assent.operations.recovery import Recovery
from assent.operations.reviews import Reviews
from assent.operations.targets import Targets
from assent.operations.timelines import Timelines
from assent.operations.wishes import Answer, Wish
from assent.policy.activation import check
from assent.policy.bundle import Bundle
from assent.policy.engine import Engine
from assent.policy.grants import Mint
from assent.policy.principals import KnownPrincipal
from assent.primitives.clock import Clock, Entropy
from assent.primitives.ids import IdSource, TenantId
from assent.primitives.leases import SYSTEM, Fence
from assent.storage.adapters.liveness import Liveness
from assent.testing.entropy import SeededEntropy
from assent.testing.faults import CrashingStore, CrashPlan, crashing_lanes
from assent.testing.ledgers import LedgerFolder

ACME = TenantId("acme")
LEASE_TTL_MS = 60_000
AGENT = "agent:writer"
ANN = "person:ann"

PRINCIPALS = (
    KnownPrincipal(name=ANN),
    KnownPrincipal(name="person:bob"),
    KnownPrincipal(name="person:cyd"),
    KnownPrincipal(name=AGENT),
)

# Everything the built-in connectors offer is permitted, except that somebody must approve what is deleted.
WORK_POLICY = """
@id("work") permit (principal, action, resource in Connector::"files");
@id("run") permit (principal, action, resource in Connector::"shell");
@id("fetch") permit (principal, action, resource in Connector::"http");

@id("delete-asked") @review("Delete this?") @quorum("1") @review_ttl_s("600")
forbid (principal, action, resource == Operation::"files.delete")
unless { context has approval && context.approval.intent == context.intent };

@id("outside") forbid (principal, action, resource) unless { context.inside_workspace };
"""


class BenchParts(msgspec.Struct, frozen=True, kw_only=True):
    """What a bench is made of. `policy` is activated when none is active."""

    folder: LedgerFolder
    workspace: Path
    lanes: Mapping[type, Lane]
    policy: str
    operations: tuple[Operation, ...] = STANDARD
    principals: tuple[KnownPrincipal, ...] = PRINCIPALS
    tenants: tuple[TenantId, ...] = (ACME,)
    ttl_ms: int = LEASE_TTL_MS
    limits: tuple[Limit, ...] = ()


class Bench:
    """A running node, and short words for what tests do with it."""

    def __init__(
        self, parts: BenchParts, *, store: SqliteLedger, clock: Clock, entropy: Entropy, plan: CrashPlan
    ) -> None:
        ids = IdSource(clock, entropy)
        operations = catalogue(parts.operations)
        contracts = {name: operation.contract for name, operation in operations.items()}
        seal = SealKey(entropy(32))
        told: Any = CrashingStore(store, plan)
        self.parts = parts
        self.ledger = store
        self.store = told
        self.fence = Fence(node=ids.node(), number=1)
        self.liveness = Liveness(parts.folder.database.parent / "nodes")
        targets = [LocalTarget(lanes=crashing_lanes(parts.lanes, plan), clock=clock)]
        self.executor = Executor(targets=targets, gate=GrantGate(seal), clock=clock)
        self.policies = Policies(
            store=told,
            build=lambda text: Engine(bundle=Bundle(text=text), contracts=contracts, principals=parts.principals),
            check=lambda text: check(text, contracts=contracts, principals=parts.principals),
        )
        self.dispatcher = Dispatcher(store=told, executor=self.executor, clock=clock, entropy=entropy)
        self.gate = Gate(
            store=told,
            dispatcher=self.dispatcher,
            policies=self.policies,
            mint=Mint(seal),
            targets=Targets(targets=targets, clock=clock),
            operations=operations,
            tenants=parts.tenants,
            place=Place(workspace=str(parts.workspace)),
            fence=self.fence,
            ids=ids,
            clock=clock,
            entropy=entropy,
            budgeting=Budgeting(parts.limits),
        )
        asking = Asking(operations=operations, tenants=parts.tenants, place=Place(workspace=str(parts.workspace)))
        self.backtests = BackTests(
            store=told, policies=self.policies, asking=asking, operations=operations, clock=clock
        )
        self.reviews = Reviews(
            store=told, gate=self.gate, policies=self.policies, fence=self.fence, clock=clock, entropy=entropy
        )
        self.executions = Executions(gate=self.gate, ids=ids, fence=self.fence)
        self.timelines = Timelines(store=told, limits=parts.limits)
        self.budgets = Budgets(store=told, limits=parts.limits, clock=clock)
        self.recovery = Recovery(
            store=told, gate=self.gate, operations=operations, liveness=self.liveness, node=self.fence.node,
            entropy=entropy,
        )  # fmt: skip

    async def perform(self, operation: str, arguments: Mapping[str, Any], *, key: str = "", run: str = "") -> Answer:
        """An agent's wish."""
        return await self.gate.perform(wish(operation, arguments, key=key, run=run))

    async def renew(self) -> bool:
        """One heartbeat; whether the lease is still held."""
        held: bool = await self.ledger.apply(RenewLease(tenant=SYSTEM, fence=self.fence, ttl_ms=self.parts.ttl_ms))
        return held


def wish(
    operation: str,
    arguments: Mapping[str, Any],
    *,
    key: str = "",
    run: str = "",
    principal: str = AGENT,
    tenant: TenantId = ACME,
) -> Wish:
    """What a surface would hand to the gate for an agent of Ann's."""
    chain = () if principal.startswith("person:") else (ANN,)
    return Wish(
        tenant=tenant,
        operation=operation,
        arguments=arguments,
        principal=principal,
        on_behalf_of=chain,
        key=key,
        run=run,
    )


@asynccontextmanager
async def opened_bench(
    parts: BenchParts,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    plan: CrashPlan | None = None,
) -> AsyncIterator[Bench]:
    """A node that holds its lease and has fenced out the dead, for the length of the block."""
    clock, plan = clock or parts.folder.clock, plan or CrashPlan()
    store = parts.folder.ledger(clock=clock, plan=plan)
    store.open()
    bench = Bench(parts, store=store, clock=clock, entropy=entropy or SeededEntropy(), plan=plan)
    try:
        bench.liveness.hold(bench.fence.node)
        await store.apply(TakeLease(tenant=SYSTEM, fence=bench.fence, ttl_ms=parts.ttl_ms))
        for tenant in parts.tenants:
            await store.apply(OpenLog(tenant=tenant))
            if parts.policy and await store.active_policy(tenant) is None:
                await bench.policies.activate(tenant, parts.policy, by=ANN)
        await bench.recovery.fence_out_the_dead()
        yield bench
        await bench.executions.close()
        await bench.executor.close()
        await store.apply(ReleaseLease(tenant=SYSTEM, fence=bench.fence))
    finally:
        store.close()
        bench.liveness.release(bench.fence.node)
