"""Guest nodes: what happens at a hub or a guest, and who there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from assent.surfaces.cli.paper import Paper, Part, Span, Tone

if TYPE_CHECKING:
    from typing import Any

_SENTENCES = {
    "listening": "listens at {address}",
    "joined": "{guest} joined",
    "serving": "{guest} serves",
    "left": "{guest} left",
    "claimed": "{guest} took {ticket}",
    "started": "carries {ticket}",
    "ended": "{ticket} ended {why}",
    "came_late": "{ticket} came late from {guest}: recorded, and not applied",
    "connection_lost": "the hub is lost: {why}",
    "connection_ended": "a connection ended: {why}",
    "guest_refused": "refused {guest}: {why}",
    "invitation_refused": "refused an invitation for {guest}",
    "ticket_forged": "refused a ticket that our hub did not sign",
    "ticket_refused": "refused {ticket}: {why}",
}
_BAD = ("connection_lost", "guest_refused", "invitation_refused", "ticket_forged", "ticket_refused", "came_late")


def tell_news(paper: Paper, *, news: Mapping[str, str]) -> None:
    """One line for one thing that happened."""
    what = news["what"]
    words = {name: news.get(name, "") for name in ("guest", "ticket", "why", "address")}
    text = _SENTENCES.get(what, what).format(**words).strip()
    paper.line(Span(text, Tone.WAIT) if what in _BAD else text)


def tell_guests(paper: Paper, guests: Sequence[Any]) -> None:
    """A table of guests, and what is to be done when there is none."""
    if not guests:
        paper.line("No guests. Declare one in the settings, then `assent node invite NAME`.")
        return
    rows: list[list[Part]] = []
    for one in guests:
        state = ("serves", Tone.GOOD) if one.alive else (one.state, Tone.WAIT)
        carries = f"{one.running} running, {one.waiting} waiting" + (f", {one.late} late" if one.late else "")
        seen = f"seen {paper.when(one.seen_at_ms)}" if one.seen_at_ms else "never seen"
        rows.append([Span(one.name, Tone.STRONG), Span(*state), ", ".join(one.lanes) or "-", carries, seen])
    paper.table(rows)
