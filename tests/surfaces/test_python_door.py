"""The door for programs: one line, an agent with tools, consent asked of the program itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import assent
from assent.operations.conversing import Pending
from assent.operations.runs.events import CallEnded, RunEvent
from assent.primitives.errors import Malformed, Refused, Unavailable

pytestmark = pytest.mark.slow

KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "ASSENT_MODEL", "ASSENT_MODEL_URL", "ASSENT_FOLDER")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person who has never used Assent, in an empty folder; where their installation will be."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "assent"


def plays(home: Path, *lines: dict[str, object]) -> str:
    """Declare a model that plays these lines; how it is named."""
    with pytest.raises(Malformed):
        assent.chat("make the installation")
    (home / "play.json").write_text(json.dumps({"lines": lines}))
    settings = home / "assent.toml"
    settings.write_text(f'{settings.read_text()}\n[models.play]\nwire = "scripted"\nscript = "play.json"\n')
    return "play:it"


def call(tool: str, **arguments: object) -> dict[str, object]:
    return {"calls": [{"name": tool, "arguments": arguments}]}


def test_chat_names_four_ways_when_no_model_is_known(home: Path) -> None:
    with pytest.raises(Malformed) as error:
        assent.chat("What is 2+2?")
    assert error.value.code == "model_missing"
    told = str(error.value)
    assert all(way in told for way in ("ANTHROPIC_API_KEY", "ollama:", "ASSENT_MODEL_URL", "assent.toml", "(4)"))
    assert (home / "assent.toml").exists()


def test_chat_answers_in_one_line_when_a_model_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = plays(home, {"text": "4"})
    assert assent.chat("What is 2+2?", model=model) == "4"
    monkeypatch.setenv("ASSENT_MODEL", model)
    events: list[RunEvent] = []
    assert asyncio.run(assent.achat("What is 2+2?", on_event=events.append)) == "4"
    assert events


def test_chat_says_what_to_use_when_a_loop_runs(home: Path) -> None:
    async def body() -> None:
        with pytest.raises(Refused, match="achat"):
            assent.chat("hi")

    asyncio.run(body())
    assert not home.exists()


def test_agent_remembers_what_was_said_in_a_session(home: Path) -> None:
    agent = assent.Agent("helper", model=plays(home, {"text": "one"}, {"text": "two"}))
    assert [agent.chat("a", session="s"), agent.chat("b", session="s"), agent.chat("c")] == ["one", "two", "one"]


def test_consent_is_asked_of_the_program_and_counts(home: Path) -> None:
    model = plays(home, call("files_delete", path="a.txt"), {"text": "done"})
    agent = assent.Agent("helper", model=model, tools=["files.delete"])
    (home / "workspace" / "a.txt").write_text("x")
    asked: list[Pending] = []

    def no(pending: Pending) -> bool:
        asked.append(pending)
        return False

    assert agent.chat("delete it", on_review=no) == "done"
    assert (home / "workspace" / "a.txt").exists()
    assert [(one.operation, one.arguments["path"]) for one in asked] == [("files.delete", "a.txt")]
    with pytest.raises(Unavailable) as waits:
        agent.chat("delete it", on_review=lambda _: None)
    assert waits.value.code == "run_waiting"
    assert agent.chat("delete it", on_review=lambda _: True) == "done"
    assert not (home / "workspace" / "a.txt").exists()


def test_question_of_the_agent_is_asked_of_the_program(home: Path) -> None:
    agent = assent.Agent(
        "helper", model=plays(home, call("ask_user", question="which?"), {"text": "so be it"}), tools=["ask_user"]
    )
    asked: list[str] = []

    def says(question: str) -> str:
        asked.append(question)
        return "blue"

    assert agent.chat("paint", on_question=says) == "so be it"
    assert asked == ["which?"]


@assent.operation(effect="read", name="weather.forecast")
def forecast(city: str) -> str:
    """Tell the weather of a city."""
    return f"fine in {city}"


def test_function_is_a_tool_and_policy_says_whether_it_may_be_called(home: Path) -> None:
    model = plays(home, call("weather_forecast", city="Rome"), {"text": "there"})
    agent = assent.Agent("helper", model=model, tools=[forecast])
    events: list[RunEvent] = []
    agent.chat("weather?", on_event=events.append)
    (ended,) = [one for one in events if isinstance(one, CallEnded)]
    assert (ended.state, ended.code) == ("refused", "no_rule")


def test_run_that_fails_says_why(home: Path) -> None:
    agent = assent.Agent("helper", model=plays(home))
    with pytest.raises(Refused, match="the script has 0 lines"):
        agent.chat("hi")


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"tools": ["nothing"]}, "nothing"), ({"turns_max": 0}, "turns_max"), ({"model": "x"}, "endpoint:model"),
     ({"unheard_of": 1}, "unheard_of"), ({"delegated": ["read"]}, "read")],
)  # fmt: skip
def test_agent_that_is_not_well_formed_is_told_when_it_is_talked_to(
    home: Path, fields: dict[str, object], said: str
) -> None:
    model = plays(home, {"text": "hi"})
    with pytest.raises(Malformed, match=said):
        assent.Agent("helper", **{"model": model, **fields}).chat("hi")  # type: ignore[arg-type]


def test_agent_that_is_opened_once_answers_many_questions(home: Path) -> None:
    agent = assent.Agent("helper", model=plays(home, {"text": "here"}))

    async def body() -> None:
        async with agent:
            answers = [await agent.achat("hello") for _ in range(2)]
            with pytest.raises(Refused, match="open already"):
                await agent.__aenter__()
        assert all(answers)
        assert await agent.achat("again")  # and on its own afterwards

    asyncio.run(body())
