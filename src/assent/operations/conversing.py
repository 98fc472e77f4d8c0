"""A conversation as a program has it: say something, answer what is asked on the way, get the last words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from assent.operations.reviews import Reviews
from assent.operations.runs.events import OnRunEvent, RunEvent, Waiting
from assent.operations.runs.runs import Runs
from assent.operations.runs.views import RunView
from assent.operations.timelines import Timelines
from assent.primitives.errors import Refused, Unavailable
from assent.primitives.ids import EffectId, ReviewId, TenantId

ANSWERS_MAX = 1_000
BY_PROGRAM = "answered by the program that asked"
ANSWERABLE = ("review", "person")


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for consent: the question, and the exact call that is asked for."""

    review: str
    question: str
    operation: str
    arguments: dict[str, Any]
    reason: str


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to what is pending, with its reason, which is recorded."""

    given: bool
    reason: str


Said: TypeAlias = Consent | bool | None
OnReview: TypeAlias = Callable[[Pending], Said | Awaitable[Said]]
OnQuestion: TypeAlias = Callable[[str], str | Awaitable[str | None] | None]


class Conversation:
    """Drives runs for somebody who answers for them, and for the runs that these hand work to. `on_review` says yes,
    no, or None: somebody else shall answer."""

    def __init__(
        self,
        *,
        runs: Runs,
        reviews: Reviews,
        timelines: Timelines,
        tenant: TenantId,
        person: str,
        on_event: OnRunEvent | None = None,
        on_review: OnReview | None = None,
        on_question: OnQuestion | None = None,
    ) -> None:
        self._runs = runs
        self._reviews = reviews
        self._timelines = timelines
        self._tenant = tenant
        self._person = person
        self._on_event = on_event
        self._on_review = on_review
        self._on_question = on_question

    async def finish(self, run: str) -> RunView:
        """Carry a run on to its end, asking on the way.

        Raises:
            Unavailable: `run_waiting`: nobody here can say what it waits for; it goes on from its record later.
            Refused: `run_failed`: it ended without an answer.
        """
        seen, waits = await self.carry_on(run)
        if waits is not None:
            raise _waiting(run, waits)
        return _ended(seen)

    async def carry_on(self, run: str) -> tuple[RunView, Waiting | None]:
        """Carry a run on as far as it goes, asking on the way: how it stands then, and what it waits for.

        Raises:
            Unavailable: `run_waiting`: it asked too often.
        """
        for _ in range(ANSWERS_MAX):
            waits: list[Waiting] = []

            def hear(event: RunEvent, waits: list[Waiting] = waits) -> None:
                if isinstance(event, Waiting):
                    waits.append(event)
                if self._on_event is not None:
                    self._on_event(event)

            seen = await self._runs.drive(self._tenant, run, tell=hear, by=self._person)
            asked = next((one for one in waits if one.reason in ANSWERABLE), None)
            if asked is None or not await self._answer(asked):
                return seen, next((one for one in waits if one.run == run), None)
        raise Unavailable("run_waiting", f"run `{run}` asked more than {ANSWERS_MAX} times")

    async def _answer(self, waits: Waiting) -> bool:
        """Answer what a run waits for; whether there was an answer."""
        if waits.reason == "review" and self._on_review is not None:
            return await self._consent(ReviewId(waits.of), self._on_review)
        if waits.reason == "person" and self._on_question is not None:
            said = self._on_question(waits.question)
            words = await said if isinstance(said, Awaitable) else said
            if words is not None:
                await self._runs.hear(self._tenant, waits.run, words, by=self._person, answers=waits.of)
            return words is not None
        return False

    async def _consent(self, id_: ReviewId, on_review: OnReview) -> bool:
        review = await self._timelines.review(self._tenant, id_)
        about = await self._timelines.explain(self._tenant, EffectId(review.effect))
        pending = Pending(
            review=review.id,
            question=review.question,
            operation=about.effect.operation,
            arguments=about.intent.arguments if about.intent else {},
            reason=about.reason,
        )
        given = on_review(pending)
        said = await given if isinstance(given, Awaitable) else given
        if said is None:
            return False
        consent = Consent(given=said, reason=BY_PROGRAM) if isinstance(said, bool) else said
        answer = self._reviews.approve if consent.given else self._reviews.deny
        await answer(self._tenant, id_, by=self._person, reason=consent.reason)
        return True


def _ended(seen: RunView) -> RunView:
    if seen.failure:
        raise Refused("run_failed", f"run `{seen.id}` failed: {seen.failure}", hint=f"see `assent runs show {seen.id}`")
    return seen


def _waiting(run: str, waits: Waiting) -> Unavailable:
    about = f": {waits.question}" if waits.question else ""
    return Unavailable(
        "run_waiting",
        f"run `{run}` waits for a {waits.reason} (`{waits.of}`){about}",
        hint="see `assent inbox`; it goes on with `assent runs resume`",
    )
