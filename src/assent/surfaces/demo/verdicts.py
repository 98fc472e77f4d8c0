"""What was decided and done, as the steps read it from an answer."""

from __future__ import annotations

from assent.execution.outcomes import Outcome
from assent.ledger.decisions import Verdict
from assent.ledger.effects import EffectState
from assent.operations.wishes import Answer, Wish
from assent.surfaces.cli.paper import Span, Tone
from assent.surfaces.cli.ports import House
from assent.surfaces.cli.telling.calls import call_line
from assent.surfaces.demo.promises import expect
from assent.surfaces.demo.scene import Scene


async def decided(scene: Scene, house: House, wish: Wish) -> Answer:
    """Take a wish to the gate, and tell what policy said to it."""
    answer = await house.gate.perform(wish)
    decision = answer.decision
    expect(decision is not None, "a decision", found=found(answer))
    assert decision is not None
    verdict = Span("allowed", Tone.GOOD) if decision.verdict is Verdict.ALLOW else Span("refused", Tone.BAD)
    scene.paper.line(call_line(wish.operation, wish.arguments), indent=3)
    scene.paper.line(verdict, f"  {decision.reason}", indent=3)
    return answer


def expect_allowed(answer: Answer, rule: str) -> Outcome:
    """The rule, alone, allowed it, and it was carried to an end at once."""
    allowed = answer.decision is not None and answer.decision.verdict is Verdict.ALLOW and answer.review is None
    expect(allowed and rules(answer) == [rule], f"that {rule} allows it", found=found(answer))
    outcome = answer.outcome
    expect(answer.effect.attempt == 1 and outcome is not None, "one attempt, ended", found=found(answer))
    assert outcome is not None
    return outcome


def expect_done(answer: Answer, outcome: Outcome) -> None:
    """It succeeded."""
    done = answer.effect.state is EffectState.SUCCEEDED
    expect(done, "that it is done", found=f"{found(answer)}: {outcome.message or outcome.value}")


def expect_refused(answer: Answer, rule: str) -> None:
    """The rule forbade it, whatever a person would say, and nothing was dispatched."""
    refused = answer.effect.state is EffectState.REFUSED and answer.effect.code == "forbidden"
    named = rule in rules(answer) and f"`{rule}`" in reason(answer)
    expect(refused and named, f"a refusal by {rule}", found=f"{found(answer)}: {reason(answer)}")
    expect(answer.effect.attempt == 0, "that nothing was dispatched", found=f"{answer.effect.attempt} attempts")


def rules(answer: Answer) -> list[str]:
    """The rules that decided."""
    return list(answer.decision.rules) if answer.decision else []


def reason(answer: Answer) -> str:
    """Why it was decided so."""
    return answer.decision.reason if answer.decision else ""


def found(answer: Answer) -> str:
    """How an answer stands, in a few words."""
    return f"`{answer.effect.state}` with code `{answer.effect.code}` by rules {rules(answer)}"


def spent_ms(outcome: Outcome) -> int:
    """How long an attempt took."""
    return outcome.evidence.ended_at_ms - outcome.evidence.started_at_ms
