"""What an agent does with its own work: keep a list, ask, say, hand on. Operations that touch nothing outside of it.

They are governed like any other, so the record shows them and policy can take them away. What follows from one, a
question to a person or another agent's run, is the run's business (`runs.steps`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from assent.ledger.contracts import Output
from assent.operations.functions import operation
from assent.policy.mandates import read_mandate
from assent.primitives.labels import Integrity

ITEMS_MAX = 100


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to do."""

    text: str
    done: bool = False


OURS = (Output(integrity=Integrity.SYSTEM),)
"""What came of it is a sentence of Assent's, or what the model said itself."""
THEIRS = (Output(integrity=Integrity.USER),)
"""What came of it is what the person said."""


@operation(effect="read", name="assistant.todo", idempotent=True, outputs=OURS)
def todo(items: list[Item]) -> dict[str, Any]:
    """Keep a list of what is to be done. It stands before your eyes in every later turn, whatever is forgotten.

    Args:
        items: the whole list; each has a `text` and may be `done`
    """
    return {"items": [{"text": one.text, "done": one.done} for one in items[:ITEMS_MAX]]}


@operation(effect="read", name="assistant.ask", idempotent=True, outputs=THEIRS, tells=True)
def ask(question: str) -> str:
    """Ask the person you work for, and wait for the answer.

    Args:
        question: one question, with all that is needed to answer it
    """
    return question


@operation(effect="read", name="assistant.message", idempotent=True, outputs=OURS, tells=True)
def message(text: str) -> str:
    """Tell the person something before you are done. You go on at once.

    Args:
        text: what to tell
    """
    return text


@operation(effect="read", name="assistant.delegate", idempotent=True)
def delegate(agent: str, task: str) -> dict[str, Any]:
    """Have another agent do a part of the work, and get its answer.

    Args:
        agent: the agent's name
        task: what it is to do, with all that it needs to know
    """
    return {"agent": agent, "task": task}


@operation(effect="read", name="assistant.hand_off", idempotent=True, content=["note"])
def hand_off(agent: str, note: str = "") -> dict[str, Any]:
    """Have another agent take over: it hears what you heard, answers the person, and goes on with the conversation.

    Args:
        agent: the agent's name
        note: what it should know besides; it takes that as your words and not as the person's
    """
    return {"agent": agent, "note": note}


@operation(effect="write", name="assistant.plan", idempotent=True, outputs=OURS, tells=True)
def plan(calls: list[str]) -> dict[str, Any]:
    """Say what you are going to do before you read anything, and have the person confirm it. From then on whatever goes
    beyond it takes a yes of its own, and what is within it does not look like somebody else's idea.

    Args:
        calls: one line for each kind of call, such as `files.write path=reports/* x3`
    """
    return {"calls": [str(one) for one in read_mandate(calls, by="the plan").allowances]}


ASSISTANT: tuple[Callable[..., Any], ...] = (todo, ask, message, delegate, hand_off, plan)
