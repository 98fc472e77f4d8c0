"""The reference says what the code does: pages are current, and what cannot be generated is compared."""

from __future__ import annotations

import ast
import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from assent.bootstrap.founding import found
from assent.execution.outcomes import Ending
from assent.ledger.budgets import Hold, Unit, Window
from assent.ledger.commands import (
    ActivatePolicy,
    EscalateReview,
    ExpireReviews,
    FenceOut,
    OpenLog,
    TakeLease,
    WriteNotes,
)
from assent.ledger.connectors import BUILTIN
from assent.ledger.decisions import Demands, Seat, Verdict
from assent.ledger.effects import Move
from assent.ledger.halts import HALTED, LIFTED, halt_note
from assent.ledger.journals import Journal, Note
from assent.ledger.ports import LedgerStore
from assent.operations.identity.tokens import Tokens
from assent.operations.runs import entries
from assent.operations.runs.states import RunMove
from assent.operations.standing_in import StandIns
from assent.operations.waivers import Waivers
from assent.policy.terms import ANNOTATIONS
from assent.primitives.digests import digest
from assent.primitives.ids import NodeId, ReviewId
from assent.primitives.leases import SYSTEM, Fence
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.messages import Message
from assent.surfaces.cli import listing
from assent.surfaces.cli.exits import Exit
from assent.testing.calls import intent_to
from assent.testing.clocks import SetClock
from assent.testing.desks import ACME, Desk
from assent.testing.entropy import SeededEntropy
from assent.testing.ledgers import LedgerFolder
from scripts import diagrams, reference, reference_codes

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCE = ROOT / "src" / "assent"


def test_every_generated_page_is_current() -> None:
    assert reference.stale() == [], "run `python -m scripts.reference`"
    assert diagrams.PAGE.read_text(encoding="utf-8") == diagrams.page(), "run `python scripts/diagrams.py`"


def test_every_command_operation_annotation_and_exit_code_is_there() -> None:
    pages = {name: (REFERENCE / name).read_text(encoding="utf-8") for name in reference.PAGES}
    assert [c.name for c in listing.COMMANDS if f"\n## assent {c.name}\n" not in pages["cli.md"]] == []
    assert [o.contract.name for o in BUILTIN if f"\n## {o.contract.name}\n" not in pages["operations.md"]] == []
    assert [name for name in ANNOTATIONS if f"| `@{name}` |" not in pages["policy.md"]] == []
    assert [int(code) for code in Exit if f"| `{int(code)}` |" not in pages["exit-codes.md"]] == []


def test_every_error_code_in_the_source_is_there() -> None:
    raised = set(
        re.findall(r"\b(?:Refused|Malformed|NotFound|Conflict|Unavailable|InvariantBroken)\(\s*\"(\w+)\"", _source())
    )
    page = (REFERENCE / "codes.md").read_text(encoding="utf-8")
    assert len(raised) > 90
    assert [code for code in sorted(raised) if f"| `{code}` |" not in page] == []


def test_words_are_refused_when_they_and_the_code_differ() -> None:
    with pytest.raises(SystemExit, match="`sandwich` has no words"):
        reference.WORDS.of("decisions", things=[*reference.WORDS.table("decisions"), "sandwich"])
    with pytest.raises(SystemExit, match="`allowed` is not in the code"):
        reference.WORDS.of("decisions", things=set(reference.WORDS.table("decisions")) - {"allowed"})


def test_codes_are_found_when_they_are_written_in_any_of_the_usual_ways(tmp_path: Path) -> None:
    (tmp_path / "execution").mkdir()
    (tmp_path / "execution" / "one.py").write_text(
        'raise Refused("first" if a else "second", f"`{x}` is wrong", hint="mend it")\n'
        'return Ending.FAILED, "third", ""\n'
        'return Done(code="fourth" if tally else code)\n'
        'raise NotFound(f"{kind}_not_found", "gone")\n'
    )
    found = reference_codes.collect(tmp_path)
    assert set(found.errors) == {"first", "second", "effect_not_found", "review_not_found", "run_not_found"}
    assert found.errors["first"][0][1:4] == ("Refused", "`…` is wrong", "mend it")
    assert found.outcomes == {"third", "fourth"}


def test_every_type_of_entry_that_is_drafted_is_there() -> None:
    drafted = {kind for path in _modules() for kind in _drafts(path)}
    assert drafted == set(reference.entry_fields())


@pytest.mark.slow
def test_entries_have_the_documented_fields_and_no_others(tmp_path: Path) -> None:
    clock = SetClock()
    with LedgerFolder(tmp_path, clock=clock).opened() as store:
        asyncio.run(_live_through_everything(store, clock))
        seen: dict[str, set[str]] = {}
        for record in asyncio.run(store.records(ACME, after=-1, limit=1_000)):
            seen.setdefault(record.type, set()).update(record.body)
    assert seen == reference.entry_fields()


def test_files_page_names_every_table_and_every_file_of_a_new_installation(tmp_path: Path) -> None:
    page = (REFERENCE / "files.md").read_text(encoding="utf-8")
    folder = LedgerFolder(tmp_path)
    with folder.opened():
        pass
    connection = sqlite3.connect(folder.database)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert [name for name in sorted(tables) if f"`{name}`" not in page] == []
    made = [one.path.relative_to(tmp_path / "new") for one in found(tmp_path / "new")]
    patterns = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert [path for path in made if not any(path.match(pattern.rstrip("/")) for pattern in patterns)] == []


async def _live_through_everything(store: LedgerStore, clock: SetClock) -> None:
    """Every kind of entry, with every field that it can have."""
    await store.apply(OpenLog(tenant=ACME))
    desk = await Desk(store, clock).start()
    allowed = await desk.accept(key="k")
    await desk.settle(allowed)
    few = (Hold(scope="tenant", unit=Unit.CALLS, window=Window.DAY, amount=1, limit=2),)
    await desk.settle(await desk.accept(holds=few), used={"calls": 1})
    await store.apply(desk.scribe.dispatch(await desk.granted(), holds=few))
    await store.apply(desk.scribe.dispatch(await desk.granted(), holds=few))
    await store.apply(desk.scribe.dismiss(await desk.stopped(holds=few)))
    await store.apply(desk.scribe.accept(intent_to(ACME), Verdict.REVIEW, holds=few))
    await store.apply(desk.scribe.dispatch(await desk.granted()))
    await store.apply(desk.scribe.withdraw(await desk.granted()))
    unknown = await desk.unknown()
    await store.apply(desk.scribe.dispatch(unknown, again=True))
    await desk.settle(unknown, Ending.SUCCEEDED)
    await store.apply(desk.scribe.judge(await desk.find(ACME, unknown.id), Move.SUCCEED))
    later = Demands(seats=(Seat(roles=("lead",), escalate_s=30, escalate_to=("cto",)),))
    waiting = await desk.accept(verdict=Verdict.REVIEW, demands=later)
    await store.apply(EscalateReview(tenant=ACME, review=ReviewId(waiting.review), by="person:bob"))
    other = await desk.accept(verdict=Verdict.REVIEW)
    await store.apply(desk.scribe.answer(ACME, other.review, by="person:bob", place_of="person:cyd"))
    await desk.accept()
    await store.apply(FenceOut(tenant=SYSTEM, fence=desk.scribe.fence, dead=True))
    clock.pass_ms(120_000)
    await store.apply(ExpireReviews(tenant=ACME))
    await store.apply(ActivatePolicy(tenant=ACME, revision=digest(b"1"), text="1", by="person:ann", expected=""))
    await _keep_journals(store)
    await _stand_in_and_waive(store, clock)


async def _stand_in_and_waive(store: LedgerStore, clock: SetClock) -> None:
    """Everything that is written down about who answers for whom, and beforehand."""
    desk = await Desk(store, clock).start()
    parts: Any = {"store": store, "fence": desk.scribe.fence, "clock": clock, "entropy": SeededEntropy()}
    stand_ins, waivers, until_ms = StandIns(**parts), Waivers(**parts), clock.now_ms() + 60_000
    await stand_ins.name(ACME, of="person:ann", by="person:bob", until_ms=until_ms, reason="x")
    await stand_ins.end(ACME, of="person:ann", reason="x")
    tokens = Tokens(**parts)
    token = (await tokens.make(ACME, by="person:ann", principal="person:ann", label="x", until_ms=until_ms)).token
    await tokens.revoke(ACME, token.id, by="person:ann", reason="x")
    made = await waivers.make(
        ACME, principal="agent:writer", calls="files.*", until_ms=until_ms, by="person:ann", reason="x"
    )
    made = await waivers.sign(ACME, made.id, by="person:bob", reason="x")
    effect = desk.scribe.ids.effect()
    used = waivers.use(made, effect)
    revision = (await store.active_policy(ACME) or ("",))[0]
    await store.apply(desk.scribe.accept(intent_to(ACME), effect=effect, revision=revision, notes=(used,)))
    await waivers.revoke(ACME, made.id, by="person:ann", reason="x")


async def _keep_journals(store: LedgerStore) -> None:
    """Everything that is written down about runs and sessions."""
    node = Fence(node=NodeId("nod_journals"), number=1)
    await store.apply(TakeLease(tenant=SYSTEM, fence=node, ttl_ms=60_000))
    salt, agent = bytes(16), AgentDefinition(name="writer", models=("play:it",))
    words = Message(role="user", parts=())
    begun = entries.Started(agent=agent, offers=(), on_behalf_of=("person:ann",), prior=(), task=words, by="person:ann")
    exchange = entries.Exchange(pieces=())
    said = entries.Heard(message=words, by="person:ann", after=1)

    async def write(note: Note) -> Journal:
        await store.apply(WriteNotes(tenant=ACME, fence=node, notes=(note,)))
        journal = await store.journal(ACME, note.kind, note.id)
        assert journal is not None
        return journal

    run = await write(entries.started("run_1", begun, parent="", salt=salt))
    run = await write(entries.heard(run, said, key="k", salt=salt, owned=True))
    run = await write(entries.waiting(run, reason="person", of="eff_1"))
    run = await write(entries.paused(run, by="person:ann"))
    run = await write(entries.resumed(run, by="person:ann"))
    shorter = entries.Compacted(through=1, pieces=("sha256:1",), originals=("sha256:0",))
    run = await write(entries.compacted(run, shorter, salt=salt))
    await write(entries.ended(run, RunMove.FINISH, entries.Ended(text="x"), by="assent", salt=salt))
    session = await write(entries.opened("s", exchange, agent="writer", identity="person:ann", forked="", salt=salt))
    session = await write(entries.asked(session, run="run_1", key="k", words="x", messages=0, salt=salt))
    session = await write(entries.replied(session, exchange, run="run_1", final=True, key="r", salt=salt))
    session = await write(entries.reset(session, by="person:ann", why="asked for", salt=salt))
    await write(entries.shortened(session, exchange, originals="sha256:0", run="run_1", salt=salt))
    await write(entries.requested(None, "run_1", asked="pause", by="person:ann"))
    halt = await write(halt_note(None, "everything", state=HALTED, by="person:ann", reason="x", salt=salt))
    await write(halt_note(halt, "everything", state=LIFTED, by="person:ann", reason="x", salt=salt))


KINDS = ("token.", "run.", "session.", "request.", "halt.", "stand_in.", "waiver.")


def _drafts(path: Path) -> set[str]:
    """The types of entries that a module drafts."""
    found_types: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"draft", "Draft"}:
            given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "type")]
            for value in (sub for one in given for sub in ast.walk(one)):
                if isinstance(value, ast.Constant) and isinstance(value.value, str) and "." in value.value:
                    found_types.add(value.value)
    return found_types | _notes(path)


def _notes(path: Path) -> set[str]:
    """The types of entries that a module writes into journals."""
    found_types = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"note", "_on", "_moved", "self._note"}:
            given = [*node.args, *(k.value for k in node.keywords if k.arg == "type_")]
            inner = [part for one in given for part in ast.walk(one)]
            texts = [one.value for one in inner if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            found_types |= {text for text in texts if text.startswith(KINDS)}
    return found_types


def _modules() -> list[Path]:
    return [path for path in SOURCE.rglob("*.py") if "testing" not in path.parts]


def _source() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in _modules())
