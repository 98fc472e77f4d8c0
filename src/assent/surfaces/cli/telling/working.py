"""A worker's news on paper: a line for each, with the end of the run's id, since many are driven at once."""

from __future__ import annotations

from typing import TypeAlias

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
from assent.surfaces.cli.escapes import cut
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.telling.calls import call_line, short
from assent.surfaces.workers.news import Beat, Faulted, Happened, News

Sentence: TypeAlias = tuple[str | Span, ...]

COLUMNS = 100
_VERDICTS = {"allow": ("allowed", Tone.GOOD), "deny": ("refused", Tone.BAD), "review": ("asks a person", Tone.WAIT)}
_ENDS = {"finished": Tone.GOOD, "failed": Tone.BAD, "cancelled": Tone.WAIT}


def tell_news(paper: Paper, news: News, *, now_ms: int) -> None:
    """One line for one thing that happened."""
    match news:
        case Happened(event=event):
            told = _sentence(event)
            if told is not None:
                paper.line(_margin(paper, event.run, now_ms), *told)
        case Faulted(run=run, why=why):
            paper.line(_margin(paper, run, now_ms), Span("not driven", Tone.BAD), f"  {why}")
        case Beat():
            pass


def _margin(paper: Paper, run: str, now_ms: int) -> Span:
    return Span(f"{paper.clock(now_ms)}  {short(run)}  ", Tone.QUIET)


def _sentence(event: RunEvent) -> Sentence | None:
    return _of_model(event) or _of_call(event) or _of_run(event)


def _of_model(event: RunEvent) -> Sentence | None:
    match event:
        case TurnBegan(turn=turn, model=model, tokens=tokens):
            return (f"turn {turn}: asks {model}, about {tokens} tokens",)
        case ModelFailed(model=model, message=message, then=then):
            return Span(f"{model} failed", Tone.WAIT), f"  {cut(message, COLUMNS)}; next: {then}"
        case Shortened(tokens_before=before, tokens=after):
            return (f"what was said is summed up: {before} tokens become {after}",)
        case _:
            return None


def _of_call(event: RunEvent) -> Sentence | None:
    match event:
        case Proposal(operation=operation, arguments=arguments):
            return Span("→ ", Tone.STRONG), cut(call_line(operation, arguments), COLUMNS)
        case Decided(verdict=verdict, rules=rules, reason=reason):
            word, tone = _VERDICTS.get(verdict, (verdict, Tone.WAIT))
            return Span(word, tone), f"  {', '.join(rules) or reason}"
        case CallEnded(state=state, text=text, effect=effect):
            tone = Tone.QUIET if state == "succeeded" else Tone.BAD
            return Span(state, tone), f"  {cut(' '.join(text.split()), COLUMNS)}  ", Span(short(effect), Tone.QUIET)
        case _:
            return None


def _of_run(event: RunEvent) -> Sentence | None:
    match event:
        case Waiting(reason=reason, of=of, question=question):
            return Span(f"waits for a {reason}", Tone.WAIT), f"  {cut(question, COLUMNS)}  ", Span(of, Tone.QUIET)
        case Paused():
            return (Span("paused", Tone.WAIT),)
        case RunEnded(state=state, text=text, failure=failure):
            told = cut(" ".join((failure or text).split()), COLUMNS)
            return Span(state, _ENDS.get(state, Tone.WAIT)), f"  {told}"
        case _:
            return None
