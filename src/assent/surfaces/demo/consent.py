"""Publishing: the call stops for a person, who sees exactly what is asked and why, and runs when they say yes."""

from __future__ import annotations

from assent.execution.outcomes import StreamEvent
from assent.ledger.effects import EffectState
from assent.ledger.reviews import Review, ReviewState
from assent.operations.wishes import Answer, Wish
from assent.primitives.digests import digest
from assent.surfaces.cli.paper import Span, Tone
from assent.surfaces.cli.ports import House
from assent.surfaces.cli.telling.calls import tell_call
from assent.surfaces.demo.calls import Release
from assent.surfaces.demo.promises import expect
from assent.surfaces.demo.scene import Scene
from assent.surfaces.demo.verdicts import found, reason, rules, spent_ms

REVIEWED_BY = "publish-reviewed"
MARKDOWN = "text/markdown; charset=utf-8"


def published_at(release: Release, name: str) -> str:
    """The path of a document on the release server."""
    return f"/releases/{release.version}/{name}"


async def publish_report(scene: Scene, house: House, release: Release, text: str) -> None:
    """Publishing needs a person; after their yes it happens once."""
    scene.begin("The helper wants to publish the report")
    path = published_at(release, "report.md")
    wish = scene.wish("http.put", {"url": scene.site.url(path), "body": text, "content_type": MARKDOWN})
    answer, review = await ask_first(scene, house, wish, path)
    if not await scene.asked.ask("Do you approve exactly this call?"):
        await _deny(scene, house, review, path)
        return
    facts = await _approve(scene, house, review, path, text)
    scene.end(
        "publish", "approved", effect=answer.effect.id, rules=rules(answer), reason=reason(answer),
        question=review.question, review=review.id, approver=scene.person, url=scene.site.url(path), **facts,
    )  # fmt: skip


async def ask_first(scene: Scene, house: House, wish: Wish, path: str) -> tuple[Answer, Review]:
    """Wish for it, see it stop, and show what the person has to know."""
    answer = await house.gate.perform(wish)
    stopped = answer.effect.state is EffectState.IN_REVIEW and rules(answer) == [REVIEWED_BY]
    expect(stopped, f"that {REVIEWED_BY} stops the call for a person", found=found(answer))
    review = answer.review
    assert review is not None
    assert answer.decision is not None
    expect(review.intent == answer.effect.intent, "a question about exactly this call", found=review.intent)
    count = await scene.site.count("PUT", path)
    expect(count == 0, "that nothing was sent before a person agreed", found=f"{count} requests")
    paper = scene.paper
    paper.line(Span("waits for a person", Tone.WAIT), f"  {answer.decision.reason}", indent=3)
    tell_call(paper, wish.operation, wish.arguments, indent=3)
    paper.line(f"asked by {wish.principal} for {scene.person}; {count} requests at the server so far", indent=3)
    paper.line(Span(review.question, Tone.STRONG), f"  ({review.id})", indent=3)
    return answer, review


async def refuse(scene: Scene, house: House, review: Review, path: str) -> None:
    """The person said no: the effect is refused and nothing is sent."""
    answered = await house.reviews.deny(scene.tenant, review.id, by=scene.person, reason=scene.asked.reason)
    expect(answered.state is ReviewState.DENIED, "a denied review", found=answered.state)
    told = await house.timelines.explain(scene.tenant, review.effect)
    expect(told.effect.state is EffectState.REFUSED, "a refused effect", found=told.effect.state)
    count = await scene.site.count("PUT", path)
    expect(count == 0, "that nothing was sent", found=f"{count} requests")
    scene.paper.line(Span("refused", Tone.BAD), f"  by {scene.person}: nothing was sent", indent=3)


async def _deny(scene: Scene, house: House, review: Review, path: str) -> None:
    await refuse(scene, house, review, path)
    scene.notice("you said no, so this was not published")
    scene.end("publish", "denied", effect=review.effect, review=review.id, requests=0)


async def _approve(scene: Scene, house: House, review: Review, path: str, text: str) -> dict[str, object]:
    """The person said yes: the call runs now, and the server counts it."""
    answered, answer = await house.reviews.approve_and_run(
        scene.tenant, review.id, by=scene.person, reason=scene.asked.reason, on_event=_ignore
    )
    expect(answered.approvers == (scene.person,), "one approval, the person's", found=answered.approvers)
    expect(answer is not None, "that the approved call runs", found=answered.state)
    assert answer is not None
    assert answer.outcome is not None
    outcome, effect = answer.outcome, answer.effect
    expect(effect.state is EffectState.SUCCEEDED, "that it was published", found=f"{found(answer)}: {outcome.message}")
    count, stored = await scene.site.count("PUT", path), await scene.site.document(path)
    expect(count == 1, "exactly one request at the server", found=count)
    expect(stored == digest(text.encode()), "the report on the server, byte for byte", found=stored)
    dialled = "{address}:{port}".format_map(outcome.evidence.facts)
    expect(dialled == scene.site.host, f"that only {scene.site.host} was dialled", found=dialled)
    scene.paper.line(
        Span("published", Tone.GOOD),
        f"  approved by {scene.person}, {spent_ms(outcome)} ms, status {outcome.value['status']}; the lane"
        f" could dial {scene.site.host} alone and dialled {dialled}; requests at the server: {count}",
        indent=3,
    )
    return {"requests": count, "stored": stored, "dialled": dialled, "status": outcome.value["status"]}


def _ignore(_: StreamEvent) -> None:
    return None
