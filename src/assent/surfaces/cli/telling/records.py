"""The timeline: one line for each entry of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from assent.operations.budgets import shortage_told
from assent.operations.timelines import Moment
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.telling.calls import call_line, short, tone_of

ARGUMENT_MAX = 40

_ASKED = {"allow": "allowed", "deny": "refused", "review": "asks a person"}
_VERDICT_TONES = {"allow": Tone.GOOD, "deny": Tone.BAD, "review": Tone.WAIT}


def tell_timeline(paper: Paper, moments: Sequence[Moment], *, whole: bool = False) -> None:
    """Moments in order: position, time, effect, what happened; cut to one line each unless `whole`."""
    paper.table(
        [
            [
                Span(str(moment.seq), Tone.QUIET),
                paper.clock(moment.at_ms),
                Span(short(moment.effect) if moment.effect else "", Tone.QUIET),
                _head(moment),
                _told(moment),
            ]
            for moment in moments
        ],
        whole=whole,
    )


def _head(moment: Moment) -> Part:
    """The outcome of the moment in one word, in its colour."""
    facts = moment.facts
    if moment.type == "effect.accepted":
        return Span(_ASKED.get(facts["verdict"], facts["verdict"]), _VERDICT_TONES.get(facts["verdict"], Tone.PLAIN))
    if moment.type == "review.answered":
        approved = facts["answer"] == "approve"
        return Span("approved" if approved else "denied", Tone.GOOD if approved else Tone.BAD)
    if moment.type == "effect.late_result":
        return Span("too late", Tone.LOST)
    if moment.type in ("effect.stopped", "budget.dismissed"):
        return Span("stopped", Tone.BAD) if moment.type == "effect.stopped" else Span("seen", Tone.PLAIN)
    if moment.type in ("effect.dispatched", "effect.resent"):
        return "started" if moment.type == "effect.dispatched" else "sent again"
    if "journal" in facts:
        return Span(moment.type.partition(".")[2], _RUN_TONES.get(facts["state"], Tone.PLAIN))
    if "state" in facts:
        return Span(str(facts["state"]).replace("_", " "), tone_of(facts["state"]))
    return Span("", Tone.PLAIN)


def _noted(moment: Moment) -> str:
    """An entry about a run or a session: which one, and what is to be said of it."""
    facts = moment.facts
    kind, _, id_ = facts["journal"].partition(":")
    said = [f"{name} {facts[name]}" for name in _NOTED if facts.get(name)]
    named = short(id_) if kind == "run" else id_
    return f"{kind} {named}{': ' + ', '.join(said) if said else ''}"


_NOTED = ("agent", "reason", "of", "by", "run", "phase", "failure", "why", "forked")
_RUN_TONES = {"finished": Tone.GOOD, "failed": Tone.BAD, "cancelled": Tone.BAD, "waiting": Tone.WAIT}


def _told(moment: Moment) -> str:
    if "journal" in moment.facts:
        return _noted(moment)
    tell = _TOLD.get(moment.type)
    return tell(moment) if tell else moment.type


def _accepted(moment: Moment) -> str:
    return f"{_call(moment)}  {moment.facts['principal']}{_rules(moment)}"


def _answered(moment: Moment) -> str:
    reason = (moment.detail or {}).get("reason")
    return f"by {moment.facts['by']}{': ' + reason if reason else ''}"


def _dispatched(moment: Moment) -> str:
    return f"attempt {moment.facts['attempt']} on {short(moment.facts['node'])}{_rules(moment)}"


def _call(moment: Moment) -> str:
    intent = (moment.detail or {}).get("intent")
    if not intent:
        return f"{moment.facts['operation']} (arguments erased)"
    return call_line(intent["operation"], _briefly(intent["arguments"]))


def _briefly(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with the short ones first, and of the long ones only that they are there: a line is not a document."""
    long = {name: "…" for name, value in arguments.items() if isinstance(value, str) and len(value) > ARGUMENT_MAX}
    long |= {name: f"{len(value)} of them" for name, value in arguments.items() if _are_digests(value)}
    return {name: value for name, value in arguments.items() if name not in long} | long


def _are_digests(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(str(one).startswith("sha256:") for one in value)


def _rules(moment: Moment) -> str:
    rules = moment.facts.get("rules") or []
    return f"  [{', '.join(rules)}]" if rules else ""


def _settled(moment: Moment) -> str:
    facts = moment.facts
    spent_ms = facts["ended_at"] - facts["started_at"]
    told = "" if facts["code"] == "ok" else f"{facts['code']}: "
    message = (moment.detail or {}).get("message") or ""
    return f"{told}{message + ', ' if message else ''}{spent_ms} ms, {facts['lane']} lane, {facts['confinement']}"


def _judged(moment: Moment) -> str:
    reason = (moment.detail or {}).get("reason", "")
    by = moment.facts["by"]
    by = short(by) if by.startswith("eff_") else by
    return f"{moment.facts['code'].replace('_', ' ')}, by {by}{': ' + reason if reason else ''}"


_TOLD: dict[str, Callable[[Moment], str]] = {
    "log.opened": lambda moment: f"the log {moment.facts.get('log', '')} begins",
    "policy.activated": lambda m: f"policy revision {m.facts['number']} activated by {m.facts['by']}",
    "effect.accepted": _accepted,
    "review.answered": _answered,
    "review.expired": lambda _: "nobody answered in time",
    "review.escalated": lambda moment: f"escalated by {moment.facts['by']}",
    "effect.dispatched": _dispatched,
    "effect.resent": _dispatched,
    "effect.settled": _settled,
    "effect.late_result": _settled,
    "effect.lost": lambda _: "the node that ran it is gone; it may have happened",
    "effect.judged": _judged,
    "effect.stopped": lambda moment: shortage_told(moment.facts),
    "budget.dismissed": lambda m: f"what stopped {short(m.facts['stopped'])} was seen by {m.facts['by']}",
    "effect.withdrawn": lambda moment: f"{moment.facts['code']}{_rules(moment)}",
}
