"""Who answers what: the state of one JSON-RPC conversation, without a stream under it. Pure.

                 ask                        take: answer
    (unknown) ─────────► waiting ──────────────────────────► settled
                            │ abandon              │
                            ▼                      │ take: answer
                        abandoned ──► settled      ▼
                           take: answer          fault

Ids are whole numbers drawn by lot (31 bits: what readers of JSON everywhere agree on), so a peer cannot answer what it
has not been asked yet. An answer settles the call of exactly its id. Everything else is a fault that ends the
conversation and settles nothing: an id that was never used (`answer_unasked`), one that is settled already
(`answer_repeated`), one of another type, `"7"` for 7 (`answer_mistyped`), none at all (`answer_nameless`). The one
exception is the protocol's own: a peer that could not read a message says so with an id of null, and that falls on
everything that waits.

What the peer asks and tells is bounded by `begin`, which starts a new count.
"""

from __future__ import annotations

from collections import deque

from assent.execution.rpc_messages import INVALID_REQUEST, PARSE_ERROR, Answered, Asked, Message, Told
from assent.primitives.clock import Entropy
from assent.primitives.errors import Malformed

ASKED_MAX = 64
TOLD_MAX = 10_000
SETTLED_KEPT_MAX = 4_096
_ID_MASK = 2**31 - 1


class Conversation:
    """One side of a conversation: which of our calls wait, and what of the peer's messages may be believed.

    The last `SETTLED_KEPT_MAX` ids that were settled are remembered, to tell a repeated answer from one never asked.
    """

    def __init__(self, *, entropy: Entropy) -> None:
        self._entropy = entropy
        self._settled: deque[int] = deque(maxlen=SETTLED_KEPT_MAX)
        self._waiting: set[int] = set()
        self._abandoned: set[int] = set()
        self.begin()

    def begin(self) -> None:
        """Count what the peer says anew."""
        self.asked = self.told = 0

    @property
    def waiting(self) -> frozenset[int]:
        """The ids whose answers have not come."""
        return frozenset(self._waiting)

    def ask(self) -> int:
        """The id of the next request, which from now on waits."""
        id_ = 0
        while id_ == 0 or id_ in self._waiting or id_ in self._abandoned or id_ in self._settled:
            id_ = int.from_bytes(self._entropy(4)) & _ID_MASK
        self._waiting.add(id_)
        return id_

    def abandon(self, id_: int) -> None:
        """Nobody waits for this answer any more; it may still come, once."""
        self._waiting.discard(id_)
        self._abandoned.add(id_)

    def take(self, message: Message) -> Message | None:
        """Judge what came: an answer that settles a call, something that the peer asks or tells, or nothing.

        Raises:
            Malformed: `answer_unasked`, `answer_repeated`, `answer_mistyped`, `answer_nameless`, `asked_limit`,
                `told_limit`.
        """
        if isinstance(message, Answered):
            return self._settle(message)
        if isinstance(message, Asked):
            self.asked += 1
            if self.asked > ASKED_MAX:
                raise Malformed("asked_limit", f"the peer asked more than {ASKED_MAX} things of its own")
        if isinstance(message, Told):
            self.told += 1
            if self.told > TOLD_MAX:
                raise Malformed("told_limit", f"the peer sent more than {TOLD_MAX} notifications")
        return message

    def _settle(self, answer: Answered) -> Answered | None:
        if type(answer.id) is int:
            if answer.id in self._waiting:
                self._waiting.discard(answer.id)
                self._settled.append(answer.id)
                return answer
            if answer.id in self._abandoned:
                self._abandoned.discard(answer.id)
                self._settled.append(answer.id)
                return None
            if answer.id in self._settled:
                raise Malformed("answer_repeated", f"the peer answered the call `{answer.id}` more than once")
            raise Malformed("answer_unasked", f"the peer answered `{answer.id}`, which nobody asked")
        if answer.id is None:
            return self._unreadable(answer)
        raise Malformed("answer_mistyped", f"the peer answered the text `{ascii(answer.id)[1:61]}`; ids are numbers")

    def _unreadable(self, answer: Answered) -> Answered:
        if answer.error is None or answer.error.code not in (PARSE_ERROR, INVALID_REQUEST) or not self._waiting:
            raise Malformed("answer_nameless", "the peer sent an answer without an id")
        self._settled.extend(self._waiting)
        self._waiting.clear()
        return answer
