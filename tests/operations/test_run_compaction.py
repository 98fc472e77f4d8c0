"""What is done when more was said than can be told: summed up by a governed question, and all of it kept on record."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from assent.ledger.commands import WriteNotes
from assent.operations.runs.events import RunEvent, Shortened, Waiting
from assent.operations.scripts import Line
from assent.primitives.errors import Refused
from assent.primitives.labels import Integrity
from assent.reasoning.context import Said, read_pieces
from assent.reasoning.failures import FailureKind
from assent.reasoning.messages import Message, ModelRequest, Text, ToolCall, ToolResult
from tests.operations.agents_house import ANN, FAILS, TENANT, Spoken, agent, answered, house, is_summing_up, line

pytestmark = pytest.mark.slow

LONG = "word " * 400


def words(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, Text | ToolResult))


class Reader:
    """A model that reads long files one after the other, keeps a list, and sums up when it is asked to."""

    def __init__(self, files: int = 14) -> None:
        self.files = files
        self.read: list[str] = []
        self.asked: list[ModelRequest] = []

    def __call__(self, request: ModelRequest) -> Line:
        self.asked.append(request)
        if is_summing_up(request):
            return line(f"so far: {len(self.read)} files, the last was {self.read[-1]}")
        if not self.read:
            self.read.append("todo")
            return line("", ("todo", {"items": [{"text": "read everything"}]}))
        if len(self.read) <= self.files:
            self.read.append(f"{len(self.read)}.txt")
            return line("", ("read", {"path": self.read[-1]}))
        return line("all is read")


def files(folder: Path, count: int = 14) -> None:
    (folder / "workspace").mkdir(exist_ok=True)
    for number in range(1, count + 1):
        (folder / "workspace" / f"{number}.txt").write_text(f"file {number} {LONG}")


READER = agent("read", "todo", name="reader", models=("reads:it",), context_tokens_max=3_000)


def test_run_that_is_told_too_much_goes_on_from_a_summary_and_ends(tmp_path: Path) -> None:
    async def body() -> None:
        files(tmp_path)
        model = Reader()
        events: list[RunEvent] = []
        async with house(tmp_path, READER, others=[Spoken("reads", model)]) as node:
            session = await node.sessions.open(TENANT, agent="reader", identity=ANN, channel="cli", name="main")
            seen = await answered(node, "read all", of=READER, session=session, events=events)
            assert (seen.state, seen.text) == ("finished", "all is read")
            shorter = [one for one in events if isinstance(one, Shortened)]
            assert shorter
            assert all(one.tokens < one.tokens_before for one in shorter)
            for request in model.asked:  # what must not be lost is told in every turn, whatever was summed up
                if not is_summing_up(request) and any("todo" in words(one) for one in request.messages):
                    assert any("read everything" in one for one in request.system)
                assert_results_have_calls(request)
            story = await node.runs.story(TENANT, seen.id)
            kept = await node.gate._store.contents(
                TENANT, [d for one in story.shorter for d in one.compacted.originals]
            )
            assert all(read_pieces([name], kept) for one in story.shorter for name in one.compacted.originals)
            assert story.usage is not None
            told = await node.runs.retell(TENANT, seen.id)
            assert told.same, told
            assert sum(one.shorter for one in told.turns) == len(shorter)
            assert "file 1 word" in "".join(text for _, text in told.words)
            _, holds = await node.sessions.now(TENANT, session)
            assert holds.pieces[0] == story.shorter[-1].compacted.pieces[0]
            assert [one["text"] for one in holds.todo] == ["read everything"]
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())


def assert_results_have_calls(request: ModelRequest) -> None:
    """Providers refuse results of calls that they are not told of."""
    called = {part.id for one in request.messages for part in one.parts if isinstance(part, ToolCall)}
    assert all(part.call in called for one in request.messages for part in one.parts if isinstance(part, ToolResult))


def test_summary_is_not_asked_for_again_when_the_run_is_carried_on_after_a_crash(tmp_path: Path) -> None:
    async def body() -> None:
        files(tmp_path)
        model = Reader()
        async with house(tmp_path, READER, others=[Spoken("reads", model)]) as node:
            run = await node.runs.begin(TENANT, READER, "read all", by=ANN)
            apply = node.gate._store.apply

            async def dies(command: Any) -> Any:
                if isinstance(command, WriteNotes) and any(n.draft.type == "run.compacted" for n in command.notes):
                    raise asyncio.CancelledError
                return await apply(command)

            node.gate._store.apply = dies  # type: ignore[method-assign]
            with pytest.raises(asyncio.CancelledError):
                await node.runs.drive(TENANT, run)
            node.gate._store.apply = apply  # type: ignore[method-assign]
        before = sum(is_summing_up(one) for one in model.asked)
        async with house(tmp_path, READER, others=[Spoken("reads", model)]) as node:
            events: list[RunEvent] = []
            seen = await node.runs.drive(TENANT, run, tell=events.append)
            assert seen.state == "finished"
            story = await node.runs.story(TENANT, run)
            assert {len(found) for found in story.summaries.values()} == {1}
            first = next(one for one in events if isinstance(one, Shortened))
            asked = [(turn, part) for turn, part in story.summaries if turn == first.turn]
            assert before == len(asked)
            assert (await node.runs.retell(TENANT, run)).same

    asyncio.run(body())


def test_run_waits_when_nobody_can_sum_up_and_goes_on_when_somebody_can(tmp_path: Path) -> None:
    async def body() -> None:
        files(tmp_path)
        model, down = Reader(), [True]

        def says(request: ModelRequest) -> Line:
            return line(f"{FAILS}adapter_unavailable") if down and is_summing_up(request) else model(request)

        events: list[RunEvent] = []
        async with house(tmp_path, READER, others=[Spoken("reads", says)]) as node:
            seen = await answered(node, "read all", of=READER, events=events)
            (waits,) = [one for one in events if isinstance(one, Waiting)]
            assert (seen.state, waits.reason, seen.waits_for) == ("waiting", "provider", "provider model.reads")
            down.clear()
            assert (await node.runs.drive(TENANT, seen.id)).state == "finished"
            assert (await node.runs.retell(TENANT, seen.id)).same

    asyncio.run(body())


@pytest.mark.parametrize("times", [1, 2])
def test_run_is_told_more_shortly_when_its_provider_takes_less_than_was_thought(tmp_path: Path, times: int) -> None:
    async def body() -> None:
        files(tmp_path)
        model, left = Reader(files=3), [times]

        def says(request: ModelRequest) -> Line:
            if len(request.messages) > 5 and left[0] and not is_summing_up(request):
                left[0] -= 1
                return line(f"{FAILS}context_too_large")
            if left[0] < times and left[0] and not is_summing_up(request):
                left[0] -= 1
                return line(f"{FAILS}context_too_large")
            return model(request)

        roomy = agent("read", "todo", name="reader", models=("reads:it",))
        events: list[RunEvent] = []
        async with house(tmp_path, roomy, others=[Spoken("reads", says)]) as node:
            seen = await answered(node, "read all", of=roomy, events=events)
            assert [type(one) for one in events if isinstance(one, Shortened)] == [Shortened]
            assert seen.state == ("finished" if times == 1 else "failed")
            assert (await node.runs.retell(TENANT, seen.id)).same

    asyncio.run(body())


@pytest.mark.parametrize("reset", [False, True])
def test_session_keeps_what_others_said_while_a_run_was_told_more_shortly(tmp_path: Path, reset: bool) -> None:
    async def body() -> None:
        files(tmp_path)
        model, asks = Reader(), [True]

        def says(request: ModelRequest) -> Line:
            said = "hello" if any("good day" in words(one) for one in request.messages) else ""
            answer = line(said) if said else model(request)
            if answer.text == "all is read" and asks:
                return line("", ("ask_user", {"question": "enough?"}))
            return answer

        reader = replace(READER, tools=(*READER.tools, "ask_user"))
        async with house(tmp_path, reader, others=[Spoken("reads", says)]) as node:
            session = await node.sessions.open(TENANT, agent="reader", identity=ANN, channel="cli", name="main")
            events: list[RunEvent] = []
            long = await answered(node, "read all", of=reader, session=session, events=events)
            assert (await answered(node, "good day", of=reader, session=session)).text == "hello"
            if reset:
                await node.sessions.reset(TENANT, session, by=ANN)
            asks.clear()
            (waits,) = [one for one in events if isinstance(one, Waiting)]
            await node.runs.hear(TENANT, long.id, "yes", by=ANN, answers=waits.of)
            assert (await node.runs.drive(TENANT, long.id)).state == "finished"
            _, holds = await node.sessions.now(TENANT, session)
            pieces = read_pieces(holds.pieces, await node.gate._store.contents(TENANT, holds.pieces))
            told = [words(piece.what.message) for piece in pieces if isinstance(piece.what, Said)]
            assert ("hello" in told) == (not reset)
            assert told[0].startswith("[What was said before, summed up]")
            assert told[-1] == "all is read"

    asyncio.run(body())


def test_run_fails_when_what_must_be_told_does_not_fit(tmp_path: Path) -> None:
    async def body() -> None:
        small = agent(context_tokens_max=1_000, instructions=LONG * 3)
        async with house(tmp_path, small, lines=[line("never")]) as node:
            seen = await answered(node, "hello", of=small)
            assert (seen.state, seen.failure.partition(":")[0]) == ("failed", FailureKind.CONTEXT_TOO_LARGE)

    asyncio.run(body())


def test_session_is_summed_up_and_its_whole_stays_on_record(tmp_path: Path) -> None:
    async def body() -> None:
        talker = agent(models=("talks:it",))
        said = iter(["one", "two", "after"])
        asked: list[ModelRequest] = []

        def says(request: ModelRequest) -> Line:
            asked.append(request)
            return line("what was said: a, b") if is_summing_up(request) else line(next(said))

        async with house(tmp_path, talker, others=[Spoken("talks", says)]) as node:
            session = await node.sessions.open(TENANT, agent="writer", identity=ANN, channel="cli", name="main")
            with pytest.raises(Refused, match="too little"):
                await node.runs.compact(TENANT, session, talker, by=ANN)
            for text in ("a", "b"):
                await answered(node, text, of=talker, session=session)
            _, before = await node.sessions.now(TENANT, session)
            run = await node.runs.compact(TENANT, session, talker, by=ANN)
            _, after = await node.sessions.now(TENANT, session)
            assert (len(before.pieces), len(after.pieces)) == (4, 3)
            assert after.pieces[1:] == before.pieces[2:]
            store = node.gate._store
            assert set(await store.contents(TENANT, before.pieces)) == set(before.pieces)
            (summary,) = read_pieces(after.pieces[:1], await store.contents(TENANT, after.pieces[:1]))
            assert (summary.source, summary.label.integrity) == (f"run:{run}", Integrity.USER)
            (effect,) = await store.effects(TENANT, run=run, limit=10)
            assert (effect.operation, effect.state) == ("model.talks", "succeeded")
            await answered(node, "c", of=talker, session=session)
            assert [words(one).partition("\n")[0] for one in asked[-1].messages] == [
                "[What was said before, summed up]", "two", "c",
            ]  # fmt: skip
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())


def test_session_that_was_spoken_in_meanwhile_is_not_made_shorter(tmp_path: Path) -> None:
    async def body() -> None:
        talker = agent(models=("talks:it",))
        async with house(tmp_path, talker, others=[Spoken("talks", lambda _: line("so"))]) as node:
            session = await node.sessions.open(TENANT, agent="writer", identity=ANN, channel="cli", name="main")
            for text in ("a", "b"):
                await answered(node, text, of=talker, session=session)
            journal, exchange = await node.sessions.now(TENANT, session)
            await answered(node, "c", of=talker, session=session)
            with pytest.raises(Exception, match="moved on"):
                await node.sessions.shorten(journal, exchange, summary=b"{}", kept=2, run="x")
            assert len((await node.sessions.now(TENANT, session))[1].pieces) == 6

    asyncio.run(body())


def test_session_that_leaves_too_little_room_is_summed_up_by_itself(tmp_path: Path) -> None:
    async def body() -> None:
        talker = agent(models=("talks:it",), context_tokens_max=4_000)
        answers = iter(["x" * 5_000, "y" * 5_000, "end"])

        def says(request: ModelRequest) -> Line:
            return line("short") if is_summing_up(request) else line(next(answers))

        async with house(tmp_path, talker, others=[Spoken("talks", says)]) as node:
            session = await node.sessions.open(TENANT, agent="writer", identity=ANN, channel="cli", name="main")
            for text in ("a", "b", "c"):
                assert (await answered(node, text, of=talker, session=session)).state == "finished"
            types = [one.type for one in await node.gate._store.notes(TENANT, "session", session)]
            assert types.count("session.compacted") == 1
            assert types.index("session.compacted") < types.index("session.asked", 5)

    asyncio.run(body())


def test_what_is_left_to_be_done_is_told_to_the_next_run_of_a_session(tmp_path: Path) -> None:
    async def body() -> None:
        told: list[list[str]] = []
        lines = iter(
            [
                line("", ("todo", {"items": [{"text": "buy bread"}]})),
                line("later"),
                line("what was said"),
                line("", ("todo", {"items": [{"text": "buy bread", "done": True}]})),
                line("done"),
                line("nothing is left"),
            ]
        )

        def says(request: ModelRequest) -> Line:
            told.append([one for one in request.system if one.startswith("<todo>")])
            return next(lines)

        keeper = agent("todo", models=("talks:it",))
        async with house(tmp_path, keeper, others=[Spoken("talks", says)]) as node:
            session = await node.sessions.open(TENANT, agent="writer", identity=ANN, channel="cli", name="main")
            await answered(node, "remember the bread", of=keeper, session=session)
            await node.runs.compact(TENANT, session, keeper, by=ANN)
            second = await answered(node, "it is bought", of=keeper, session=session)
            assert (await node.runs.retell(TENANT, second.id)).same
            await answered(node, "what is left?", of=keeper, session=session)
        assert [bool(one) for one in told] == [False, True, False, True, True, False]
        assert "- [ ] buy bread" in told[3][0]

    asyncio.run(body())
