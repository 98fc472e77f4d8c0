"""`assent.chat`, `assent.achat`, `assent.Agent`: the door for programs. It composes, and holds no rules.

print(assent.chat("What is 2+2?"))

agent = assent.Agent("helper", model="ollama:llama3", tools=["read", "write", forecast])
print(agent.chat("What is in notes.txt?", session="main"))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from assent.bootstrap.personal import Personal, open_personal
from assent.operations.conversing import Conversation, OnQuestion, OnReview
from assent.primitives.errors import Refused

if TYPE_CHECKING:
    from assent.operations.runs.events import OnRunEvent

CHANNEL = "python"
Tool = str | Callable[..., Any]


class Agent:
    """An agent of this program.

    `model` is `endpoint:name`, or several to fall back on; left out, one is found in the environment. `tools` are names
    of tools in the box, names of operations, or functions that are marked with `@assent.operation`; whether a call of
    one may happen is for the policy of the installation to say. `delegates` are agents it may hand work to, `delegated`
    the tools it may let them use; `hands_to` are agents that may take over from it. `limits` are further fields of an
    agent: `turns_max`, `tokens_max`, `micros_max`, `asks_max`, `output_tokens_max`, `context_tokens_max`,
    `temperature_milli`, `memory`, `skills`, `workspace_notes`, and `mandate`: what it is for
    (`["files.write path=reports/*"]`), beyond which every call takes a consent of its own.

    For many questions, `async with assent.Agent(…) as agent:` opens the installation once.

    Raises, when it is talked to:
        Malformed: `model_missing`, naming the ways to get one; `agent_malformed`; settings with mistakes.
        Refused: `run_failed`: the run ended without an answer, and why.
        Unavailable: `run_waiting`: it waits for somebody; nothing is lost, it goes on from its record.
    """

    def __init__(
        self,
        name: str = "assistant",
        *,
        model: str | Sequence[str] = (),
        instructions: str = "",
        tools: Sequence[Tool] = (),
        delegates: Sequence[Agent] = (),
        delegated: Sequence[str] = (),
        hands_to: Sequence[Agent] = (),
        folder: str | Path | None = None,
        **limits: object,
    ) -> None:
        self.name = name
        self._others = (*delegates, *hands_to)
        self._open: AsyncExitStack | None = None
        self._house: Personal | None = None
        self._functions = tuple(tool for tool in tools if not isinstance(tool, str))
        self._folder = Path(folder) if folder is not None else None
        names = tuple(tool for tool in tools if isinstance(tool, str))
        self._fields: dict[str, Any] = {
            **limits,
            "name": name,
            "models": (model,) if isinstance(model, str) and model else tuple(model),
            "instructions": instructions,
            "tools": (*names, *(("delegate",) if delegates and "delegate" not in names else ())),
            "delegates": tuple(one.name for one in delegates),
            "delegated": tuple(delegated),
            "hands_to": tuple(one.name for one in hands_to),
        }

    async def __aenter__(self) -> Self:
        """Open the installation once for many questions; without it, each of them opens it.

        Raises:
            Refused: `agent_open`: it is open already.
        """
        if self._open is not None:
            raise Refused("agent_open", f"the agent `{self.name}` is open already", hint="use it where it was opened")
        self._open = AsyncExitStack()
        self._house = await self._open.enter_async_context(self._opened())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._open is not None, "it was entered"
        stack, self._open, self._house = self._open, None, None
        await stack.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _at_home(self) -> AsyncIterator[Personal]:
        if self._house is not None:
            yield self._house
            return
        async with self._opened() as house:
            yield house

    def _opened(self) -> AbstractAsyncContextManager[Personal]:
        return open_personal(
            self._fields,
            others=[one._named() for one in self._family()],  # noqa: SLF001 (another of the same class)
            functions=self._all_functions(),
            folder=self._folder,
        )

    async def achat(
        self,
        message: str,
        *,
        session: str = "",
        on_event: OnRunEvent | None = None,
        on_review: OnReview | None = None,
        on_question: OnQuestion | None = None,
        only: Sequence[str] = (),
    ) -> str:
        """Say something and get the answer.

        With `session` (a name) it remembers what was said in it before. `on_event` is shown what happens, `on_review`
        is asked for consent (True, False, or None: it shall wait for somebody else), `on_question` what the agent asks.
        `only` says what is asked for (`files.write path=reports/* x3`): what goes beyond takes a consent of its own.
        """
        async with self._at_home() as house:
            node, tenant, person = house.node, house.settings.tenant, house.settings.person
            talk = Conversation(
                runs=node.runs, reviews=node.reviews, timelines=node.timelines, tenant=tenant, person=person,
                on_event=on_event, on_review=on_review, on_question=on_question,
            )  # fmt: skip
            id_ = ""
            if session:
                id_ = await node.sessions.open(tenant, agent=self.name, identity=person, channel=CHANNEL, name=session)
            run = await node.runs.begin(tenant, house.agent, message, by=person, session=id_, only=only)
            return (await talk.finish(run)).text

    def chat(
        self,
        message: str,
        *,
        session: str = "",
        on_event: OnRunEvent | None = None,
        on_review: OnReview | None = None,
        on_question: OnQuestion | None = None,
        only: Sequence[str] = (),
    ) -> str:
        """As `achat`, for programs without an event loop."""
        _must_have_no_loop()
        return asyncio.run(
            self.achat(
                message, session=session, on_event=on_event, on_review=on_review, on_question=on_question, only=only
            )
        )

    def _family(self) -> list[Agent]:
        """Every agent that work may be handed to, however far."""
        found: dict[str, Agent] = {}
        waiting = [*self._others]
        while waiting:
            one = waiting.pop()
            if one.name not in found and one is not self:
                found[one.name] = one
                waiting += one._others  # noqa: SLF001 (another of the same class)
        return list(found.values())

    def _named(self) -> dict[str, Any]:
        """Its fields; without models of its own it has its asker's."""
        return {name: value for name, value in self._fields.items() if name != "models" or value}

    def _all_functions(self) -> list[Callable[..., Any]]:
        return [*dict.fromkeys((*self._functions, *(f for one in self._family() for f in one._functions)))]  # noqa: SLF001


async def achat(
    message: str,
    *,
    model: str | Sequence[str] = (),
    session: str = "",
    on_event: OnRunEvent | None = None,
    on_review: OnReview | None = None,
    on_question: OnQuestion | None = None,
    only: Sequence[str] = (),
    **more: Any,  # noqa: ANN401 (arguments of `Agent`)
) -> str:
    """Ask the assistant and get its answer. `more` are arguments of `Agent`; see there for what is raised, and
    `Agent.achat` for the rest."""
    return await Agent(model=model, **more).achat(
        message, session=session, on_event=on_event, on_review=on_review, on_question=on_question, only=only
    )


def chat(
    message: str,
    *,
    model: str | Sequence[str] = (),
    session: str = "",
    on_event: OnRunEvent | None = None,
    on_review: OnReview | None = None,
    on_question: OnQuestion | None = None,
    only: Sequence[str] = (),
    **more: Any,  # noqa: ANN401 (arguments of `Agent`)
) -> str:
    """As `achat`, for programs without an event loop."""
    return Agent(model=model, **more).chat(
        message, session=session, on_event=on_event, on_review=on_review, on_question=on_question, only=only
    )


def starter_policy() -> str:
    """The policy of a new installation, as text."""
    return (files("assent.policy.starter") / "starter.cedar").read_text(encoding="utf-8")


def _must_have_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise Refused("loop_running", "an event loop runs here already", hint="use `await assent.achat(...)`")
