"""The SQLite ledger and the dictionary model, driven side by side through everything that can be asked of a store."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assent.execution.outcomes import Ending
from assent.ledger import verify_standalone
from assent.ledger.budgets import Hold, Shortage, Unit, Window
from assent.ledger.commands import (
    ActivatePolicy,
    Command,
    EscalateReview,
    ExpireReviews,
    FenceOut,
    OpenLog,
    ReleaseLease,
    RenewLease,
    TakeLease,
    WriteNotes,
)
from assent.ledger.decisions import ANYBODY, Demands, Seat, Verdict
from assent.ledger.effects import EFFECT, Effect, EffectState, Move
from assent.ledger.entries import read_entry
from assent.ledger.journals import Note, content, note
from assent.ledger.ports import Record
from assent.ledger.rates import Ceiling, Count
from assent.primitives.digests import digest
from assent.primitives.errors import AssentError
from assent.primitives.ids import NodeId, ReviewId, TenantId
from assent.primitives.leases import SYSTEM, Fence
from assent.testing.calls import Scribe, intent_to
from assent.testing.clocks import SetClock
from assent.testing.entropy import SeededEntropy
from assent.testing.ledger_model import LedgerModel
from assent.testing.ledgers import LedgerFolder

TENANTS = (TenantId("acme"), TenantId("globex"))
NODES = 3
TTL_MS = 10_000
HOUR_MS = 3_600_000
POLICIES = ("permit-one", "permit-two")

tenants = st.sampled_from(TENANTS)
nodes = st.integers(0, NODES - 1)
picks = st.integers(0, 10_000)
keys = st.sampled_from(["", "", "k1", "k2"])
contents = st.sampled_from(["a", "b"])
# Few budgets and small ones, so that calls meet in them and run out.
holds = st.builds(
    Hold,
    scope=st.sampled_from(["tenant", "agent:writer"]),
    unit=st.sampled_from([Unit.TOKENS, Unit.MICROS]),
    window=st.sampled_from(Window),
    amount=st.integers(1, 6),
    limit=st.integers(5, 60),
)
some_holds = st.lists(holds, max_size=3, unique_by=lambda hold: (hold.scope, hold.unit, hold.window)).map(tuple)
# What is gone of them, and whether a decision would rest on less.
ceilings = st.builds(
    lambda hold, most: Ceiling(Count(hold.scope, hold.window, hold.unit), most), holds, st.sampled_from([0, 3, 9, 99])
)
some_ceilings = st.lists(ceilings, max_size=2).map(tuple)
taking = st.fixed_dictionaries({"holds": some_holds, "ceilings": some_ceilings})
# Few journals, keys and words, so that writers meet in them.
journal_names = st.sampled_from([("run", "run_1"), ("run", "run_2"), ("session", "ses_1")])
journal_keys = st.sampled_from(["", "", "k1", "k2"])
stale = st.sampled_from([0, 0, 0, 1])
hows = st.fixed_dictionaries({"words": contents, "owned": st.booleans(), "late": stale, "key": journal_keys})
uses = st.none() | st.dictionaries(st.sampled_from([Unit.TOKENS.value, Unit.MICROS.value]), st.integers(0, 9))


LEADS = Demands(seats=(Seat(roles=("lead",), escalate_s=10, escalate_to=("cto",)),), apart=True)


class Worlds(RuleBasedStateMachine):
    """Every rule sends one command to both and compares what came of it. Nodes 0 and 1 write through one connection,
    node 2 through another, as another process would."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="assent-machine-"))
        self.clock = SetClock()
        self.folder = LedgerFolder(self.path, clock=self.clock)
        self.model = LedgerModel(self.clock)
        self.loop = asyncio.new_event_loop()
        self.stores = [self.folder.ledger(), self.folder.ledger()]
        for store in self.stores:
            store.open()
        self.scribes = [Scribe(clock=self.clock, entropy=SeededEntropy(n)) for n in range(NODES)]
        for scribe in self.scribes:
            self.send(TakeLease(tenant=SYSTEM, fence=scribe.fence, ttl_ms=TTL_MS))
        for tenant in TENANTS:
            self.send(OpenLog(tenant=tenant))

    # Comparing

    def send(self, command: Command, *, through: int = 0) -> Any:
        said, expected = self.answer(command, through), self.expected(command)
        assert said == expected, (command, said, expected)
        return said

    def send_at_once(self, commands: list[Command], *, through: int = 0) -> None:
        """Many commands that share a commit have the results they would have one after the other."""

        async def said() -> list[Any]:
            asked = (self.stores[through].apply(command) for command in commands)
            return await asyncio.gather(*asked, return_exceptions=True)

        results = self.loop.run_until_complete(said())
        told = [(type(r), r.code) if isinstance(r, AssentError) else r for r in results]
        expected = [self.expected(command) for command in commands]
        assert told == expected, (commands, told, expected)

    def answer(self, command: Command, through: int) -> Any:
        try:
            return self.loop.run_until_complete(self.stores[through].apply(command))
        except AssentError as error:
            return type(error), error.code

    def expected(self, command: Command) -> Any:
        try:
            return self.model.apply(command)
        except AssentError as error:
            return type(error), error.code

    def pick(self, pick: int, *states: EffectState) -> Effect:
        found = [e for e in self.model.effects.values() if not states or e.state in states]
        return found[pick % len(found)]

    def active(self, tenant: TenantId) -> str:
        revisions = self.model.policies[tenant]
        return revisions[-1] if revisions else ""

    def some(self, *states: EffectState) -> bool:
        return any(not states or e.state in states for e in self.model.effects.values())

    # Effects

    @rule(node=nodes, tenant=tenants, key=keys, quorum=st.integers(1, 2), demands=st.sampled_from([ANYBODY, LEADS]))
    def accept_for_review(self, node, tenant, key, quorum, demands):
        self.accept(node, tenant, key, "a", Verdict.REVIEW, quorum=quorum, demands=demands)

    @rule(node=nodes, tenant=tenants, key=keys, content=contents)
    def accept_as_refused(self, node, tenant, key, content):
        self.accept(node, tenant, key, content, Verdict.DENY)

    @rule(node=nodes, tenant=tenants)
    def accept_under_a_stale_policy(self, node, tenant):
        self.accept(node, tenant, "k1", "a", Verdict.ALLOW, revision="sha256:never")

    @rule(node=nodes, tenant=tenants, key=keys, content=contents, held=taking)
    def accept_at_once(self, node, tenant, key, content, held):
        intent = intent_to(tenant, key=key, content=content, run=f"run-{content}")
        command = self.scribes[node].accept(intent, revision=self.active(tenant), **held)
        said = self.send(command, through=node // 2)
        if isinstance(said, Shortage):
            refused = self.scribes[node].accept(
                intent, Verdict.DENY, revision=self.active(tenant), effect=command.effect, shortage=said
            )
            self.send(refused, through=node // 2)

    @rule(node=nodes, tenant=tenants, held=taking, count=st.integers(2, 5), used=uses)
    def accept_and_settle_many_at_once(self, node, tenant, held, count, used):
        scribe, revision = self.scribes[node], self.active(tenant)
        commands: list[Command] = [scribe.accept(intent_to(tenant), revision=revision, **held) for _ in range(count)]
        commands += [  # in bulk a batch's settles come last
            scribe.settle(tenant=tenant, effect=e.id, seq=e.last_seq, attempt=e.attempt, used=used)
            for e in self.model.effects.values()
            if (e.tenant, e.state, e.node) == (tenant, EffectState.DISPATCHED, scribe.fence.node)
        ][:2]
        self.send_at_once(commands, through=node // 2)

    @precondition(lambda self: self.some(EffectState.REFUSED, EffectState.GRANTED))
    @rule(pick=picks)
    def dismiss(self, pick):
        self.send(self.scribes[0].dismiss(self.pick(pick, EffectState.REFUSED, EffectState.GRANTED)))

    @rule(node=nodes, tenant=tenants, key=keys, content=contents)
    def accept_first_and_look_afterwards(self, node, tenant, key, content):
        self.accept(node, tenant, key, content, Verdict.ALLOW, after=True)

    def accept(self, node, tenant, key, content, verdict, *, quorum=1, revision=None, demands=ANYBODY, after=False):
        intent = intent_to(tenant, key=key, content=content, run=f"run-{content}")
        revision = self.active(tenant) if revision is None else revision
        command = self.scribes[node].accept(
            intent, verdict, revision=revision, quorum=quorum, ttl_s=20, demands=demands, after=after
        )
        self.send(command, through=node // 2)

    @precondition(lambda self: self.some(EffectState.GRANTED))
    @rule(node=nodes, pick=picks, stale=st.sampled_from([0, 0, 0, 1]), held=taking)
    def dispatch(self, node, pick, stale, held):
        effect = self.pick(pick, EffectState.GRANTED)
        command = self.scribes[node].dispatch(effect, revision=self.active(effect.tenant), **held)
        self.send(_with(command, last_seq=effect.last_seq - stale), through=node // 2)

    @precondition(lambda self: self.some(EffectState.UNKNOWN))
    @rule(node=nodes, pick=picks, low=some_ceilings)
    def send_again(self, node, pick, low):
        effect = self.pick(pick, EffectState.UNKNOWN)
        command = self.scribes[node].dispatch(effect, again=True, revision=self.active(effect.tenant), ceilings=low)
        self.send(command, through=node // 2)

    @precondition(lambda self: self.some(EffectState.DISPATCHED, EffectState.UNKNOWN))
    @rule(pick=picks, ending=st.sampled_from(Ending), through=st.integers(0, 1), used=uses)
    def settle_the_current_attempt(self, pick, ending, through, used):
        effect = self.pick(pick, EffectState.DISPATCHED, EffectState.UNKNOWN)
        self.settle(effect, ending, effect.attempt, through, used)

    @precondition(lambda self: self.some())
    @rule(pick=picks, ending=st.sampled_from(Ending), attempt=st.integers(1, 2), through=st.integers(0, 1))
    def settle_any_attempt(self, pick, ending, attempt, through):
        self.settle(self.pick(pick), ending, attempt, through)

    def settle(self, effect: Effect, ending: Ending, attempt: int, through: int, used: Any = None) -> None:
        sent = self.sent_at(effect, attempt)
        if sent is not None:
            seq, before = sent
            command = self.scribes[0].settle(
                tenant=effect.tenant, effect=effect.id, seq=seq, attempt=attempt, ending=ending, before=before,
                fence=Fence(node=NodeId(effect.node), number=effect.fence), used=used,
            )  # fmt: skip
            self.send(command, through=through)

    def sent_at(self, effect: Effect, attempt: int) -> tuple[int, EffectState] | None:
        """Where an attempt was dispatched, and what the effect then was, as the dispatcher remembers it."""
        sent = []
        for seq, (kind, of, _) in enumerate(self.model.logs[effect.tenant]):
            if of == effect.id and kind == "effect.resent":
                sent.append((seq, EffectState.UNKNOWN))
            elif of == effect.id and (
                kind == "effect.dispatched" or (kind == "effect.accepted" and self.at_once(effect))
            ):
                sent.append((seq, EffectState.DISPATCHED))
        return sent[attempt - 1] if effect.node and attempt <= len(sent) else None

    def at_once(self, effect: Effect) -> bool:
        review = self.model.reviews.get((effect.tenant, ReviewId(effect.review)))
        return review is None or review.after

    @precondition(lambda self: self.some(EffectState.UNKNOWN))
    @rule(pick=picks, move=st.sampled_from([None, None, Move.SUCCEED, Move.FAIL, Move.QUARANTINE]))
    def judge(self, pick, move):
        self.send(self.scribes[0].judge(self.pick(pick, EffectState.UNKNOWN), move))

    @precondition(lambda self: self.some(EffectState.GRANTED))
    @rule(pick=picks, move=st.sampled_from([Move.REVOKE, Move.EXPIRE]))
    def withdraw(self, pick, move):
        self.send(self.scribes[0].withdraw(self.pick(pick, EffectState.GRANTED), move))

    @precondition(lambda self: self.some())
    @rule(pick=picks)
    def ask_for_what_does_not_fit(self, pick):
        effect = self.pick(pick)
        if effect.state is not EffectState.UNKNOWN:
            self.send(self.scribes[0].judge(effect, None))
        if effect.state is not EffectState.GRANTED:
            self.send(self.scribes[0].withdraw(effect))

    # Journals

    @rule(node=nodes, tenant=tenants, name=journal_names, how=hows, pieces=st.lists(contents, max_size=2))
    def write_a_note(self, node, tenant, name, how, pieces):
        self.write(node, tenant, (self.note_in(tenant, *name, **how),), pieces)

    @rule(node=nodes, tenant=tenants, how=hows, other=hows)
    def write_notes_that_belong_together(self, node, tenant, how, other):
        notes = (self.note_in(tenant, "run", "run_1", **how), self.note_in(tenant, "session", "ses_1", **other))
        self.write(node, tenant, notes, [how["words"]])

    @rule(node=nodes, tenant=tenants, name=journal_names, count=st.integers(2, 4), keys=st.booleans())
    def many_write_at_once(self, node, tenant, name, count, keys):
        notes = [
            self.note_in(tenant, *name, words=str(one % 2), owned=False, late=0, key="k3" * keys)
            for one in range(count)
        ]
        fence = self.scribes[node].fence
        self.send_at_once([WriteNotes(tenant=tenant, fence=fence, notes=(one,)) for one in notes], through=node // 2)

    def note_in(self, tenant: TenantId, kind: Any, id_: str, *, words: str, owned: bool, late: int, key: str) -> Note:
        stands = self.model.journals.journals.get((tenant, kind, id_))
        return note(
            kind=kind, id_=id_, before=stands.last_seq - late if stands else -1, state=f"{words}{owned}", owned=owned,
            type_=f"{kind}.said", body={"words": words}, salt=b"s" * 16, payload=words.encode(), name="writer",
            parent="ses_1" * (kind == "run"), key=key,
        )  # fmt: skip

    def write(self, node: int, tenant: TenantId, notes: tuple[Note, ...], pieces: list[str]) -> None:
        kept = tuple(content(one.encode()) for one in pieces)
        command = WriteNotes(tenant=tenant, fence=self.scribes[node].fence, notes=notes, contents=kept)
        self.send(command, through=node // 2)

    @rule(which=st.integers(0, 1))
    def open_again(self, which):
        self.stores[which].close()
        self.stores[which] = self.folder.ledger()
        self.stores[which].open()

    # Reviews, policy, leases, time

    @precondition(lambda self: self.some(EffectState.IN_REVIEW))
    @rule(
        pick=picks,
        who=st.tuples(
            st.sampled_from(["person:bob", "person:cyd", "agent:writer"]),
            st.sampled_from(["", "", "", "person:cyd", "person:dan"]),
        ),
        approve=st.booleans(),
        late=st.sampled_from([0, 0, 0, 1]),
        completes=st.booleans(),
    )
    def answer_a_review(self, pick, who, approve, late, completes):
        by, place = who
        effect = self.pick(pick, EffectState.IN_REVIEW)
        self.answer_for(effect, by, approve, pick % 2, place_of=place, late=late, completes=completes)

    @precondition(lambda self: any(e.review for e in self.model.effects.values()))
    @rule(pick=picks)
    def escalate(self, pick):
        asked = [e for e in self.model.effects.values() if e.review]
        effect = asked[pick % len(asked)]
        self.send(EscalateReview(tenant=effect.tenant, review=ReviewId(effect.review), by="person:bob"))

    @precondition(lambda self: any(e.review for e in self.model.effects.values()))
    @rule(pick=picks)
    def answer_any_review(self, pick):
        asked = [e for e in self.model.effects.values() if e.review]
        self.answer_for(asked[pick % len(asked)], "person:bob", True, pick % 2)

    def answer_for(
        self, effect: Effect, by: str, approve: bool, through: int, *, late: int = 0, completes: bool = True,
        place_of: str = "",
    ) -> None:  # fmt: skip
        """An answer after those that are known, or after all but the last of them."""
        known = self.model.reviews[effect.tenant, ReviewId(effect.review)].approvers
        after = known[: len(known) - late]
        command = self.scribes[0].answer(
            effect.tenant, effect.review, by=by, approve=approve, after=after, completes=completes, place_of=place_of
        )
        self.send(command, through=through)

    @rule(tenant=tenants)
    def expire(self, tenant):
        self.send(ExpireReviews(tenant=tenant))

    @rule(tenant=tenants, text=st.sampled_from(POLICIES), lost=st.sampled_from([False, False, True]))
    def activate(self, tenant, text, lost):
        expected = "sha256:other" if lost else self.active(tenant)
        revision = digest(text.encode())
        self.send(ActivatePolicy(tenant=tenant, revision=revision, text=text, by="person:ann", expected=expected))

    @rule(
        duration_ms=st.sampled_from([1, 4_000, 9_999, 15_000]),
        jump_ms=st.sampled_from([0, 0, -HOUR_MS, HOUR_MS, 24 * HOUR_MS, 20 * 24 * HOUR_MS]),
    )
    def time_passes_and_some_renew(self, duration_ms, jump_ms):
        self.clock.pass_ms(duration_ms)
        self.clock.jump_ms(jump_ms)
        for node, scribe in enumerate(self.scribes[: 1 + duration_ms % 3]):
            self.send(RenewLease(tenant=SYSTEM, fence=scribe.fence, ttl_ms=TTL_MS), through=node // 2)

    @rule(node=nodes, dead=st.booleans())
    def fence_out_and_replace(self, node, dead):
        lost = self.send(FenceOut(tenant=SYSTEM, fence=self.scribes[node].fence, dead=dead), through=(node // 2) ^ 1)
        if lost or dead:
            self.replace(node)

    @rule(node=nodes)
    def end_and_replace(self, node):
        self.send(ReleaseLease(tenant=SYSTEM, fence=self.scribes[node].fence), through=node // 2)
        self.replace(node)

    def replace(self, node: int) -> None:
        self.clock.pass_ms(1)
        self.scribes[node] = Scribe(clock=self.clock, entropy=SeededEntropy(len(self.model.leases) * 1000 + node))
        self.send(TakeLease(tenant=SYSTEM, fence=self.scribes[node].fence, ttl_ms=TTL_MS), through=node // 2)

    @precondition(lambda self: self.some())
    @rule(tenant=tenants, pick=picks)
    def a_stranger_asks(self, tenant, pick):
        effect = self.pick(pick)
        if effect.tenant == tenant:
            return
        thief = _with(effect, tenant=tenant)
        for command in (
            self.scribes[0].judge(_with(thief, state=EffectState.UNKNOWN), None),
            self.scribes[0].withdraw(thief),
            self.scribes[0].settle(tenant=tenant, effect=effect.id, seq=effect.last_seq),
            self.scribes[0].answer(tenant, effect.review or "rev_none", by="person:bob"),
        ):
            self.send(command)

    # What holds after every step

    @invariant()
    def rows_are_the_same(self):
        store = self.stores[1]
        for tenant in TENANTS:
            shown = self.loop.run_until_complete(store.effects(tenant, limit=1_000))
            assert shown == [e for e in self.model.effects.values() if e.tenant == tenant]
            active = self.loop.run_until_complete(store.active_policy(tenant))
            assert (active[0] if active else "") == self.active(tenant)
            budgets = self.loop.run_until_complete(store.budgets(tenant, limit=1_000))
            assert budgets == self.model.budgets.current(tenant)
            assert self.loop.run_until_complete(store.budgets(tenant, stopped=True, limit=1_000)) == [
                one for one in budgets if one.stops
            ]
        for (tenant, review), expected in self.model.reviews.items():
            assert self.loop.run_until_complete(store.review(tenant, review)) == expected
        leases = self.loop.run_until_complete(store.leases())
        held = [lease for lease in self.model.leases.values() if lease.holder and lease.expires_at_ms]
        assert sorted(lease.name for lease, _ in leases) == sorted(lease.name for lease in held)
        assert all(lapsed == (lease.expires_at_ms <= self.clock.now_ms()) for lease, lapsed in leases)

    @invariant()
    def journals_are_the_same(self):
        store, model = self.stores[1], self.model.journals
        for tenant in TENANTS:
            for kind in ("run", "session"):
                shown = self.loop.run_until_complete(store.journals(tenant, kind, limit=1_000))
                assert shown == model.listed(tenant, kind)
            pieces = {name: data for (of, name), data in model.contents.items() if of == tenant}
            names = [digest(one) for one in (b"a", b"b")]
            assert self.loop.run_until_complete(store.contents(tenant, names)) == pieces
        for (tenant, _, id_), journal in model.journals.items():
            assert self.loop.run_until_complete(store.journal(tenant, journal.kind, id_)) == journal
            told = self.loop.run_until_complete(store.notes(tenant, journal.kind, id_))
            seqs = model.seqs[tenant, journal.kind, id_]
            assert [one.seq for one in told] == seqs
            assert [one.body["before"] for one in told] == [-1, *seqs[:-1]]
            found = self.loop.run_until_complete(store.records_at(tenant, [*seqs, 10**9]))
            assert found == {one.seq: one for one in told}

    def teardown(self):
        try:
            for tenant in TENANTS:
                records = self.loop.run_until_complete(self.stores[0].records(tenant, after=-1, limit=10_000))
                lines = [(r.type, r.body.get("effect", ""), r.body.get("before", -1)) for r in records]
                assert lines == self.model.logs[tenant]
                _nothing_follows_an_end(records)
            for store in self.stores:
                store.close()
            report = self.folder.verify()
            assert report.ok, report.faults
            verified = verify_standalone.main([str(self.folder.database), "--key", self.folder.key])
            assert verified == 0
        finally:
            self.loop.close()
            shutil.rmtree(self.path)


def _nothing_follows_an_end(records: list[Record]) -> None:
    """A terminal state is reached once; after it there are late results, and people who look at what was done."""
    ended: set[str] = set()
    for record in records:
        effect = record.body.get("effect", "")
        assert effect not in ended or record.type == "effect.late_result" or record.body.get("moves") == []
        if record.body.get("state") in EFFECT.terminal:
            ended.add(effect)


def _with(value: Any, **changed: Any) -> Any:
    return type(value)(**{name: getattr(value, name) for name in value.__struct_fields__} | changed)


TestWorlds = Worlds.TestCase
TestWorlds.settings = settings(
    max_examples=30, stateful_step_count=60, suppress_health_check=list(HealthCheck), print_blob=True
)
TestWorlds = pytest.mark.slow(TestWorlds)


@pytest.mark.slow
def test_standalone_verifier_agrees_when_run_as_a_program_of_its_own(tmp_path):
    folder = LedgerFolder(tmp_path)
    with folder.opened() as store:
        asyncio.run(store.apply(OpenLog(tenant=TENANTS[0])))
    program = [sys.executable, "-I", verify_standalone.__file__, str(folder.database), "--key", folder.key]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("VERIFIED\n")


def test_every_entry_is_canonical_when_its_strings_are_not_plain(tmp_path):
    from assent.primitives.canonical import canonical

    folder = LedgerFolder(tmp_path)
    odd = '\u00e9\u2028\U0001f600\x7f\x01\t"\\/<\u0000'
    scribe = Scribe(clock=folder.clock, entropy=SeededEntropy())

    async def run(store):
        await store.apply(TakeLease(tenant=SYSTEM, fence=scribe.fence, ttl_ms=TTL_MS))
        intent = _with(intent_to(TENANTS[0], content=odd, key=odd, run=odd), operation=odd, principal=odd)
        await store.apply(scribe.accept(intent, Verdict.DENY))
        return await store.records(TENANTS[0], after=-1, limit=9)

    with folder.opened() as store:
        (record,) = asyncio.run(run(store))
        row = store._database.read_now(lambda c: c.execute("SELECT entry FROM log").fetchone())[0]
    read = read_entry(row)
    whole = {name: getattr(read, name) for name in read.__struct_fields__}
    assert canonical(whole) == row
    assert record.body["operation"] == odd
    assert folder.verify().ok
