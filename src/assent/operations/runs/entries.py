"""What is written down about runs and sessions: one builder for each type of entry, and the payloads they commit to.

    run.started ── run.heard · run.waiting · run.paused · run.resumed · run.compacted ── run.ended
    session.opened ── session.asked · session.replied · session.reset · session.compacted ── …
    request.made ── …

Texts and whatever may be personal stand in payloads, which can be erased; bodies hold states, names and digests.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assent.ledger.journals import Journal, JournalKind, Note, note
from assent.operations.runs.states import RUN, RunMove, RunState
from assent.operations.toolbox import Offer
from assent.policy.mandates import Mandate
from assent.primitives.digests import digest
from assent.primitives.labels import Integrity, Label
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.context import Source
from assent.reasoning.failures import Failure
from assent.reasoning.messages import Message

PATIENCE = "patience-1"
"""A question that was open when its run was resumed is one that was asked since: its model is not asked once more."""
LABELS = "labels-1"
"""What a model says is no better than the sections that it is told, nor is a result than what had been seen when it was
asked for, where it may hold that."""
FLAGS = ("turns-1", PATIENCE, LABELS)
"""The behaviours that a run begun by this release has. A change of what the fold makes of a record adds one."""


class Started(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run begins with and keeps to: the agent as it was, its tools, whom it acts for, what was said before
    (digests of pieces), what it is told beside the transcript, what was to be done before, and the task. `by` is who
    gave it, and `mandates` say what was asked for; the first of them are the mandates of the runs in `mandated_by`, the
    others its own. `task_label` is whose word the task is: a person's, or a model's that hands work on. `asks_left` is
    how often whoever handed it on might still ask people (None: there was no limit)."""

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
    todo: tuple[dict[str, Any], ...] = ()
    mandates: tuple[Mandate, ...] = ()
    mandated_by: tuple[str, ...] = ()
    task_label: Label = Label(integrity=Integrity.USER)
    asks_left: int | None = None

    def owners(self, run: str) -> tuple[str, ...]:
        """Whose each of the mandates is; `run` is this one."""
        return (*self.mandated_by, *[run] * (len(self.mandates) - len(self.mandated_by)))

    def offer_of(self, tool: str) -> Offer:
        """A tool of this run, by its name."""
        return next(one for one in self.offers if one.tool.name == tool)


class Heard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person said while it ran. It is told after turn `after`; `answers` is the call that asked, if one did."""

    message: Message
    by: str
    after: int
    answers: str = ""


class Compacted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The transcript up to and with turn `through` is told as `pieces` from then on: a summary, and the newest of what
    was said word for word. `originals` is what it was."""

    through: int
    pieces: tuple[str, ...]
    originals: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run ended: its last words and who may read them (unset: whoever the tenant lets), or what failed."""

    text: str = ""
    failure: Failure | None = None
    readers: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def label(self) -> Label:
        """Of the words: a model's, for whom they are."""
        return Label(readers=None if self.readers is msgspec.UNSET else self.readers)


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a session holds after a note: all that was said, as digests of pieces, the newest words, and what is left to
    be done; and which agent took it over (empty: the one that it began with)."""

    pieces: tuple[str, ...]
    text: str = ""
    todo: tuple[dict[str, Any], ...] = ()
    agent: str = ""


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


def compacted(run: Journal, payload: Compacted, *, salt: bytes) -> Note:
    """What was said is told more shortly from here on."""
    return _on(
        run, run.state, "run.compacted", {"through": payload.through}, owned=True, salt=salt, payload=_encode(payload)
    )


def ended(run: Journal, move: RunMove, payload: Ended, *, by: str, salt: bytes) -> Note:
    """A run ends."""
    failure = payload.failure.kind if payload.failure else ""
    body = {"by": by, "failure": failure}
    return _moved(run, move, "run.ended", body, owned=False, salt=salt, payload=_encode(payload))


def opened(id_: str, payload: Exchange, *, agent: str, identity: str, forked: str, salt: bytes) -> Note:
    """A session begins, empty or as a fork of another."""
    return note(
        kind="session", id_=id_, before=-1, state="open", owned=False, type_="session.opened",
        body={
            "agent": agent, "identity": digest(identity.encode()), "forked": forked, "messages": len(payload.pieces),
        }, salt=salt,
        payload=_encode(payload), name=agent, parent=forked,
    )  # fmt: skip


def asked(session: Journal, *, run: str, key: str, words: str, messages: int, salt: bytes) -> Note:
    """Something was said in a session that holds so many messages, and a run answers it."""
    body = {"run": run, "messages": messages}
    return _on(session, session.state, "session.asked", body, owned=False, salt=salt, payload=_encode(words), key=key)


def replied(session: Journal, payload: Exchange, *, run: str, final: bool, key: str, salt: bytes) -> Note:
    """A run answers in its session: for now, or for good. There is one final reply to a key."""
    body = {"run": run, "phase": "final" if final else "provisional", "messages": len(payload.pieces)}
    return _on(
        session, session.state, "session.replied", body, owned=False, salt=salt, payload=_encode(payload), key=key
    )


def reset(session: Journal, *, by: str, why: str, salt: bytes) -> Note:
    """A session begins afresh: what was said stays on record and is told no more."""
    payload, body = _encode(Exchange(pieces=())), {"by": by, "why": why, "messages": 0}
    return _on(session, session.state, "session.reset", body, owned=False, salt=salt, payload=payload)


def shortened(session: Journal, payload: Exchange, *, originals: str, run: str, salt: bytes) -> Note:
    """A session is told more shortly from here on; `originals` is the digest of the list that it was, `run` under which
    name models were asked to sum it up."""
    body = {"originals": originals, "run": run, "messages": len(payload.pieces)}
    return _on(session, session.state, "session.compacted", body, owned=False, salt=salt, payload=_encode(payload))


def requested(journal: Journal | None, run: str, *, asked: str, by: str) -> Note:
    """Somebody asks a run that a process drives to pause, or to end."""
    return note(
        kind="request", id_=run, before=journal.last_seq if journal else -1, state=asked, owned=False,
        type_="request.made", body={"asked": asked, "by": by},
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
