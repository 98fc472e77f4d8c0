"""Calls over a link: say it, hear until it is answered, and deal with what the peer says meanwhile."""

from __future__ import annotations

import asyncio

import msgspec

from assent.execution.adapters.jsonrpc.links import Link
from assent.execution.ports import Steering
from assent.execution.rpc_conversation import Conversation
from assent.execution.rpc_messages import (
    METHOD_NOT_FOUND,
    Answered,
    Asked,
    Told,
    batch,
    notification,
    read,
    refusal,
    request,
)
from assent.primitives.canonical import Json
from assent.primitives.clock import Entropy
from assent.primitives.errors import Malformed


class Caller:
    """One side of a conversation on one link. Used by one call at a time; a subclass knows more of the peer's language.

    What is raised ends the conversation: `Gone` by the link, `Malformed` when the peer broke the protocol.
    """

    def __init__(self, link: Link, *, message_bytes_max: int, entropy: Entropy) -> None:
        self.link = link
        self._max = message_bytes_max
        self._conversation = Conversation(entropy=entropy)
        self.steering: Steering | None = None

    def begin(self, steering: Steering | None) -> None:
        """An order begins: what the peer may say of its own is counted anew."""
        self._conversation.begin()
        self.steering = steering

    @property
    def waiting(self) -> frozenset[int]:
        """The ids whose answers have not come."""
        return self._conversation.waiting

    @property
    def counts(self) -> dict[str, int]:
        """How much the peer said of its own since the order began."""
        return {"asked": self._conversation.asked, "told": self._conversation.told}

    async def call(self, method: str, params: Json = None, *, acts: bool = False) -> Answered:
        """Send one request and wait for its answer. `acts`: it is what the order is about."""
        id_ = self._conversation.ask()
        answers = await self._exchange(request(id_, method, params), {id_}, acts=acts)
        return answers[id_]

    async def call_all(self, calls: list[tuple[str, Json, bool]]) -> list[Answered | None]:
        """Send a batch of (method, parameters, whether it is a notification); the answers in the order of the calls.

        Raises:
            Malformed: `batch_incomplete`, also; it names what is missing.
        """
        ids = [None if told else self._conversation.ask() for _, _, told in calls]
        frames = tuple(
            notification(method, params) if id_ is None else request(id_, method, params)
            for id_, (method, params, _) in zip(ids, calls, strict=True)
        )
        owed = {id_ for id_ in ids if id_ is not None}
        if not owed:
            await self.link.say(batch(frames), answered=False, acts=True)
            return [None] * len(calls)
        try:
            answers = await self._exchange(batch(frames), owed, acts=True)
        except _Incomplete as lacking:
            missing = ", ".join(f"`{ascii(c[0])[1:-1]}`" for i, c in zip(ids, calls, strict=True) if i in lacking.ids)
            raise Malformed("batch_incomplete", f"the peer's batch lacks the answers to {missing[:400]}") from None
        return [None if id_ is None else answers[id_] for id_ in ids]

    async def tell(self, method: str, params: Json = None, *, acts: bool = False) -> None:
        """Send a notification."""
        await self.link.say(notification(method, params), answered=False, acts=acts)

    async def catch_up(self) -> None:
        """Take what the peer said since the last order; an answer among it is one that nobody asked."""
        for _ in range(2):  # the loop looks at its descriptors between these two
            await asyncio.sleep(0)
        while (data := self.link.poll()) is not None:
            await self._take(data, set(), {})

    async def _exchange(self, frame: bytes, owed: set[int], *, acts: bool) -> dict[int, Answered]:
        await self.link.say(frame, answered=True, acts=acts)
        answers: dict[int, Answered] = {}
        while not owed <= answers.keys():
            if self.steering is not None:
                await self.steering.room()  # whoever takes slowly slows the peer
            data = await self.link.hear()
            await self._take(data, owed, answers)
            if data.startswith(b"[") and answers and not owed <= answers.keys():
                raise _Incomplete(owed - set(answers))
        await self.link.rest()
        return answers

    async def _take(self, data: bytes, owed: set[int], answers: dict[int, Answered]) -> None:
        for message in read(data, bytes_max=self._max):
            match self._conversation.take(message):
                case Answered(id=int() as id_) as answer:
                    answers[id_] = answer
                case Answered() as answer:  # the peer could not read what was said: that is its answer to all of it
                    answers.update({id_: msgspec.structs.replace(answer, id=id_) for id_ in owed - set(answers)})
                case Asked() as asked:
                    await self.link.say(self.answer_peer(asked), answered=False)
                case Told() as told:
                    self.hear_peer(told)
                case None:
                    pass

    def answer_peer(self, asked: Asked) -> bytes:
        """The answer to something that the peer asks: nothing is offered to it."""
        return refusal(asked.id, METHOD_NOT_FOUND, "this client answers no requests")

    def hear_peer(self, told: Told) -> None:
        """Something that the peer tells; it is counted."""


class _Incomplete(Exception):
    """A batch came without the answers to these ids."""

    def __init__(self, ids: set[int]) -> None:
        super().__init__()
        self.ids = ids
