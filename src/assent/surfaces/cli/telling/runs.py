"""Runs, sessions and agents on paper: what happens while one is driven, and what is known of it afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assent.operations.runs.events import (
    CallEnded,
    Decided,
    ModelFailed,
    Paused,
    Proposal,
    RunEnded,
    RunEvent,
    Shortened,
    TurnBegan,
    Waiting,
)
from assent.operations.runs.sessions import SessionView
from assent.operations.runs.views import Retold, RunLine, RunView, TurnView
from assent.surfaces.cli.escapes import cut
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.telling.calls import call_line, short

LINE_COLUMNS = 100
TASK_COLUMNS = 60
_TONES = {
    "finished": Tone.GOOD, "failed": Tone.BAD, "cancelled": Tone.BAD, "waiting": Tone.WAIT, "paused": Tone.WAIT,
    "running": Tone.PLAIN,
}  # fmt: skip


def tell_event(paper: Paper, event: RunEvent, *, apart: bool = False) -> None:
    """One thing that happened, in a line or two. Words are shown elsewhere, as they come. `apart`: the proposal that it
    is about was not the last one that was told."""
    match event:
        case Proposal(tool=tool, operation=operation, arguments=arguments):
            paper.line(Span(f"→ {tool}", Tone.STRONG), f"  {call_line(operation, arguments)}", indent=2)
        case Decided() | CallEnded():
            about = f"  ({event.tool}, call {event.place + 1})" if apart else ""
            _tell_call(paper, event, about)
        case TurnBegan(left_out=left_out):
            for one in left_out:
                paper.line(Span(f"left out of what the model is told: {one}", Tone.QUIET), indent=2)
        case ModelFailed(model=model, message=message, then=then):
            paper.line(Span(f"{model}: ", Tone.WAIT), f"{message}; next: {then}", indent=2)
        case _:
            _tell_state(paper, event)


def _tell_call(paper: Paper, event: Decided | CallEnded, about: str) -> None:
    if isinstance(event, Decided):
        tone = {"allow": Tone.GOOD, "deny": Tone.BAD}.get(event.verdict, Tone.WAIT)
        words = {"allow": "allowed", "deny": "refused", "review": "asks a person"}
        told = f"  {', '.join(event.rules) or event.reason}{about}"
        paper.line(Span(words.get(event.verdict, event.verdict), tone), told, indent=4)
        return
    tone = Tone.QUIET if event.state == "succeeded" else Tone.BAD
    first = cut(" ".join(event.text.split()), LINE_COLUMNS)
    paper.line(Span(event.state, tone), f"  {first}", Span(f"  {short(event.effect)}{about}", Tone.QUIET), indent=4)


def _tell_state(paper: Paper, event: RunEvent) -> None:
    match event:
        case Waiting(reason=reason, of=of, question=question):
            paper.line(Span(f"waits for a {reason}", Tone.WAIT), f"  {question}", Span(f"  {of}", Tone.QUIET), indent=2)
        case Shortened(tokens_before=before, tokens=after):
            words = f"what was said is summed up: about {before} tokens become {after}"
            paper.line(Span(words, Tone.QUIET), indent=2)
        case Paused():
            paper.line(Span("paused", Tone.WAIT), "  somebody stopped it; `assent runs resume` has it go on", indent=2)
        case RunEnded(state=state, failure=failure) if failure:
            paper.line(Span(state, Tone.BAD), f"  {failure}", indent=2)
        case _:
            pass


def tell_runs(paper: Paper, runs: Iterable[RunLine]) -> None:
    """A line for each run."""
    rows: list[list[Part]] = [
        [
            Span(run.state, _TONES[run.state]),
            run.agent,
            run.id,
            paper.clock(run.updated_at_ms),
            cut(" ".join(run.task.split()), TASK_COLUMNS) + (f"  (waits for {run.waits_for})" if run.waits_for else ""),
        ]
        for run in runs
    ]
    paper.table(rows or [["there are no runs yet; `assent chat` begins one"]])


def tell_run(paper: Paper, run: RunView, turns: Iterable[TurnView]) -> None:
    """One run: how it stands, and turn by turn who was asked, what was said, what was proposed and decided."""
    paper.line(Span(run.state, _TONES[run.state]), f"  {run.agent}  {run.id}")
    paper.pairs(
        [
            ("task", run.task),
            ("session", run.session),
            ("turns", str(run.turn)),
            ("effects", str(run.effects)),
            ("tokens", f"{run.input_tokens} in, {run.output_tokens} out"),
            ("asks", f"people were asked {run.asks} times" if run.asks else ""),
            ("waits for", run.waits_for),
            ("failure", run.failure),
        ]
    )
    for turn in turns:
        paper.gap()
        _tell_turn(paper, turn)


def _tell_turn(paper: Paper, turn: TurnView) -> None:
    shortened = "  (what was said before is told more shortly from here on)" if turn.shortened else ""
    paper.line(Span(f"turn {turn.turn}", Tone.STRONG), shortened)
    for asked in turn.asked:
        tokens = f"{asked.input_tokens} tokens in, {asked.output_tokens} out" if asked.state == "succeeded" else ""
        told = asked.message or tokens or asked.state
        paper.line(f"asked {asked.model}: {told}", Span(f"  {short(asked.effect)}", Tone.QUIET), indent=2)
    if turn.text:
        paper.block(turn.text, indent=4)
    for call in turn.calls:
        paper.line(Span(f"→ {call.tool}", Tone.STRONG), f"  {call_line(call.operation, call.arguments)}", indent=2)
        rules = f"  {', '.join(call.rules)}" if call.rules else ""
        code = f" ({call.code})" if call.code and call.code not in ("ok", "allowed") else ""
        paper.line(call.state, code, rules, Span(f"  {short(call.effect)}", Tone.QUIET), indent=4)
        paper.line(Span(cut(" ".join(call.text.split()), LINE_COLUMNS), Tone.QUIET), indent=4)
    for fault in turn.faults:
        paper.line(Span("not asked for", Tone.BAD), f"  {fault}", indent=2)
    for by, said in turn.heard:
        paper.line(Span(by, Tone.STRONG), f"  {cut(said, LINE_COLUMNS)}", indent=2)


def tell_retold(paper: Paper, told: Retold) -> None:
    """Whether the record, told again, makes what the models were told."""
    for who, said in told.words:
        paper.line(Span(who, Tone.STRONG))
        paper.block(said, indent=2)
        paper.gap()
    for turn in told.turns:
        word = Span("the same", Tone.GOOD) if turn.same else Span("differs", Tone.BAD)
        paper.line(f"turn {turn.turn}  ", word, Span(f"  {turn.effect}", Tone.QUIET))


def tell_sessions(paper: Paper, sessions: Iterable[SessionView]) -> None:
    """A line for each session."""
    rows: list[list[Part]] = [
        [one.agent, one.id, f"{one.messages} messages", cut(" ".join(one.text.split()), 60)] for one in sessions
    ]
    paper.table(rows or [["there are no sessions yet; `assent chat` begins one"]])


def tell_agents(
    paper: Paper, agents: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]] = (), now_ms: int = 0
) -> None:
    """A line for each agent, and one for what it may use; then who else is served."""
    if not agents:
        paper.line("There is no agent yet. One that can be talked to looks like this in `assent.toml`:")
        paper.block('[agents.helper]\nmodels = ["ollama:llama3"]\ntools = ["read", "write", "search"]', indent=2)
    for one in agents:
        paper.line(Span(one["name"], Tone.STRONG), f"  {one['description']}")
        paper.pairs(
            [
                ("models", ", ".join(one["models"])),
                ("tools", ", ".join(one["tools"]) or "none"),
                ("hands work to", ", ".join(one["delegates"])),
                ("hands over to", ", ".join(one["hands_to"])),
                ("served", _service(one["served"], now_ms)),
            ]
        )
    for one in others:
        paper.line(Span(one["name"], Tone.STRONG), "  not in these settings")
        paper.pairs([("served", _service(one["served"], now_ms))])


def _service(served: Mapping[str, Any] | None, now_ms: int) -> str:
    """By whom, and how it is there."""
    if served is None:
        return "by no process now"
    left = max(0, served["lease_until_ms"] - now_ms) // 1_000
    return f"by {served['node']}, {served['health']}, lease for {left} s"
