"""A node of Assent under load, as a driver (`serving`): the whole path of a call, whose effect is to do nothing.

Every call is checked against its contract, decided by a policy of 20 rules or more (the starter policy and nine, eight
of which are asked about this operation), accepted, granted (minted, sealed, verified, used up), dispatched to a lane
that does nothing, settled and logged. Three forms: `fresh`, where no two calls look alike to the rules, so each is
judged by Cedar; `remembered`, where the engine has seen the like; and `holding`, the same with three holds of budgets.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import assent
from assent.bootstrap.node import DATABASE_NAME, Blueprint, Node, open_node
from assent.bootstrap.offering import STANDARD
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, Order
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.ledger.budgets import Hold, Unit
from assent.ledger.budgets import Window as Per
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, contract_digest
from assent.ledger.effects import EffectState
from assent.ledger.intents import Intent, intent_bytes
from assent.ledger.operations import Facts, Judgement, Place
from assent.operations.wishes import Wish
from assent.policy.principals import KnownPrincipal
from assent.primitives.ids import tenant
from benchmarks.serving import Form, serve
from benchmarks.windows import Window, by_tasks

TENANT = tenant("bench")
INTENT_BYTES, VALUE_BYTES = 470, 140
RULES_MIN = 20
HOLDS = tuple(
    Hold(scope=scope, unit=Unit.TOKENS, window=per, amount=4_000, limit=10**15)
    for scope, per in (("tenant", Per.MONTH), ("agent:bench", Per.DAY), ("run:r", Per.ALL))
)
AGENT, PERSON = "agent:bench", "person:bench"
_OUTCOME = {"text": "y" * (VALUE_BYTES - len('{"text":""}'))}
_numbers = itertools.count(1)


class Noop:
    """An operation that does nothing, at a path."""

    contract = OperationContract(
        name="noop.call",
        summary="do nothing",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.KEYED,
        arguments=(
            Argument(name="path", kind="text", help="where nothing is done", required=True, authority=True),
            Argument(name="text", kind="text", help="what is not done", required=True),
        ),
        floor=ConfinementClass.LOCAL_WEAK,
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (it acts nowhere)
        """See `Operation`."""
        return Facts(path=arguments["path"], payload_bytes=len(arguments["text"]))

    def plan(self, arguments: dict[str, Any], place: Place, obligations: Obligations, key: str) -> Order:  # noqa: ARG002
        """See `Operation`."""
        return FileOrder(
            verb="write", workspace=place.workspace, path=arguments["path"], content=arguments["text"].encode(),
            limits=obligations.limits,
        )  # fmt: skip

    def observation(self, arguments: dict[str, Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """See `Operation`."""
        return None

    def judge(self, arguments: dict[str, Any], observed_code: str, observed: dict[str, Any]) -> Judgement:  # noqa: ARG002
        """See `Operation`."""
        return Judgement.UNCLEAR


class NoopLane:
    """A lane that does nothing with the file orders it gets."""

    name = "noop"
    capabilities = Capabilities()

    async def carry(
        self,
        order: Order,  # noqa: ARG002
        *,
        floor: ConfinementClass,  # noqa: ARG002
        on_event: OnEvent,  # noqa: ARG002
        steering: Steering | None = None,  # noqa: ARG002
    ) -> Outcome:
        """See `Lane`."""
        evidence = Evidence(
            lane=self.name,
            attestation=Attestation(mechanism="builtin", builtin=True),
            started_at_ms=1,
            ended_at_ms=2,
        )
        return Outcome(ending=Ending.SUCCEEDED, code="ok", value=_OUTCOME, evidence=evidence)

    async def close(self) -> None:
        """Nothing is held."""


def main() -> None:
    """Serve windows on a node in the folder that is the argument."""
    asyncio.run(_main(Path(sys.argv[1])))


async def _main(folder: Path) -> None:
    workspace = folder / "workspace"
    workspace.mkdir()
    blueprint = Blueprint(
        data=folder / "data",
        workspace=workspace,
        tenants=(TENANT,),
        principals=(KnownPrincipal(name=AGENT), KnownPrincipal(name=PERSON)),
        operations=(*STANDARD, Noop()),
    )
    async with open_node(blueprint, lanes={FileOrder: NoopLane()}) as node:
        activated = await node.policies.activate(TENANT, policy(), by=PERSON)
        rules = len(activated.report.rules)
        assert rules >= RULES_MIN, f"the policy has only {rules} rules"
        text = _padding()
        loop = asyncio.get_running_loop()

        def form(path: str, holds: tuple[Hold, ...] = ()) -> Form:
            def window(callers: int, seconds: float) -> Window:
                load = by_tasks(lambda: _call(node, path, text, holds), callers=callers, seconds=seconds)
                return asyncio.run_coroutine_threadsafe(load, loop).result()

            return window

        about = (
            f"Assent {assent.__version__}, {rules} rules, intents of {INTENT_BYTES} and values of {VALUE_BYTES} bytes"
        )
        forms = {"fresh": form("work/{:08}"), "remembered": form("work/00000000")}
        forms |= {"holding": form("work/00000000", HOLDS)}
        await asyncio.to_thread(serve, forms, about=about, settled=lambda: _settled(folder / "data" / DATABASE_NAME))


def policy() -> str:
    """The starter policy and what stands beside this file."""
    starter = (files("assent.policy") / "starter" / "starter.cedar").read_text(encoding="utf-8")
    return starter + Path(__file__).with_name("governed_policy.cedar").read_text(encoding="utf-8")


async def _call(node: Node, path: str, text: str, holds: tuple[Hold, ...]) -> None:
    number = next(_numbers)
    answer = await node.gate.perform(
        Wish(
            tenant=TENANT,
            operation=Noop.contract.name,
            arguments={"path": path.format(number), "text": text},
            principal=AGENT,
            on_behalf_of=(PERSON,),
            key=f"call-{number}",
            holds=holds,
        )
    )
    if answer.effect.state is not EffectState.SUCCEEDED:
        raise RuntimeError(f"the call became {answer.effect.state}: {answer.decision}")


def _padding() -> str:
    """As much text as makes an intent of the agreed size."""
    bare = Intent(
        tenant=TENANT,
        operation=Noop.contract.name,
        contract=contract_digest(Noop.contract),
        arguments={"path": "work/00000000", "text": ""},
        principal=AGENT,
        on_behalf_of=(PERSON,),
    )
    return "x" * (INTENT_BYTES - len(intent_bytes(bare)))


def _settled(path: Path) -> int:
    """How many calls the log says were accepted and settled."""
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM effects WHERE state = 'succeeded'").fetchone()
    (heads,) = connection.execute("SELECT sum(size) FROM log_heads").fetchone()
    connection.close()
    assert heads >= 2 * count, "every call has two entries in the log"
    return int(count)


if __name__ == "__main__":
    main()
