"""Policy changes by review: who wants another policy in force asks for it, and others look at what it changes.

`policy.activate` is an operation like any other. So the policy in force says who may ask for another and whose yes that
takes, the question waits in the inbox with its seats, stand-ins and end, and what came of it is on record. A proposal
names the revision that it would replace: once another has come into force, it is over, since what was looked at is not
what would change.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder
from assent.ledger.contracts import (
    Argument,
    EffectClass,
    Idempotency,
    OperationContract,
    read_arguments,
)
from assent.ledger.intents import Intent
from assent.ledger.journals import content
from assent.ledger.operations import Facts, Place
from assent.ledger.policy_signatures import SIGNATURES_MAX
from assent.ledger.ports import LedgerStore
from assent.operations.backtests import BackTest, BackTests, Period
from assent.operations.gate import Gate
from assent.operations.identity.callers import Caller
from assent.operations.own_functions import OwnFunction
from assent.operations.policies import Policies
from assent.operations.wishes import Answer
from assent.policy.comparing import Comparison
from assent.primitives.clock import Clock
from assent.primitives.errors import Conflict, Malformed, NotFound
from assent.primitives.ids import TenantId

NAME = "policy.activate"
DIGEST_BYTES_MAX = 80
SIGNATURE_BYTES_MAX = 400
LOOK_BACK_MS = 30 * 86_400_000
"""How far back recorded calls are decided again to show what a proposal would have changed."""


class PolicyActivate(OwnFunction):
    """Put another policy in force."""

    contract = OperationContract(
        name=NAME,
        summary="put a policy in force",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NATURAL,
        arguments=(
            Argument(
                name="revision", kind="text", help="the revision that comes into force", required=True, authority=True,
                bytes_max=DIGEST_BYTES_MAX,
            ),
            Argument(
                name="replaces", kind="text", help="the revision that is in force until then", required=True,
                authority=True, bytes_max=DIGEST_BYTES_MAX,
            ),
            Argument(name="text", kind="contents", help="its text", required=True, bytes_max=DIGEST_BYTES_MAX),
            Argument(name="signatures", kind="texts", help="who signed it", bytes_max=SIGNATURE_BYTES_MAX),
        ),
        floor=ConfinementClass.LOCAL_WEAK,
    )  # fmt: skip

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """How large it is, as far as its text is there: policy tests suppose calls without it."""
        return Facts(payload_bytes=len(place.contents.get(self._piece(arguments), b"")))

    def plan(self, arguments: dict[str, Any], place: Place, obligations: Obligations, key: str) -> FunctionOrder:
        """The order for the function lane; the entry of the activation names the call, and never a person.

        Raises:
            Malformed: `arguments_invalid`.
        """
        given, text = read_arguments(self.contract, arguments), place.contents.get(self._piece(arguments))
        if text is None:
            raise Malformed("arguments_invalid", "the piece that `text` names is not there")
        said = {
            "tenant": place.tenant, "text": text.decode(), "revision": given["revision"],
            "replaces": given["replaces"], "signatures": list(given.get("signatures") or ()), "by": f"call {key}",
        }  # fmt: skip
        return self.order(said, obligations)

    def _piece(self, arguments: dict[str, Any]) -> str:
        given = read_arguments(self.contract, arguments)
        if len(given["text"]) != 1 or len(given.get("signatures") or ()) > SIGNATURES_MAX:
            raise Malformed("arguments_invalid", "`text` names one piece, which holds the policy")
        return str(given["text"][0])


POLICY_ACTIVATE = PolicyActivate()


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy that is asked for would change: its text as a unified diff, the calls that it would let happen more
    easily, and what it makes of the calls of the last 30 days. `over` says that it can come into force no more."""

    diff: str
    comparison: Comparison | None = None
    backtest: BackTest | None = None
    over: str = ""


class PolicyChanges:
    """Asks for another policy, and tells what it would change. Every dependency is given."""

    def __init__(
        self, *, store: LedgerStore, gate: Gate, policies: Policies, backtests: BackTests, clock: Clock
    ) -> None:
        self._store = store
        self._gate = gate
        self._policies = policies
        self._backtests = backtests
        self._clock = clock

    async def propose(self, caller: Caller, text: str, *, signatures: Sequence[str] = ()) -> Answer:
        """Ask, as `caller`, for `text` to come into force. What comes of it, the policy in force says.

        Raises:
            Refused: `scope_exceeded`: what shows the caller is not good for that.
            Malformed: `policy_rejected`, naming each fault.
            NotFound: `policy_missing`: there is no policy that could say who may.
            Conflict: `policy_stands`: it is in force already.
        """
        revision = self._policies.must_pass(text).revision
        active = await self._policies.active_revision(caller.tenant)
        if active is None:
            raise NotFound("policy_missing", "no policy is active", hint="run `assent policy activate`")
        if active[0] == revision:
            raise Conflict("policy_stands", "this policy is in force already")
        piece = content(text.encode())
        said = {"revision": revision, "replaces": active[0], "text": [piece.digest], "signatures": list(signatures)}
        return await self._gate.perform(replace(caller.wish(NAME, said), contents=(piece,)))

    async def told(self, tenant: TenantId, intent: Intent) -> Proposal | None:
        """What a call would change, if it asks for another policy and its text was not erased."""
        if intent.operation != NAME:
            return None
        names = list(intent.arguments["text"])
        found = await self._store.contents(tenant, names)
        before = await self._policies.told(tenant, intent.arguments["replaces"])
        if before is None or set(names) - found.keys():
            return None
        text = "".join(found[one].decode() for one in names)
        lines = difflib.unified_diff(
            before.text.splitlines(), text.splitlines(), "the policy then in force", "the policy asked for",
            lineterm="", n=2,
        )  # fmt: skip
        active = await self._policies.active_revision(tenant)
        if active is None or active[0] != intent.arguments["replaces"]:
            return Proposal(diff="\n".join(lines), over="another policy came into force since it was asked for")
        since = Period(since_ms=self._clock.now_ms() - LOOK_BACK_MS)
        return Proposal(
            diff="\n".join(lines),
            comparison=await self._backtests.compare(tenant, text),
            backtest=await self._backtests.run(tenant, text, period=since),
        )
