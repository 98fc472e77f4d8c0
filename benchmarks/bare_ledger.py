"""The ledger alone, as the gate drives it: real commands into the real store, and nothing else.

Each call is an accept (dispatched at once) and a settle, with the entries, chain, Merkle nodes and signed head that
every call has. Left out are the decision, the grant (one is minted and its values are written with every call) and the
lane: a fixed outcome stands for what a lane would have said.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from assent.bootstrap.anchors import AnchorFile
from assent.bootstrap.keys import log_identity
from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.attestations import Attestation
from assent.execution.obligations import Obligations
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.seals import SealKey
from assent.ledger.acceptances import acceptance
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.commands import OpenLog, Settle, Settled, TakeLease
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.effects import EffectState
from assent.ledger.entries import SALT_BYTES
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.receipts import receipt_draft
from assent.policy.grants import Mint
from assent.primitives.digests import Digest, digest
from assent.primitives.ids import IdSource, tenant
from assent.primitives.leases import SYSTEM, Fence
from assent.storage.adapters.sqlite import SqliteDatabase

TENANT = tenant("bench")
INTENT_BYTES, VALUE_BYTES = 470, 140
_LEASE_MS = 3_600_000
_NOTHING = Digest("")


class CountingBook(LogBook):
    """A log book that counts the transactions it saw become durable."""

    commits = 0

    def committed(self) -> None:
        """Count one; see `LogBook`."""
        self.commits += 1
        super().committed()


class BareLedger:
    """A store in `folder` with a lease and an open log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"
        self._clock, self._entropy = SystemClock(), SystemEntropy()
        self._ids = IdSource(self._clock, self._entropy)
        self.identity = log_identity(folder / "keys", entropy=self._entropy)
        anchors = AnchorFile(folder / "checkpoints.txt")
        self.book = CountingBook(signer=self.identity.signer, log_id=self.identity.log_id, keep=anchors.keep)
        self.store = SqliteLedger(SqliteDatabase(self.path, clock=self._clock), book=self.book)
        self._fence = Fence(node=self._ids.node(), number=1)
        self._numbers = itertools.count(1)
        self._decision = Decision(
            verdict=Verdict.ALLOW, code="allowed", reason="rule `bench` permits it", policy_revision="",
            rules=("bench",), obligations=Obligations(),
        )  # fmt: skip
        self._grant = Mint(SealKey(self._entropy(32))).mint(
            decision=self._decision, intent=_NOTHING, order=_NOTHING, tenant=TENANT, effect=self._ids.effect(),
            attempt=1, fence=self._fence, id=self._ids.grant(), now_ms=self._clock.now_ms(),
        )  # fmt: skip
        self._outcome = _outcome(self._clock.now_ms())
        self._text = "x" * (INTENT_BYTES - len(intent_bytes(self._intent("", 1))))

    @property
    def intent(self) -> bytes:
        """The canonical bytes of a call's intent: what a yardstick has to keep as well."""
        return intent_bytes(self._intent(self._text, 1))

    async def open(self) -> None:
        """Open the database, take the lease, open the log."""
        self.store.open()
        await self.store.apply(TakeLease(tenant=SYSTEM, fence=self._fence, ttl_ms=_LEASE_MS))
        await self.store.apply(OpenLog(tenant=TENANT))

    async def call(self) -> None:
        """Accept and settle one call, durably."""
        effect = self._ids.effect()
        intent = self._intent(self._text, next(self._numbers))
        data = intent_bytes(intent)
        accept = acceptance(
            intent=intent, data=data, intent_digest=intent_digest(data), decision=self._decision, effect=effect,
            grant=self._grant, fence=self._fence, parent="", review=None, salt=self._entropy(SALT_BYTES),
            now_ms=self._clock.now_ms(),
        )  # fmt: skip
        accepted = await self.store.apply(accept)
        receipt = receipt_draft(
            effect=effect, before=accepted.seq, moves=["succeed"], state=EffectState.SUCCEEDED, attempt=1,
            fence=self._fence, outcome=self._outcome, salt=self._entropy(SALT_BYTES),
        )  # fmt: skip
        settled: Settled = await self.store.apply(
            Settle(
                tenant=TENANT, effect=effect, last_seq=accepted.seq, attempt=1, fence=self._fence,
                state=EffectState.SUCCEEDED, code="ok", draft=receipt,
            )
        )  # fmt: skip
        assert settled.applied, "the effect was settled by somebody else"

    def close(self) -> None:
        """Finish what is queued and close."""
        self.store.close()

    def _intent(self, text: str, number: int) -> Intent:
        return Intent(
            tenant=TENANT, operation="noop.call", contract=digest(b"noop.call"), arguments={"text": text},
            principal="agent:bench", on_behalf_of=("person:bench",), key=f"call-{number}",
        )  # fmt: skip


def _outcome(now_ms: int) -> Outcome:
    evidence = Evidence(
        lane="noop",
        attestation=Attestation(mechanism="builtin", builtin=True),
        started_at_ms=now_ms,
        ended_at_ms=now_ms,
    )
    return Outcome(ending=Ending.SUCCEEDED, code="ok", value={"text": "y" * (VALUE_BYTES - 11)}, evidence=evidence)
