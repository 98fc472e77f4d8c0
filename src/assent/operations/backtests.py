"""Back-tests: the recorded calls of a period, decided again under another policy. Reads only; nothing is carried out.

A recorded call is its intent and its provenance; the facts are computed from them again, with the operations of today.
That cannot be done for a call whose payload was erased, whose operation is gone or has another contract by now, or
whose arguments the operation does not take; such calls are left out, and counted by why.

Rules that count are told what they would have been told, had everything been decided so since the period began.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from assent.ledger.contracts import contract_digest
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.intents import Intent
from assent.ledger.operations import Operation
from assent.ledger.ports import LedgerStore, Record
from assent.ledger.provenance import UNVOUCHED, Provenance
from assent.operations.asking import Asked, Asking
from assent.operations.counting import Replayed
from assent.operations.policies import Policies
from assent.policy.comparing import Comparison, compare
from assent.policy.engine import Engine
from assent.policy.replays import ALLOWED_THEN, NEVER_ASKED, Change, Changes, Coverage, Coverages, Recorded
from assent.primitives.clock import Clock
from assent.primitives.digests import Digest
from assent.primitives.errors import NotFound
from assent.primitives.ids import TenantId

PAGE = 500
NAMED_MAX = 500


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that could not be decided again: why, how many, and one of them."""

    why: str
    calls: int
    example: str


class BackTest(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy makes of recorded calls. `changes` are against the revision in force (what activating it changes),
    `drift` against what was decided then."""

    revision: Digest
    active: str
    calls: int
    verdicts: Mapping[str, int]
    changes: tuple[Change, ...]
    drift: tuple[Change, ...]
    left_out: tuple[LeftOut, ...]
    coverage: Coverage
    duration_ms: int

    @property
    def per_second(self) -> int:
        """How many calls were decided in a second."""
        return self.calls * 1_000 // max(1, self.duration_ms)


class Period(NamedTuple):
    """Which calls: accepted from `since_ms` on and before `until_ms`, of this operation or connector (empty: any)."""

    since_ms: int = 0
    until_ms: int = 2**62
    operation: str = ""

    def holds(self, record: Record) -> bool:
        """Whether an entry is of such a call."""
        if record.type != "effect.accepted" or not self.since_ms <= record.at < self.until_ms:
            return False
        name = record.body["operation"]
        return not self.operation or name == self.operation or name.partition(".")[0] == self.operation


class _Accepted(msgspec.Struct, frozen=True, kw_only=True):
    intent: Intent
    provenance: Provenance = UNVOUCHED


_read = msgspec.json.Decoder(_Accepted).decode


class _Pass:
    """One pass over the record, and what is counted on the way."""

    def __init__(self, engine: Engine, active: Engine | None, *, covering: bool) -> None:
        self.engine, self.active, self.covering = engine, active, covering
        self._counted, self._counted_now = Replayed(engine), Replayed(active) if active else None
        self.calls = 0
        self.verdicts: Counter[str] = Counter()
        self.changes, self.drift, self.coverage = Changes(), Changes(), Coverages()
        self.left_out: dict[str, tuple[int, str]] = {}

    def leave_out(self, why: str, effect: str) -> None:
        count, example = self.left_out.get(why, (0, effect))
        self.left_out[why] = (count + 1, example)

    def take(self, call: Recorded, asked: Asked) -> None:
        self.calls += 1
        seen = self._counted.seen(asked, call.at_ms)
        decided = _decided(self.engine, seen)
        self._counted.take(asked, call.at_ms, decided)
        self.verdicts[decided.verdict] += 1
        self.drift.add(call, call.verdict, decided)
        self.changes.add(call, self._now(call, asked, decided), decided)
        if self.covering:
            applying = self.engine.applying(intent=asked.intent, intent_digest=asked.digest, facts=seen.facts)
            self.coverage.add(call, applying, decided)

    def _now(self, call: Recorded, asked: Asked, decided: Decision) -> Verdict:
        """What the revision in force makes of it. What it said itself, and is said again, need not be asked."""
        if self.active is None or self._counted_now is None:
            return Verdict.DENY
        if self.active.revision == self.engine.revision:
            return decided.verdict
        counts = self.active.counts(asked.intent.operation)
        if not counts and call.revision == self.active.revision and call.verdict is decided.verdict:
            return call.verdict
        now = _decided(self.active, self._counted_now.seen(asked, call.at_ms))
        self._counted_now.take(asked, call.at_ms, now)
        return now.verdict


class BackTests:
    """Decides recorded calls again. Every dependency is given."""

    def __init__(
        self,
        *,
        store: LedgerStore,
        policies: Policies,
        asking: Asking,
        operations: Mapping[str, Operation],
        clock: Clock,
    ) -> None:
        self._store = store
        self._policies = policies
        self._asking = asking
        self._operations = operations
        self._contracts = {name: contract_digest(operation.contract) for name, operation in operations.items()}
        self._clock = clock

    async def run(
        self,
        tenant: TenantId,
        text: str,
        *,
        period: Period = Period(),  # noqa: B008 (frozen)
        covering: bool = False,
        tell: Callable[[int], None] = lambda _: None,
    ) -> BackTest:
        """Decide every call of a period again under a policy text. With `covering`, also count which rules apply;
        `tell` hears after each page how many calls are decided.

        Raises:
            Malformed: `policy_invalid`.
        """
        began_ns = self._clock.monotonic_ns()
        active = await self._policies.active(tenant)
        made = _Pass(self._policies.built(text), active, covering=covering)
        after = -1
        while page := await self._store.records(tenant, after=after, limit=PAGE):
            await self._take(tenant, [one for one in page if period.holds(one)], made)
            after = page[-1].seq
            tell(made.calls)
        return BackTest(
            revision=made.engine.revision,
            active=active.revision if active else "",
            calls=made.calls,
            verdicts=dict(made.verdicts),
            changes=made.changes.all(),
            drift=made.drift.all(),
            left_out=tuple(LeftOut(why=w, calls=n, example=e) for w, (n, e) in sorted(made.left_out.items())),
            coverage=made.coverage.all((one.id, one.effect, one.line) for one in made.engine.rules),
            duration_ms=(self._clock.monotonic_ns() - began_ns) // 1_000_000,
        )

    async def compare(self, tenant: TenantId, text: str, *, against: str = "") -> Comparison:
        """Search for calls that a text lets happen more easily than the policy in force, or another text, does.

        Raises:
            Malformed: `policy_invalid`.
            NotFound: `policy_missing`: none is in force, and none is given.
        """
        before = self._policies.built(against) if against else await self._policies.active(tenant)
        if before is None:
            raise NotFound("policy_missing", "no policy is active", hint="run `assent policy activate`")
        return compare(before, self._policies.built(text))

    async def text_of(self, tenant: TenantId, revision: str) -> str:
        """The text of a revision that is or was in force.

        Raises:
            NotFound: `revision_not_found`.
        """
        told = await self._policies.told(tenant, revision)
        if told is None:
            raise NotFound("revision_not_found", f"no revision `{revision[:80]}` was ever in force here")
        return told.text

    async def _take(self, tenant: TenantId, records: Sequence[Record], made: _Pass) -> None:
        calls = list(self._readable(records, made))
        named = sorted({name for _, accepted in calls for name in self._asking.named(accepted.intent)})
        contents: dict[str, bytes] = {}
        for at in range(0, len(named), NAMED_MAX):
            contents |= await self._store.contents(tenant, named[at : at + NAMED_MAX])
        for call, accepted in calls:
            asked = self._asking.read(accepted.intent, provenance=accepted.provenance, contents=contents)
            if asked.fault:
                made.leave_out("the operation does not take its arguments", call.effect)
            else:
                made.take(call, asked)

    def _readable(self, records: Sequence[Record], made: _Pass) -> Iterator[tuple[Recorded, _Accepted]]:
        for record in records:
            body = record.body
            operation = self._operations.get(body["operation"])
            if record.payload is None:
                made.leave_out("its payload was erased", body["effect"])
            elif operation is None:
                made.leave_out(f"`{body['operation']}` is not offered any more", body["effect"])
            elif body["code"] in NEVER_ASKED:
                made.leave_out(f"policy was not asked then (`{body['code']}`)", body["effect"])
            elif body["contract"] != self._contracts[body["operation"]]:
                made.leave_out(f"the contract of `{body['operation']}` is another by now", body["effect"])
            else:
                yield _recorded(record, operation.contract.effect), _read(record.payload)


def _recorded(record: Record, effect_class: str) -> Recorded:
    body = record.body
    return Recorded(
        seq=record.seq, effect=body["effect"], operation=body["operation"], principal=body["principal"],
        on_behalf_of=tuple(body["on_behalf_of"]), at_ms=record.at, code=body["code"], revision=body["policy"],
        effect_class=effect_class,
        verdict=Verdict.ALLOW if body["code"] in ALLOWED_THEN else Verdict(body["verdict"]),
    )  # fmt: skip


def _decided(engine: Engine, asked: Asked) -> Decision:
    return engine.decide(intent=asked.intent, intent_digest=asked.digest, facts=asked.facts)
