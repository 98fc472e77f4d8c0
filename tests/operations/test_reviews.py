"""Reviews in full: who has a say, who stands in for whom, what is waived, and what is done first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from assent.ledger.effects import EffectState
from assent.ledger.reviews import Review, ReviewState
from assent.operations.wishes import Answer
from assent.policy.principals import KnownPrincipal
from assent.primitives.errors import Conflict, Malformed, Refused
from assent.primitives.ids import ReviewId
from assent.testing.benches import ACME, AGENT, ANN, WORK_POLICY, Bench, wish
from tests.operations.scenes import BOB, CYD, Scene, activated_elsewhere, now

DAN, EVE = "person:dan", "person:eve"
PEOPLE = (
    KnownPrincipal(name=ANN, roles=("staff",)),
    KnownPrincipal(name=BOB, roles=("staff",)),
    KnownPrincipal(name=CYD, roles=("lead",)),
    KnownPrincipal(name=DAN, roles=("security", "oncall")),
    KnownPrincipal(name=EVE, roles=("cto",)),
    KnownPrincipal(name=AGENT),
)
HOUR_MS = 3_600_000


def policy(terms: str) -> str:
    return WORK_POLICY.replace('@quorum("1") @review_ttl_s("600")', terms)


def scene_with(path: Path, terms: str) -> Scene:
    path.mkdir(exist_ok=True)
    made = Scene(path, policy=policy(terms))
    made.parts = replace(made.parts, principals=PEOPLE, ttl_ms=100 * HOUR_MS)
    return made


async def deletion(bench: Bench, path: str = "a.txt", *, by: str = AGENT, emergency: str = "") -> Answer:
    return await bench.gate.perform(replace(wish("files.delete", {"path": path}, principal=by), emergency=emergency))


def why(answer: Answer) -> str:
    assert answer.decision is not None
    return answer.decision.reason


def asked_in(answer: Answer) -> ReviewId:
    assert answer.review is not None
    return answer.review.id


async def review_of(bench: Bench, answer: Answer) -> Review:
    found: Review | None = await bench.store.review(ACME, ReviewId(answer.effect.review))
    assert found is not None
    return found


# Roles and separation


def test_only_people_with_a_role_that_is_asked_for_have_a_say(tmp_path):
    async def body(bench: Bench) -> None:
        answer = await deletion(bench)
        for nobody in (BOB, ANN, DAN, "person:unknown"):
            with pytest.raises(Refused, match="`lead`"):
                await bench.reviews.approve(ACME, asked_in(answer), by=nobody)
        assert (await bench.reviews.approve(ACME, asked_in(answer), by=CYD)).state is ReviewState.APPROVED
        assert (await bench.gate.release(ACME, answer.effect.id)).effect.state is EffectState.SUCCEEDED

    scene_with(tmp_path, '@by("lead")').run(body)


def test_each_rule_wants_its_own_roles_and_all_of_them_are_filled(tmp_path):
    async def body(bench: Bench) -> None:
        answer = await deletion(bench)
        assert answer.review is not None
        assert answer.review.quorum == 2
        first = await bench.reviews.approve(ACME, asked_in(answer), by=CYD)
        assert first.state is ReviewState.OPEN
        with pytest.raises(Refused, match="role"):
            await bench.reviews.approve(ACME, asked_in(answer), by=BOB)
        assert (await bench.reviews.approve(ACME, asked_in(answer), by=DAN)).state is ReviewState.APPROVED
        assert (await bench.gate.release(ACME, answer.effect.id)).effect.state is EffectState.SUCCEEDED

    made = scene_with(tmp_path, '@by("lead")')
    more = """
    @id("security-too") @review("Is it safe?") @quorum("2") @by("security lead")
    forbid (principal, action, resource == Operation::"files.delete")
    unless { context has approval && context.approval.intent == context.intent };
    """
    made.parts = replace(made.parts, policy=made.parts.policy + more)
    made.run(body)


def test_anybody_may_deny_whatever_roles_are_asked_for(tmp_path):
    async def body(bench: Bench) -> None:
        answer = await deletion(bench)
        assert (await bench.reviews.deny(ACME, asked_in(answer), by=BOB, reason="no")).state is ReviewState.DENIED

    scene_with(tmp_path, '@by("lead")').run(body)


def test_role_that_is_taken_away_before_the_call_runs_counts_no_more(tmp_path):
    async def body(bench: Bench) -> None:
        answer = await deletion(bench)
        await bench.reviews.approve(ACME, asked_in(answer), by=CYD)
        assert (await now(bench, answer.effect.id)).state is EffectState.GRANTED

    async def later(bench: Bench) -> None:
        (granted,) = await bench.store.effects(ACME, states=(EffectState.GRANTED,), limit=9)
        released = await bench.gate.release(ACME, granted.id)
        assert released.effect.state is EffectState.REVOKED

    made = scene_with(tmp_path, '@by("lead")')
    made.run(body)
    without = tuple(replace(one, roles=()) if one.name == CYD else one for one in PEOPLE)
    made.parts = replace(made.parts, principals=without)
    made.run(later)
    assert made.deeds == 0


def test_nobody_in_whose_name_it_is_asked_answers_where_the_rule_says_so(tmp_path):
    async def body(bench: Bench) -> None:
        answer = await deletion(bench)  # for Ann
        with pytest.raises(Refused, match="in the name of"):
            await bench.reviews.approve(ACME, asked_in(answer), by=ANN)
        assert (await bench.reviews.approve(ACME, asked_in(answer), by=BOB)).state is ReviewState.APPROVED

    scene_with(tmp_path, '@apart("chain")').run(body)


def test_approval_counts_by_the_rules_of_the_day_it_is_used(tmp_path):
    made = scene_with(tmp_path, '@quorum("1")')

    async def body(bench: Bench) -> None:
        answer = await deletion(bench)
        await bench.reviews.approve(ACME, asked_in(answer), by=BOB)
        await activated_elsewhere(made, policy('@by("lead")'))
        assert (await bench.gate.release(ACME, answer.effect.id)).effect.state is EffectState.REVOKED

    made.run(body)
    assert made.deeds == 0


# Escalation


def test_review_that_nobody_answers_goes_to_others_and_only_then(tmp_path):
    made = scene_with(tmp_path, '@by("lead") @escalate_s("60") @escalate_to("cto") @review_ttl_s("600")')

    async def body(bench: Bench) -> None:
        answer = await deletion(bench)
        with pytest.raises(Refused, match="role"):
            await bench.reviews.approve(ACME, asked_in(answer), by=EVE)
        made.clock.pass_ms(59_000)
        await bench.reviews.expire(ACME)
        assert not (await review_of(bench, answer)).escalated
        made.clock.pass_ms(2_000)
        assert await bench.reviews.expire(ACME) == 0
        await bench.reviews.expire(ACME)  # once is enough
        assert (await review_of(bench, answer)).escalated
        types = [m.type for m in (await bench.timelines.explain(ACME, answer.effect.id)).moments]
        assert types.count("review.escalated") == 1
        assert (await bench.reviews.approve(ACME, asked_in(answer), by=EVE)).state is ReviewState.APPROVED
        assert (await bench.gate.release(ACME, answer.effect.id)).effect.state is EffectState.SUCCEEDED

    made.run(body)


def test_person_escalates_before_the_time_and_only_where_it_goes_to_somebody(tmp_path):
    async def body(bench: Bench) -> None:
        answer = await deletion(bench)
        with pytest.raises(Refused, match="only people"):
            await bench.reviews.escalate(ACME, asked_in(answer), by=AGENT)
        assert (await bench.reviews.escalate(ACME, asked_in(answer), by=ANN)).escalated
        with pytest.raises(Conflict, match="already"):
            await bench.reviews.escalate(ACME, asked_in(answer), by=ANN)

    scene_with(tmp_path / "one", '@by("lead") @escalate_s("600") @escalate_to("cto")').run(body)

    async def nobody(bench: Bench) -> None:
        answer = await deletion(bench)
        assert answer.review is not None
        with pytest.raises(Conflict, match="nobody else"):
            await bench.reviews.escalate(ACME, asked_in(answer), by=ANN)

    scene_with(tmp_path / "two", '@by("lead")').run(nobody)


# Standing in


def test_person_answers_in_the_place_of_another_while_that_lasts(tmp_path):
    made = scene_with(tmp_path, '@by("lead") @review_ttl_s("86400")')

    async def body(bench: Bench) -> None:
        answer = await deletion(bench)
        until_ms = made.clock.now_ms() + HOUR_MS
        await bench.reviews.stand_ins.name(ACME, of=CYD, by=BOB, until_ms=until_ms, reason="on leave")
        approved = await bench.reviews.approve(ACME, asked_in(answer), by=BOB)
        assert (approved.state, approved.approvers, approved.places) == (ReviewState.APPROVED, (BOB,), (CYD,))
        assert (await bench.gate.release(ACME, answer.effect.id)).effect.state is EffectState.SUCCEEDED
        second = await deletion(bench, "b.txt")
        made.clock.pass_ms(HOUR_MS)
        assert await bench.reviews.stand_ins.standing(ACME) == []
        with pytest.raises(Refused, match="role"):
            await bench.reviews.approve(ACME, asked_in(second), by=BOB)

    made.run(body)


def test_place_is_taken_once_and_never_for_ones_own_request(tmp_path):
    made = scene_with(tmp_path, '@by("lead staff") @quorum("2")')

    async def body(bench: Bench) -> None:
        until_ms = made.clock.now_ms() + HOUR_MS
        await bench.reviews.stand_ins.name(ACME, of=CYD, by=EVE, until_ms=until_ms, reason="")
        answer = await deletion(bench)
        await bench.reviews.approve(ACME, asked_in(answer), by=CYD)
        with pytest.raises(Refused, match="role"):  # the place that would count is taken
            await bench.reviews.approve(ACME, asked_in(answer), by=EVE)
        other = await deletion(bench, "b.txt")
        await bench.reviews.approve(ACME, asked_in(other), by=EVE)
        with pytest.raises(Conflict, match="already approved"):
            await bench.reviews.approve(ACME, asked_in(other), by=CYD)
        mine = await deletion(bench, "c.txt", by=CYD)
        with pytest.raises(Refused, match="role"):
            await bench.reviews.approve(ACME, asked_in(mine), by=EVE)
        await bench.reviews.stand_ins.end(ACME, of=CYD, reason="back")
        with pytest.raises(Conflict, match="nobody stands in"):
            await bench.reviews.stand_ins.end(ACME, of=CYD, reason="back")

    made.run(body)


@pytest.mark.parametrize(
    ("of", "by", "hours", "error"),
    [(CYD, CYD, 1, Refused), (AGENT, BOB, 1, Refused), (CYD, AGENT, 1, Refused), (CYD, BOB, 0, Malformed),
     (CYD, BOB, 24 * 400, Malformed), (CYD, "person:b ob", 1, Refused)],
)  # fmt: skip
def test_nobody_stands_in_who_cannot(tmp_path, of, by, hours, error):
    made = scene_with(tmp_path, '@by("lead")')

    async def body(bench: Bench) -> None:
        until_ms = made.clock.now_ms() + hours * HOUR_MS
        with pytest.raises(error):
            await bench.reviews.stand_ins.name(ACME, of=of, by=by, until_ms=until_ms, reason="")

    made.run(body)


# Emergencies


def test_person_does_it_first_and_somebody_else_looks_at_it(tmp_path):
    async def body(bench: Bench) -> None:
        done = await deletion(bench, by=DAN, emergency="the disk is full")
        assert done.effect.state is EffectState.SUCCEEDED
        assert "the disk is full" in why(done)
        review = await review_of(bench, done)
        assert (review.state, review.after) == (ReviewState.OPEN, True)
        found = await bench.timelines.inbox(ACME)
        assert [one.effect.id for one in found.afterwards] == [done.effect.id]
        assert found.reviews == ()
        with pytest.raises(Refused, match="made this request"):
            await bench.reviews.approve(ACME, review.id, by=DAN)
        looked = await bench.reviews.approve(ACME, review.id, by=BOB, reason="it was")
        assert looked.state is ReviewState.APPROVED
        after = await now(bench, done.effect.id)
        assert (after.state, after.code) == (EffectState.SUCCEEDED, "ok")

    scene_with(tmp_path, '@emergency("oncall")').run(body)


def test_finding_it_wrong_changes_nothing_that_was_done(tmp_path):
    async def body(bench: Bench) -> None:
        done = await deletion(bench, by=DAN, emergency="I felt like it")
        review = await review_of(bench, done)
        assert (await bench.reviews.deny(ACME, review.id, by=BOB, reason="no")).state is ReviewState.DENIED
        assert (await now(bench, done.effect.id)).state is EffectState.SUCCEEDED

    scene_with(tmp_path, '@emergency("oncall")').run(body)


@pytest.mark.parametrize("asker", [BOB, AGENT])
def test_nobody_else_does_it_first(tmp_path, asker):
    async def body(bench: Bench) -> None:
        answer = await deletion(bench, by=asker, emergency="now!")
        assert answer.effect.state is EffectState.IN_REVIEW
        assert "whatever the emergency" in why(answer)

    made = scene_with(tmp_path, '@emergency("oncall")')
    with_role = tuple(replace(one, roles=("oncall",)) if one.name == AGENT else one for one in PEOPLE)
    made.parts = replace(made.parts, principals=with_role)
    made.run(body)
    assert made.deeds == 0


def test_nothing_is_done_first_where_a_rule_does_not_say_so_or_forbids(tmp_path):
    async def body(bench: Bench) -> None:
        assert (await deletion(bench, by=DAN, emergency="now!")).effect.state is EffectState.IN_REVIEW

    scene_with(tmp_path / "one", '@quorum("1")').run(body)
    never = '@id("never") forbid (principal, action, resource == Operation::"files.delete");'

    async def forbidden(bench: Bench) -> None:
        assert (await deletion(bench, by=DAN, emergency="now!")).effect.state is EffectState.REFUSED

    made = scene_with(tmp_path / "two", '@emergency("oncall")')
    made.parts = replace(made.parts, policy=made.parts.policy + never)
    made.run(forbidden)


def test_who_was_not_looked_at_in_time_does_nothing_first_until_they_were(tmp_path):
    made = scene_with(tmp_path, '@emergency("oncall") @review_ttl_s("60")')

    async def body(bench: Bench) -> None:
        done = await deletion(bench, by=DAN, emergency="one")
        made.clock.pass_ms(61_000)
        assert await bench.reviews.expire(ACME) == 0  # what was done is looked at, however late
        assert (await deletion(bench, "b.txt", by=DAN, emergency="two")).effect.state is EffectState.IN_REVIEW
        review = await review_of(bench, done)
        await bench.reviews.approve(ACME, review.id, by=BOB)
        assert (await deletion(bench, "c.txt", by=DAN, emergency="three")).effect.state is EffectState.SUCCEEDED

    made.run(body)


# Waivers


async def waived(bench: Bench, scene: Scene, calls: str, *, by: str = BOB, hours: float = 1) -> str:
    until_ms = scene.clock.now_ms() + round(hours * HOUR_MS)
    made = await bench.gate.waivers.make(ACME, principal=AGENT, calls=calls, until_ms=until_ms, by=by, reason="tidying")
    return made.id


def test_waived_calls_are_not_asked_about_until_they_are_used_up(tmp_path):
    made = scene_with(tmp_path, '@waivable_s("7200")')

    async def body(bench: Bench) -> None:
        waiver = await waived(bench, made, "files.delete path=tmp/* x2")
        first = await deletion(bench, "tmp/a")
        assert first.effect.state is EffectState.SUCCEEDED
        assert waiver in why(first)
        assert (await deletion(bench, "other")).effect.state is EffectState.IN_REVIEW
        assert (await deletion(bench, "tmp/../x")).effect.state is EffectState.IN_REVIEW
        assert (await deletion(bench, "tmp/b")).effect.state is EffectState.SUCCEEDED
        assert (await deletion(bench, "tmp/c")).effect.state is EffectState.IN_REVIEW
        assert (await bench.gate.waivers.find(ACME, waiver)).used == 2
        assert await bench.gate.waivers.standing(ACME) == []

    made.run(body)
    assert made.deeds == 2


def test_of_many_calls_at_once_as_many_are_let_through_as_the_waiver_is_good_for(tmp_path):
    made = scene_with(tmp_path, '@waivable_s("7200")')

    async def body(bench: Bench) -> None:
        await waived(bench, made, "files.delete path=tmp/* x5")
        answers = await asyncio.gather(*(deletion(bench, f"tmp/{number}") for number in range(12)))
        states = [one.effect.state for one in answers]
        assert states.count(EffectState.SUCCEEDED) == 5
        assert states.count(EffectState.IN_REVIEW) == 7

    made.run(body)
    assert made.deeds == 5


def test_waiver_ends_with_its_time_and_when_it_is_revoked(tmp_path):
    made = scene_with(tmp_path, '@waivable_s("7200")')

    async def body(bench: Bench) -> None:
        first = await waived(bench, made, "files.delete")
        await bench.gate.waivers.revoke(ACME, first, by=CYD, reason="stop")
        assert (await deletion(bench)).effect.state is EffectState.IN_REVIEW
        with pytest.raises(Conflict, match="over"):
            await bench.gate.waivers.revoke(ACME, first, by=CYD, reason="again")
        await waived(bench, made, "files.delete")
        made.clock.pass_ms(HOUR_MS)
        assert (await deletion(bench, "b")).effect.state is EffectState.IN_REVIEW

    made.run(body)
    assert made.deeds == 0


def test_waiver_is_worth_what_its_signers_are_and_lasts_no_longer_than_the_rule_lets_it(tmp_path):
    made = scene_with(tmp_path, '@by("lead") @quorum("2") @waivable_s("7200")')
    made.parts = replace(made.parts, policy=made.parts.policy.replace('@by("lead")', '@by("lead staff")'))

    async def body(bench: Bench) -> None:
        waiver = await waived(bench, made, "files.delete", by=BOB)
        assert (await deletion(bench)).effect.state is EffectState.IN_REVIEW
        with pytest.raises(Conflict, match="signed"):
            await bench.gate.waivers.sign(ACME, waiver, by=BOB, reason="twice")
        await bench.gate.waivers.sign(ACME, waiver, by=EVE, reason="no role here")
        assert (await deletion(bench, "b")).effect.state is EffectState.IN_REVIEW
        await bench.gate.waivers.sign(ACME, waiver, by=CYD, reason="so do I")
        assert (await deletion(bench, "c")).effect.state is EffectState.SUCCEEDED
        await bench.gate.waivers.revoke(ACME, waiver, by=ANN, reason="enough")
        long = await waived(bench, made, "files.delete", by=BOB, hours=3)
        await bench.gate.waivers.sign(ACME, long, by=CYD, reason="too long")
        assert (await deletion(bench, "d")).effect.state is EffectState.IN_REVIEW

    made.run(body)
    assert made.deeds == 1


def test_nothing_is_waived_where_the_rule_does_not_say_so(tmp_path):
    made = scene_with(tmp_path, '@quorum("1")')

    async def body(bench: Bench) -> None:
        await waived(bench, made, "files.*")
        assert (await deletion(bench)).effect.state is EffectState.IN_REVIEW

    made.run(body)


@pytest.mark.parametrize(
    ("calls", "principal", "by", "error"),
    [("", AGENT, BOB, Malformed), ("*", AGENT, BOB, Malformed), ("*.*", AGENT, BOB, Malformed),
     ("-reads", AGENT, BOB, Malformed), ("files.delete", AGENT, AGENT, Refused), ("files.delete", BOB, BOB, Refused),
     ("files.delete", "agent:", BOB, Malformed), ("files.delete", "agent:wr\u0456ter", BOB, Malformed)],
)  # fmt: skip
def test_waiver_that_means_nothing_or_too_much_is_refused(tmp_path, calls, principal, by, error):
    made = scene_with(tmp_path, '@waivable_s("7200")')

    async def body(bench: Bench) -> None:
        until_ms = made.clock.now_ms() + HOUR_MS
        with pytest.raises(error):
            await bench.gate.waivers.make(ACME, principal=principal, calls=calls, until_ms=until_ms, by=by, reason="x")

    made.run(body)


def test_what_a_waiver_would_have_been_about_is_counted_from_the_record(tmp_path):
    made = scene_with(tmp_path, '@waivable_s("7200")')

    async def body(bench: Bench) -> None:
        yes, no = await deletion(bench, "tmp/a"), await deletion(bench, "tmp/b")
        await bench.reviews.approve(ACME, asked_in(yes), by=BOB)
        await bench.reviews.deny(ACME, asked_in(no), by=BOB, reason="no")
        await deletion(bench, "elsewhere")
        await deletion(bench, "tmp/c", by=ANN)
        past = await bench.gate.waivers.matched(ACME, principal=AGENT, calls="files.delete path=tmp/*", since_ms=0)
        assert (past.calls, past.asked, past.approved, past.denied) == (2, 2, 1, 1)
        assert past.examples == (yes.effect.id, no.effect.id)

    made.run(body)
