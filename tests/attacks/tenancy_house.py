"""A node with two tenants, one of which has one of everything: what the tenant canary is let loose in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from assent.bootstrap.node import Blueprint, Node, open_node
from assent.bootstrap.offering import STANDARD
from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.local import LocalTarget
from assent.execution.attestations import Attestation
from assent.execution.orders import FileOrder, Order
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.steering import EndInput
from assent.ledger.budgets import Hold, Unit, Window
from assent.ledger.checkpoints import Signer
from assent.ledger.decisions import Demands, Seat, Verdict
from assent.ledger.effects import Effect, EffectState
from assent.ledger.intents import Intent
from assent.ledger.policy_signatures import Signers
from assent.operations.identity.callers import Caller
from assent.operations.policies import Policies
from assent.operations.scripts import Line
from assent.operations.timelines import intent_of
from assent.operations.wishes import Answer, Wish
from assent.policy.principals import KnownPrincipal
from assent.primitives.digests import digest
from assent.primitives.ids import EffectId, ExecutionId, ReviewId, TenantId
from assent.primitives.leases import Fence
from assent.reasoning.messages import ModelRequest
from assent.registry.agents import Entry
from assent.testing.calls import Scribe, intent_to
from assent.testing.desks import ACME, GLOBEX, Desk
from assent.testing.lanes import EchoLane
from tests.attacks.tenancy import CANARY, rows_of
from tests.operations.agents_house import ANN, STARTER, Spoken, agent, is_summing_up, line

BOB, CYD = "person:bob", "person:cyd"
WRITER = agent("ask_user", models=("talks:it",))
DAY_MS = 86_400_000
THEIRS = (
    STARTER.replace("28800", "3600")
    + f"""
@id("{CANARY}") @reason("{CANARY}") permit (principal, action, resource in Connector::"http");
"""
)


def says(request: ModelRequest) -> Line:
    """The model: it asks back when it is told to, and says the word."""
    words = repr(request.messages[-1]) if request.messages else ""
    if "ask back" in words and not is_summing_up(request):
        return line("", ("ask_user", {"question": f"which {CANARY}?"}))
    return line(f"the {CANARY} sings")


class FilesOf(EchoLane):
    """Files: `echo` is spoken to, what becomes of `lost` nobody knows, and the owner's hold the word."""

    async def carry(self, order: Order, **more: Any) -> Outcome:
        if isinstance(order, FileOrder) and "echo" in order.path:
            return await super().carry(order, **more)
        evidence = Evidence(
            lane="file", attestation=Attestation(mechanism="script", builtin=True), started_at_ms=0, ended_at_ms=0
        )
        lost = isinstance(order, FileOrder) and "lost" in order.path and order.verb == "write"
        said = CANARY if isinstance(order, FileOrder) and CANARY in order.path else "nothing"
        ending = Ending.UNKNOWN if lost else Ending.SUCCEEDED
        return Outcome(ending=ending, code=f"{ending}", value={"text": said}, evidence=evidence)


@asynccontextmanager
async def furnished(folder: Path) -> AsyncIterator[House]:
    """The house, furnished; one run was begun by a node that is gone."""
    async with _opened(folder) as node:
        left = await node.runs.begin(ACME, WRITER, f"hello, {CANARY}", by=ANN)
    async with _opened(folder) as node:
        house = House(node, folder)
        house.ids["run.interrupted"] = left
        yield await house.furnish()


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[Node]:
    (folder / "workspace").mkdir(exist_ok=True)
    blueprint = Blueprint(
        data=folder / "data",
        workspace=folder / "workspace",
        tenants=(ACME, GLOBEX),
        principals=tuple(KnownPrincipal(name=one) for one in (ANN, BOB, CYD)),
        operations=(*STANDARD, Spoken("talks", says)),
        agents=(WRITER,),
    )
    async with open_node(blueprint) as node:
        here: Any = node.targets._targets[LocalTarget.name]
        here._lanes[FileOrder] = FilesOf(clock=SystemClock())
        yield node


class House:
    """The node, what the owner has on it, and short words for reaching for it as somebody else."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self._folder = folder
        self.ids: dict[str, str] = {}
        fence = Fence(node=node.id, number=1)
        self.store = node.gate._store
        self.desk = Desk(self.store, SystemClock())
        self.desk.scribe = Scribe(clock=SystemClock(), entropy=SystemEntropy(), fence=fence)
        self.fence = fence
        self.soon_ms = SystemClock().now_ms() + DAY_MS

    async def size(self) -> int:
        return await self.store.size(ACME)

    def rows(self) -> Any:
        return rows_of(self._folder / "data" / "assent.db", ACME)

    # What the owner has

    async def furnish(self) -> House:
        for tenant, text in ((ACME, THEIRS), (GLOBEX, STARTER)):
            await self.node.policies.activate(tenant, text, by=ANN)
        active = await self.node.policies.active_revision(ACME)
        assert active is not None
        self.ids["policy"] = active[0]
        proposed = THEIRS.replace("3600", "1800")
        asked = await self.node.policy_changes.propose(Caller(tenant=ACME, principal=ANN, shown_by="x"), proposed)
        assert asked.review is not None
        self.ids["proposed"] = digest(proposed.encode())
        await self._effects()
        await self._reviews()
        await self._talks()
        await self._standing()
        return self

    async def _effects(self) -> None:
        read = await self.asks("files.read", key=f"{CANARY}-key", run=f"{CANARY}-run")
        few = (Hold(scope=f"agent:{CANARY}", unit=Unit.CALLS, window=Window.ALL, amount=1, limit=1),)
        intent = intent_to(ACME, content=CANARY)
        held = await self.desk.take(self.desk.scribe.accept(intent, revision=self.ids["policy"], holds=few))
        await self.desk.settle(held)
        self.ids |= {"key": f"{CANARY}-key", "run": f"{CANARY}-run", "effect": read.effect.id, "held": held.id}
        for name in ("attested", "looked", "resent"):
            lost = await self.asks("files.write", path=f"{CANARY}-lost-{name}", content=CANARY)
            assert lost.effect.state is EffectState.UNKNOWN
            self.ids[name] = lost.effect.id
        lacking = await self.store.apply(self.desk.scribe.accept(intent, revision=self.ids["policy"], holds=few))
        refused = self.desk.scribe.accept(intent, Verdict.DENY, revision=self.ids["policy"], shortage=lacking)
        self.ids["stopped"] = (await self.desk.take(refused)).id

    async def _reviews(self) -> None:
        for name in ("asked", "approved", "run_now", "denied", "released", "revoked", "withdrawn", "told"):
            answer = await self.asks("files.delete", path=f"{CANARY}-{name}")
            assert answer.review is not None
            self.ids |= {f"review.{name}": answer.review.id, f"effect.{name}": answer.effect.id}
        for name in ("released", "revoked", "withdrawn"):
            await self.node.reviews.approve(ACME, ReviewId(self.ids[f"review.{name}"]), by=BOB, reason=CANARY)
        demands = Demands(seats=(Seat(roles=("lead",), escalate_s=60, escalate_to=("boss",)),))
        for name, more in (("escalated", {"demands": demands}), ("expiring", {"ttl_s": -1})):
            command = self.desk.scribe.accept(
                intent_to(ACME, content=CANARY), Verdict.REVIEW, revision=self.ids["policy"], **more
            )
            self.ids[f"review.{name}"] = (await self.desk.take(command)).review

    async def _talks(self) -> None:
        node = self.node
        for name in ("told", "forked", "reset", "renewed", "compact", "shorten", "asked"):
            self.ids[f"session.{name}"] = await node.sessions.open(
                ACME, agent="writer", identity=ANN, channel="cli", name=f"{CANARY}-{name}"
            )
            for _ in range(3 if name in ("compact", "shorten") else 1):
                await node.runs.drive(ACME, await self.begun(session=self.ids[f"session.{name}"]))
        self.ids["session.key"] = f"{CANARY}-said"
        run = await self.begun(session=self.ids["session.told"], key=self.ids["session.key"])
        await node.runs.drive(ACME, run)
        self.ids["run.told"] = run
        for name in ("driven", "paused", "cancelled", "asked", "given_up", "requested"):
            self.ids[f"run.{name}"] = await self.begun()
        self.ids["run.heard"] = await self.begun("ask back")
        assert (await node.runs.drive(ACME, self.ids["run.heard"])).state == "waiting"

    async def begun(self, task: str = f"hello, {CANARY}", **more: Any) -> str:
        return await self.node.runs.begin(ACME, WRITER, task, by=ANN, **more)

    async def _standing(self) -> None:
        node = self.node
        for name in ("found", "signed", "revoked"):
            self.ids[f"waiver.{name}"] = (await self.waived(ACME)).id
            token = await node.signing_in.tokens.make(ACME, by=ANN, principal=ANN, label=CANARY, until_ms=self.soon_ms)
            self.ids |= {f"token.{name}": token.token.id, f"secret.{name}": token.text}
        await node.reviews.stand_ins.name(ACME, of=ANN, by=CYD, until_ms=self.soon_ms, reason=CANARY)
        self.ids["halt"] = f"agent:{CANARY}"
        await node.halts.halt(ACME, self.ids["halt"], by=ANN, reason=CANARY)
        await node.registry.put([Entry(tenant=ACME, id=f"{CANARY}-agent", owner=self.fence)], fence=self.fence)
        echo = node.executions.start(self.wish(ACME, "files.write", path=f"echo-{CANARY}", content=CANARY))
        self.ids["execution"] = echo.id
        await anext(node.executions.events(ACME, echo.id))

    # Reaching for it

    def wish(self, tenant: str, operation: str, *, path: str = "", **more: Any) -> Wish:
        path = path or (CANARY if tenant == ACME else "plain")
        content = {"content": more.pop("content")} if "content" in more else {}
        return Wish(
            tenant=TenantId(tenant), operation=operation, arguments={"path": path, **content}, principal="agent:writer",
            on_behalf_of=(ANN,), **more,
        )  # fmt: skip

    async def asks(self, operation: str, **more: Any) -> Answer:
        return await self.node.gate.perform(self.wish(ACME, operation, **more))

    async def effect(self, tenant: str, id_: str) -> Effect:
        """The owner's effect as `tenant` would name it; what never was looks like another."""
        found = await self.store.effect(ACME, EffectId(id_))
        found = found or await self.desk.find(ACME, EffectId(self.ids["resent"]))
        return replace(found, id=EffectId(id_), tenant=TenantId(tenant))

    async def resent(self, tenant: str, id_: str) -> Answer:
        effect = await self.effect(tenant, id_)
        history = await self.store.history(ACME, await self.desk.find(ACME, EffectId(self.ids["resent"])))
        intent = intent_of(history)
        assert intent is not None
        return await self.node.gate.resend(effect, replace(intent, tenant=TenantId(tenant)))

    async def shortened(self, tenant: str, id_: str) -> None:
        journal, exchange = await self.node.sessions.now(ACME, self.ids["session.shorten"])
        journal = replace(journal, tenant=TenantId(tenant), id=id_)
        await self.node.sessions.shorten(journal, exchange, summary=b"{}", kept=1, run="x")

    async def alike(self, tenant: str) -> Any:
        about = await self.node.timelines.explain(ACME, EffectId(self.ids["effect.told"]))
        return [one.id for one in await self.node.briefings.alike(TenantId(tenant), about)]

    async def engine(self, tenant: str) -> str:
        engine = await self.node.policies.active(TenantId(tenant))
        return engine.revision if engine else ""

    def deletion(self, tenant: str) -> Intent:
        """A call that the owner's waivers are about."""
        told = {"operation": "files.delete", "arguments": {"path": "tmp/x"}, "principal": "agent:other"}
        return replace(intent_to(TenantId(tenant)), **told)

    @property
    def strict(self) -> Policies:
        """Policies where signatures are asked for, and by a release that reads texts otherwise."""
        seed = Signer(name="strict", seed=bytes(32)).key
        built = self.node.policies.built
        return Policies(
            store=self.store, build=lambda text: built(f"{text} "), check=self.node.policies.check,
            signers=Signers(keys=(seed,), needed=1),
        )  # fmt: skip

    async def result(self, tenant: str, id_: str) -> Any:
        if tenant == ACME:
            self.node.executions.say(ACME, ExecutionId(id_), EndInput(), fence=self.fence)
        return await self.node.executions.result(TenantId(tenant), ExecutionId(id_))

    async def started(self, tenant: str) -> Any:
        status = self.node.executions.start(self.wish(tenant, "files.read"))
        return await self.node.executions.result(TenantId(tenant), status.id)

    async def waived(self, tenant: str, reason: str = CANARY) -> Any:
        return await self.node.gate.waivers.make(
            TenantId(tenant), principal="agent:other", calls="files.delete path=tmp/* x9", until_ms=self.soon_ms,
            by=BOB, reason=reason,
        )  # fmt: skip
