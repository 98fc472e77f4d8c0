"""`assent policy simulate`: one call, decided as if it were made."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from cyclopts import Parameter

from assent.ledger.decisions import Decision, ReviewTerms, Verdict
from assent.operations.rehearsals import COUNTS_SUPPOSED, Supposing
from assent.operations.wishes import Wish
from assent.primitives.errors import Malformed, NotFound
from assent.primitives.labels import Integrity
from assent.surfaces.cli.arguments import Call, folder_of, read_call
from assent.surfaces.cli.commands.perform import help_for, read_bytes
from assent.surfaces.cli.commands.policies import at_place
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.ports import Desk, PolicyText, Said

ACTIVE = "active"
COUNT_DIGITS_MAX = 12
_MORE = ("for", "seen", "vouched", "reader", "only", "approved", "approver", "counted", "revision")
_BEARINGS = {
    "matched": ("applies", Tone.STRONG),
    "condition_false": ("does not apply", Tone.QUIET),
    "failed": ("fails", Tone.BAD),
}
_VERDICTS = {"allow": (Tone.GOOD, Exit.DONE), "deny": (Tone.BAD, Exit.REFUSED), "review": (Tone.WAIT, Exit.WAITING)}


class _Activated(NamedTuple):
    """A revision as it was activated: which files it was joined from is not recorded."""

    text: str
    revision: str

    def place(self, line: int) -> tuple[str, int]:
        return "", line


async def simulate(*tokens: str, desk: Annotated[Desk, Parameter(parse=False)]) -> Said:
    """Decide one call, rule by rule, as if it were made: by the policy files, or by a revision, whoever asks, whatever
    they had seen and whoever approved. Nothing is recorded or carried out.

    Example: assent policy simulate files.delete --path notes.txt
    """
    desk.use(Common(json=desk.json, folder=folder_of(tokens)))
    call = read_call(tokens, contracts=desk.contracts(), read=read_bytes, more=_MORE)
    desk.use(Common(json=call.json, folder=call.folder))
    if call.help or not call.operation:
        return help_for(call.operation, desk.contracts(), command="policy simulate")
    for name in ("key", "emergency", "wait", "raw"):
        if getattr(call, name):
            raise _usage(f"`--{name}` is for calls that are made", "leave it out: nothing is carried out")
    wish, supposing = _wish(call, desk), _supposing(call, desk)
    text = await _text(_one(call, "revision"), desk)
    found = desk.rehearsals().simulate(text.text, wish, supposing)
    decision = found.decision
    tone, exit_ = _VERDICTS[decision.verdict]

    def tell(paper: Paper) -> None:
        paper.line(Span(f"{decision.verdict}:", tone), f" {decision.reason}")
        concerned = [rule for rule in found.rules if rule.bearing != "out_of_scope"]
        paper.table(
            [[Span(*_BEARINGS[r.bearing]), r.layer, r.effect, r.rule, at_place(text, r.line)] for r in concerned],
            indent=2,
        )
        if len(concerned) < len(found.rules):
            paper.line(f"{len(found.rules) - len(concerned)} rules are about other calls", indent=2)
        facts = [f"{name} {_plain(value)}" for name, value in found.facts.told().items()] if found.facts else []
        paper.pairs(
            [*_terms(decision), ("seen", ", ".join(facts)), ("revision", Span(decision.policy_revision, Tone.QUIET))]
        )

    return Said(document=msgspec.to_builtins(found), tell=tell, exit=exit_)


async def _text(revision: str, desk: Desk) -> PolicyText:
    if not revision:
        return desk.policy_text()
    tenant = desk.place.tenant
    async with desk.open(drift=False) as house:
        if revision == ACTIVE:
            active = await house.policies.active_revision(tenant)
            if active is None:
                raise NotFound("policy_missing", "no policy is active", hint="run `assent policy activate`")
            revision = active[0]
        return _Activated(await house.backtests.text_of(tenant, revision), revision)


def _wish(call: Call, desk: Desk) -> Wish:
    """The call. Whoever may be named may be supposed to ask: nothing is done in their name."""
    chain = tuple(call.more["for"])
    principal = call.principal
    if not principal.startswith("person:"):
        principal, mine = desk.place.asking(principal)
        chain = chain or mine
    return Wish(
        tenant=desk.place.tenant,
        operation=call.operation,
        arguments=call.arguments,
        principal=principal,
        on_behalf_of=chain,
        run=call.run,
    )


def _supposing(call: Call, desk: Desk) -> Supposing:
    vouched = dict(_vouched(one) for one in call.more["vouched"])
    unknown = sorted(vouched.keys() - {a.name for a in desk.contracts()[call.operation].arguments})
    if unknown:
        raise _usage(f"`{call.operation}` takes no argument `{unknown[0][:80]}`", "`--vouched` names arguments")
    return Supposing(
        seen=_integrity(_one(call, "seen") or Integrity.USER),
        vouched=vouched,
        readers=tuple(call.more["reader"]) or None,
        only=tuple(call.more["only"]),
        approved=_count(_one(call, "approved") or "0"),
        approvers=tuple(call.more["approver"]),
        counts=dict(_counted(one) for one in call.more["counted"]),
    )


def _one(call: Call, name: str) -> str:
    said = call.more[name]
    if len(said) > 1:
        raise _usage(f"`--{name}` is given twice", "give it once")
    return said[0] if said else ""


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 2:
        return int(text)
    raise _usage(f"`--approved {text[:40]}` is no number of people", "write a number from 0 to 99")


def _vouched(text: str) -> tuple[str, Integrity]:
    name, _, label = text.partition("=")
    return name.replace("-", "_"), _integrity(label)


def _counted(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if name in COUNTS_SUPPOSED and number.isascii() and number.isdigit() and len(number) <= COUNT_DIGITS_MAX:
        return name, int(number)
    raise _usage(
        f"`{text[:40]}` is no count", f"write `{COUNTS_SUPPOSED[1]}=9`; there are {', '.join(COUNTS_SUPPOSED)}"
    )


def _integrity(text: str) -> Integrity:
    try:
        return Integrity(text)
    except ValueError as error:
        raise _usage(f"`{text[:40]}` is no integrity", f"there are {', '.join(Integrity)}") from error


def _usage(message: str, hint: str) -> Malformed:
    return Malformed("usage", message, hint=hint)


def _terms(decision: Decision) -> list[tuple[str, Part | list[Part]]]:
    """What people would be asked, and what would hold."""
    rows: list[tuple[str, Part | list[Part]]] = []
    if decision.verdict is Verdict.REVIEW and decision.review is not None:
        rows += [("question", Span(decision.review.question, Tone.WAIT)), ("answered by", _who(decision.review))]
    if decision.obligations is not None:
        rows.append(("confinement", f"at least {decision.obligations.floor}"))
        rows += [("hosts", ", ".join(decision.obligations.hosts))] if decision.obligations.hosts else []
    return rows


def _who(terms: ReviewTerms) -> str:
    """Whose yes it takes."""
    people = "1 person" if terms.quorum == 1 else f"{terms.quorum} people"
    seats = [f"{seat.quorum} with the role {' or '.join(seat.roles)}" for seat in terms.demands.seats]
    apart = ["nobody in whose name it is asked"] if terms.demands.apart else []
    return ", ".join([people, *seats, *apart])


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
