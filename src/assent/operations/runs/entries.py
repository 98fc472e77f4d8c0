"""What is written down about runs and sessions: one builder for each type of entry, and the payloads they commit to.

    run.started ── run.heard · run.waiting · run.paused · run.resumed ── run.ended
    session.opened ── session.asked · session.replied · session.reset · session.compacted ── …

Texts and whatever may be personal stand in payloads, which can be erased; bodies hold states, names and digests.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assent.ledger.journals import Journal, JournalKind, Note, note
from assent.operations.runs.states import RUN, RunMove, RunState
from assent.operations.toolbox import Offer
from assent.primitives.digests import digest
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.context import Source
from assent.reasoning.failures import Failure
from assent.reasoning.messages import Message

FLAGS = ("turns-1",)
"""The behaviours that a run begun by this release has. A change of what the fold makes of a record adds one."""


class Started(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run begins with and keeps to: the agent as it was, its tools, whom it acts for, what was said before
    (digests of pieces), what it is told beside the transcript, and the task. `by` is who gave it."""

    agent: AgentDefinition
    offers: tuple[Offer, ...]
    on_behalf_of: tuple[str, ...]
    prior: tuple[str, ...]
    task: Message
    by: str
    sections: tuple[Source, ...] = ()
    session: str = ""
    depth: int = 0
    ancestors: tuple[str, ...] = ()

    def offer_of(self, tool: str) -> Offer:
        """A tool of this run, by its name."""
        return next(one for one in self.offers if one.tool.name == tool)


class Heard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person said while it ran. It is told after turn `after`; `answers` is the call that asked, if one did."""

    message: Message
    by: str
    after: int
    answers: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run ended: its last words, or what failed."""

    text: str = ""
    failure: Failure | None = None


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a session holds after a note: all that was said, as digests of pieces, and the newest words."""

    pieces: tuple[str, ...]
    text: str = ""


_encode = msgspec.json.Encoder(order="sorted").encode


def started(id_: str, payload: Started, *, parent: str, salt: bytes) -> Note:
    """A run begins."""
    body = {
        "agent": payload.agent.name, "definition": digest(_encode(payload.agent)),
        "tools": digest(_encode(payload.offers)), "flags": [*FLAGS], "depth": payload.depth,
    }  # fmt: skip
    return note(
        kind="run", id_=id_, before=-1, state=RunState.RUNNING, owned=True, type_="run.started", body=body,
        salt=salt, payload=_encode(payload), name=payload.agent.name, parent=parent,
    )  # fmt: skip


def heard(run: Journal, payload: Heard, *, key: str, salt: bytes, owned: bool) -> Note:
    """A person says something to a run."""
    body = {"by": payload.by, "after": payload.after, "answers": payload.answers}
    return _on(run, run.state, "run.heard", body, owned=owned, salt=salt, payload=_encode(payload), key=key)


def waiting(run: Journal, *, reason: str, of: str) -> Note:
    """A run waits for something, and nobody works on it."""
    return _moved(run, RunMove.WAIT, "run.waiting", {"reason": reason, "of": of}, owned=False)


def paused(run: Journal, *, by: str) -> Note:
    """A person stops a run for a while."""
    return _moved(run, RunMove.PAUSE, "run.paused", {"by": by}, owned=False)


def resumed(run: Journal, *, by: str) -> Note:
    """A node works on a run again."""
    return _moved(run, RunMove.RESUME, "run.resumed", {"by": by}, owned=True)


def ended(run: Journal, move: RunMove, payload: Ended, *, by: str, salt: bytes) -> Note:
    """A run ends."""
    failure = payload.failure.kind if payload.failure else ""
    body = {"by": by, "failure": failure}
    return _moved(run, move, "run.ended", body, owned=False, salt=salt, payload=_encode(payload))


def opened(id_: str, payload: Exchange, *, agent: str, identity: str, forked: str, salt: bytes) -> Note:
    """A session begins, empty or as a fork of another."""
    return note(
        kind="session", id_=id_, before=-1, state="open", owned=False, type_="session.opened",
        body={"agent": agent, "identity": digest(identity.encode()), "forked": forked}, salt=salt,
        payload=_encode(payload), name=agent, parent=forked,
    )  # fmt: skip


def asked(session: Journal, *, run: str, key: str, words: bytes, salt: bytes) -> Note:
    """Something was said in a session, and a run answers it."""
    return _on(
        session, session.state, "session.asked", {"run": run}, owned=False, salt=salt, payload=_encode(words.decode()),
        key=key,
    )  # fmt: skip


def replied(session: Journal, payload: Exchange, *, run: str, final: bool, key: str, salt: bytes) -> Note:
    """A run answers in its session: for now, or for good. There is one final reply to a key."""
    body = {"run": run, "phase": "final" if final else "provisional"}
    return _on(
        session, session.state, "session.replied", body, owned=False, salt=salt, payload=_encode(payload), key=key
    )


def reset(session: Journal, *, by: str, why: str, salt: bytes) -> Note:
    """A session begins afresh: what was said stays on record and is told no more."""
    payload = _encode(Exchange(pieces=()))
    return _on(session, session.state, "session.reset", {"by": by, "why": why}, owned=False, salt=salt, payload=payload)


def shortened(session: Journal, payload: Exchange, *, originals: str, run: str, salt: bytes) -> Note:
    """A session is told more shortly from here on; `originals` is the digest of the list that it was, `run` the run
    that summed it up."""
    return _on(
        session, session.state, "session.compacted", {"originals": originals, "run": run}, owned=False, salt=salt,
        payload=_encode(payload),
    )  # fmt: skip


def _moved(
    run: Journal, move: RunMove, type_: str, body: dict[str, Any], *, owned: bool, salt: bytes = b"",
    payload: bytes | None = None,
) -> Note:  # fmt: skip
    state = RUN.after(RunState(run.state), move)
    return _on(run, state, type_, {"move": move, **body}, owned=owned, salt=salt, payload=payload)


def _on(
    journal: Journal, state: str, type_: str, body: dict[str, Any], *, owned: bool, salt: bytes = b"",
    payload: bytes | None = None, key: str = "",
) -> Note:  # fmt: skip
    kind: JournalKind = journal.kind
    return note(
        kind=kind, id_=journal.id, before=journal.last_seq, state=state, owned=owned, type_=type_, body=body,
        salt=salt, payload=payload, key=key,
    )  # fmt: skip
