"""One node: everything wired together, alive for the length of an `async with`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from assent.bootstrap import enlisting as enlisted
from assent.bootstrap import policy_changing, remembering
from assent.bootstrap.anchors import AnchorFile
from assent.bootstrap.beyond import guests_of, targets_beyond
from assent.bootstrap.descriptors import raise_open_files_limit
from assent.bootstrap.enlisting import AGENT_SCHEMA, Enlisting
from assent.bootstrap.keys import log_identity
from assent.bootstrap.offering import STANDARD, spellings_here
from assent.bootstrap.own_machine import own_targets
from assent.bootstrap.remembering import WorkspaceNotes
from assent.bootstrap.secrets import revealed
from assent.bootstrap.settings_skills import SkillSettings
from assent.bootstrap.settings_targets import HubSettings, TargetSettings
from assent.bootstrap.settings_web import WebSettings
from assent.bootstrap.surroundings import Surroundings
from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.carry import Executor
from assent.execution.functions import Callee
from assent.execution.grants import GrantGate
from assent.execution.ports import Lane, Secrets, Target
from assent.execution.seals import SealKey
from assent.execution.secrets import Redactor
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_agents import AGENT_APPLIES, SqliteRegistry
from assent.ledger.adapters.sqlite_guests import APPLIES
from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.adapters.sqlite_verify import SqliteVerifier
from assent.ledger.budget_limits import Limit
from assent.ledger.commands import OpenLog, ReleaseLease, RenewLease, TakeLease
from assent.ledger.connectors import catalogue
from assent.ledger.dispatch import Dispatcher
from assent.ledger.operations import Operation, Place
from assent.ledger.policy_signatures import Signers
from assent.memory.adapters.notes import DeclaredNotes
from assent.operations.agents import Agents
from assent.operations.asking import Asking
from assent.operations.backtests import BackTests
from assent.operations.briefings import Briefings
from assent.operations.budgeting import Budgeting
from assent.operations.budgets import Budgets
from assent.operations.checkpoints import Checkpoints
from assent.operations.executions import Executions
from assent.operations.functions import offered
from assent.operations.gate import Gate
from assent.operations.guests import Guests
from assent.operations.halts import Halts
from assent.operations.identity.certificates import Workload
from assent.operations.identity.providers import Provider
from assent.operations.identity.signing_in import SigningIn
from assent.operations.identity.tokens import Tokens
from assent.operations.policies import Policies
from assent.operations.policy_changes import PolicyChanges
from assent.operations.recovery import Recovery
from assent.operations.reviews import Reviews
from assent.operations.runs.host import Host
from assent.operations.runs.runs import Runs
from assent.operations.runs.sessions import Sessions
from assent.operations.targets import Targets
from assent.operations.timelines import Timelines
from assent.operations.verification import Verification
from assent.policy.activation import check
from assent.policy.bundle import Bundle
from assent.policy.engine import Engine
from assent.policy.grants import Mint
from assent.policy.principals import KnownPrincipal
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Unavailable
from assent.primitives.ids import IdSource, NodeId, TenantId
from assent.primitives.leases import SYSTEM, Fence
from assent.reasoning.agents import AgentDefinition
from assent.registry.ports import Registry
from assent.storage.adapters.liveness import Liveness
from assent.storage.adapters.sqlite import SqliteDatabase

LEASE_TTL_MS = 15_000
HEARTBEAT_S = 4.0
DATABASE_NAME = "assent.db"


class Blueprint(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is made of: where its data and workspace are, which tenants it serves, who is known, which marked
    functions of the host program it offers, which targets beyond this machine are declared, and which limits hold for
    each tenant, whose signatures put a policy in force, and whether it takes a review to put another in its place."""

    data: Path
    workspace: Path
    tenants: tuple[TenantId, ...]
    principals: tuple[KnownPrincipal, ...]
    operations: tuple[Operation, ...] = STANDARD
    functions: tuple[Callable[..., Any], ...] = ()
    declared: tuple[TargetSettings, ...] = ()
    hub: HubSettings = HubSettings()
    web: WebSettings = WebSettings()
    agents: tuple[AgentDefinition, ...] = ()
    skills: SkillSettings = SkillSettings()
    limits: tuple[Limit, ...] = ()
    providers: tuple[Provider, ...] = ()
    workloads: tuple[Workload, ...] = ()
    signers: Signers = Signers()
    policy_by_review: bool = False

    @property
    def offered(self) -> tuple[Operation, ...]:
        """Every operation: those that are given, and those of the functions."""
        return (*self.operations, *(one.operation for one in offered(self.functions)))

    @property
    def known(self) -> tuple[KnownPrincipal, ...]:
        """Every principal: those that are declared, and the agents."""
        declared = {one.name: one for one in self.principals}
        return tuple(
            {**{one.principal: KnownPrincipal(name=one.principal) for one in self.agents}, **declared}.values()
        )


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A running node's use cases."""

    id: NodeId
    gate: Gate
    reviews: Reviews
    briefings: Briefings
    signing_in: SigningIn
    recovery: Recovery
    policies: Policies
    policy_changes: PolicyChanges
    backtests: BackTests
    timelines: Timelines
    budgets: Budgets
    checkpoints: Checkpoints
    verification: Verification
    targets: Targets
    guests: Guests
    executions: Executions
    sessions: Sessions
    runs: Runs
    host: Host
    halts: Halts
    agents: Agents
    registry: Registry
    operations: Mapping[str, Operation]
    anchors: AnchorFile
    place: Place


@asynccontextmanager
async def open_node(
    blueprint: Blueprint,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    lanes: Mapping[type, Lane] | None = None,
) -> AsyncIterator[Node]:
    """Open the database, take the lease, fence out the dead, and serve until the block ends.

    Raises:
        Unavailable: the database or its key cannot be used.
    """
    clock = clock or SystemClock()
    entropy = entropy or SystemEntropy()
    raise_open_files_limit()
    ids = IdSource(clock, entropy)
    data = _made(blueprint.data)
    identity = log_identity(data / "keys", entropy=entropy)
    anchors = AnchorFile(data / "checkpoints.txt")
    book = LogBook(signer=identity.signer, log_id=identity.log_id, keep=anchors.keep)
    database = SqliteDatabase(data / DATABASE_NAME, clock=clock)
    store = SqliteLedger(database, book=book, more={**APPLIES, **AGENT_APPLIES})
    liveness, node_id = Liveness(data / "nodes"), ids.node()
    store.open()
    try:
        liveness.hold(node_id)
        fence = Fence(node=node_id, number=1)
        await store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=LEASE_TTL_MS))
        seal = SealKey(entropy(32))
        redactor = Redactor()
        secrets = revealed(blueprint.offered, redactor)
        surroundings = Surroundings(blueprint.workspace, blueprint.skills)
        registry = SqliteRegistry(store, schema=AGENT_SCHEMA)
        operations = catalogue(blueprint.offered)
        policies = _policies(store, operations, blueprint)
        own = {**surroundings.callees, **enlisted.callees(registry), **policy_changing.callees(policies)}
        targets = _targets(blueprint, own, lanes, store=store, clock=clock, entropy=entropy, secrets=secrets)
        executor = Executor(targets=targets, gate=GrantGate(seal), clock=clock)
        verifier = SqliteVerifier(data / DATABASE_NAME, key=identity.signer.key.encode(), clock=clock)
        node = _wire(
            blueprint, store=store, surroundings=surroundings, executor=executor,
            targets=Targets(targets=targets, clock=clock), operations=operations, policies=policies, mint=Mint(seal),
            fence=fence, ids=ids, clock=clock, entropy=entropy, liveness=liveness, anchors=anchors,
            redactor=redactor, verifier=verifier, registry=registry,
        )  # fmt: skip
        enlisting = Enlisting(
            node.registry, blueprint.agents, tenants=blueprint.tenants, fence=fence, health=node.runs.health
        )
        await _take_in(node, store, blueprint, enlisting)
        try:
            async with _beating(store, fence, node, enlisting):
                yield node
        finally:
            await executor.close()
            with contextlib.suppress(Unavailable):  # what stays owed is found `unknown` by the next node
                await node.gate.settle_owed()
            await store.apply(ReleaseLease(tenant=SYSTEM, fence=fence))
    finally:
        store.close()
        liveness.release(node_id)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable(
            "folder_unwritable", f"`{folder}` cannot be made: {error.strerror}", hint="check the permissions above it"
        ) from error
    return folder


def _wire(
    blueprint: Blueprint,
    *,
    store: SqliteLedger,
    surroundings: Surroundings,
    executor: Executor,
    targets: Targets,
    operations: Mapping[str, Operation],
    policies: Policies,
    mint: Mint,
    fence: Fence,
    ids: IdSource,
    clock: Clock,
    entropy: Entropy,
    liveness: Liveness,
    anchors: AnchorFile,
    redactor: Redactor,
    verifier: SqliteVerifier,
    registry: Registry,
) -> Node:
    place, agents = Place(workspace=str(blueprint.workspace)), {one.name: one for one in blueprint.agents}
    dispatcher = Dispatcher(store=store, executor=executor, clock=clock, entropy=entropy, redactor=redactor)
    gate = Gate(
        store=store, dispatcher=dispatcher, policies=policies, mint=mint, targets=targets, operations=operations,
        tenants=blueprint.tenants, place=place, fence=fence, ids=ids, clock=clock, entropy=entropy,
        budgeting=Budgeting(blueprint.limits), redactor=redactor,
    )  # fmt: skip
    recovery = Recovery(
        store=store, gate=gate, operations=operations, liveness=liveness, node=fence.node, entropy=entropy
    )
    sessions = Sessions(store=store, fence=fence, entropy=entropy)
    asking = Asking(operations=operations, tenants=blueprint.tenants, place=place)
    timelines = Timelines(store=store, limits=blueprint.limits)
    backtests = BackTests(store=store, policies=policies, asking=asking, operations=operations, clock=clock)
    changes = PolicyChanges(store=store, gate=gate, policies=policies, backtests=backtests, clock=clock)
    runs = Runs(
        store=store, gate=gate, recovery=recovery, sessions=sessions, operations=operations, agents=agents,
        fence=fence, ids=ids, clock=clock, entropy=entropy, spellings=spellings_here(),
        surroundings=surroundings, redact=redactor.text,
    )  # fmt: skip
    return Node(
        id=fence.node,
        gate=gate,
        reviews=Reviews(store=store, gate=gate, policies=policies, fence=fence, clock=clock, entropy=entropy),
        briefings=Briefings(store=store, gate=gate, timelines=timelines, policy_changes=changes),
        signing_in=_signing_in(blueprint, store=store, fence=fence, clock=clock, entropy=entropy),
        recovery=recovery,
        sessions=sessions,
        runs=runs,
        halts=Halts(store=store, fence=fence, entropy=entropy),
        host=Host(runs=runs, store=store, tenants=blueprint.tenants, fence=fence, clock=clock),
        agents=Agents(store=store, registry=registry, node=fence.node),
        registry=registry,
        policies=policies,
        policy_changes=changes,
        backtests=backtests,
        timelines=timelines,
        budgets=Budgets(store=store, limits=blueprint.limits, clock=clock),
        checkpoints=Checkpoints(store=store),
        verification=Verification(verifier=verifier),
        targets=targets,
        guests=guests_of(
            blueprint.declared, hub=blueprint.hub, data=blueprint.data, store=store, clock=clock, entropy=entropy
        ),
        executions=Executions(gate=gate, ids=ids, fence=fence),
        operations=operations,
        anchors=anchors,
        place=place,
    )


def _signing_in(
    blueprint: Blueprint, *, store: SqliteLedger, fence: Fence, clock: Clock, entropy: Entropy
) -> SigningIn:
    return SigningIn(
        tokens=Tokens(store=store, fence=fence, clock=clock, entropy=entropy),
        providers=blueprint.providers,
        workloads=blueprint.workloads,
        clock=clock,
    )


async def _take_in(node: Node, store: SqliteLedger, blueprint: Blueprint, enlisting: Enlisting) -> None:
    """Begin the logs of the tenants, fence out the dead, and let the agents be found that nobody else answers for."""
    for tenant in blueprint.tenants:
        await store.apply(OpenLog(tenant=tenant))
    await node.recovery.fence_out_the_dead()
    await enlisting.enlist()


def _targets(
    blueprint: Blueprint,
    callees: Mapping[str, Callee],
    lanes: Mapping[type, Lane] | None,
    *,
    store: SqliteLedger,
    clock: Clock,
    entropy: Entropy,
    secrets: Secrets,
) -> list[Target]:
    data = blueprint.data
    memory = DeclaredNotes(WorkspaceNotes(blueprint.workspace), tenants=blueprint.tenants)
    callees = {**callees, **remembering.callees(memory, clock)}
    own = own_targets(
        clock, entropy, data, lanes, blueprint.functions, web=blueprint.web, callees=callees, secrets=secrets
    )
    return [*own, *targets_beyond(blueprint.declared, data=data, store=store, clock=clock, entropy=entropy)]


def _policies(
    store: SqliteLedger,
    operations: Mapping[str, Operation],
    blueprint: Blueprint,
) -> Policies:
    principals = blueprint.known
    contracts = {name: operation.contract for name, operation in operations.items()}
    return Policies(
        store=store,
        build=lambda text: Engine(bundle=Bundle(text=text), contracts=contracts, principals=principals),
        check=lambda text: check(text, contracts=contracts, principals=principals),
        signers=blueprint.signers,
        reviewed=blueprint.policy_by_review,
    )


@asynccontextmanager
async def _beating(store: SqliteLedger, fence: Fence, node: Node, enlisting: Enlisting) -> AsyncIterator[None]:
    """Hold the lease, and keep the agents enlisted beside it; at the end, first stop what still runs."""
    heart = [asyncio.ensure_future(_beat(store, fence, node.gate)), asyncio.ensure_future(_keep(enlisting))]
    try:
        yield
    finally:
        await node.executions.close()
        for one in heart:
            one.cancel()
        await asyncio.wait(heart)


async def _beat(store: SqliteLedger, fence: Fence, gate: Gate) -> None:
    """Renew the lease until it is lost. Once lost nothing more is accepted: every accept proves the fence."""
    held = True
    while held:
        with contextlib.suppress(Unavailable):  # a locked or full database may be well again at the next beat
            held = await store.apply(RenewLease(tenant=SYSTEM, fence=fence, ttl_ms=LEASE_TTL_MS))
            await gate.settle_owed()
        await asyncio.sleep(HEARTBEAT_S)


async def _keep(enlisting: Enlisting) -> None:
    """Keep the registry as it should be, at every heartbeat. No lease waits for that."""
    while True:
        with contextlib.suppress(Unavailable):  # the same; without a lease it writes nothing
            await enlisting.enlist()
            await enlisting.sweep()
        await asyncio.sleep(HEARTBEAT_S)
