"""Terms: what the annotations of a rule say beside its condition. Pure.

    @id("delete-reviewed")               every rule: its name in decisions
    @reason("deleting cannot be undone") any rule: why, in one sentence
    @example("{…}")                      any rule: a call to which it applies, when the search finds none
    @review("Delete this file?")         a forbid that an approval lifts: the question people are asked,
    @quorum("2") @review_ttl_s("3600")     how many must approve, and for how long the question stands
    @by("lead security")                   the approvers must have one of these roles
    @apart("chain")                        nobody in whose name it is asked answers
    @escalate_s("600") @escalate_to("cto") unanswered for so long, people with one of these roles count as well
    @emergency("oncall")                   people with one of these roles may do it first, and answer for it afterwards
    @waivable_s("28800")                   the question may be waived for calls of a kind, for so long at most
    @floor("namespaced")                 a permit, or a forbid with a review: the weakest confinement,
    @accept("microvm namespaced")        the classes that will do, the preferred one first; the only way below the
                                         default floor, and the only way to what stands beside the ladder
    @wall_s @cpu_s @memory_mb @output_kb   and the limits under which the call may be carried out
    @file_mb @processes @open_files @disk_mb
    @egress("api.example.org:443")       the hosts that a program may reach, where the call itself names none

Of all the rules that apply, the strictest floor and the smallest amount of each limit hold, a class will do only when
every rule that names classes names it, and a host may be reached only when every rule that names hosts admits it. The
floor never falls below that of the operation's contract; a limit that no rule names is the engine's default, and so is
the floor where no rule names classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from assent.execution.attestations import LADDER, ConfinementClass, tightest
from assent.execution.hosts import in_common
from assent.execution.obligations import Accepted, Obligations, both
from assent.execution.orders import Limits
from assent.ledger.decisions import Demands, ReviewTerms, Seat
from assent.policy.principals import ROLES_MAX, is_role
from assent.primitives.errors import Malformed

TEXT_CHARACTERS_MAX = 500
EXAMPLE_CHARACTERS_MAX = 4_000
QUORUM_MAX = 16
REVIEW_TTL_S_MAX = 30 * 86_400
AMOUNT_MAX = 2**31 - 1
EGRESS_MAX = 64

_LIMITS: dict[str, tuple[str, int]] = {
    "wall_s": ("wall_ms", 1_000),
    "cpu_s": ("cpu_s_max", 1),
    "memory_mb": ("memory_bytes_max", 1_048_576),
    "output_kb": ("output_bytes_max", 1_024),
    "file_mb": ("file_bytes_max", 1_048_576),
    "processes": ("processes_max", 1),
    "open_files": ("open_files_max", 1),
    "disk_mb": ("disk_bytes_max", 1_048_576),
}
_REVIEWS: dict[str, int] = {
    "quorum": QUORUM_MAX,
    "review_ttl_s": REVIEW_TTL_S_MAX,
    "escalate_s": REVIEW_TTL_S_MAX,
    "waivable_s": REVIEW_TTL_S_MAX,
}
_ROLES = ("by", "escalate_to", "emergency")
_APART = "chain"
_TEXTS: dict[str, int] = {
    "reason": TEXT_CHARACTERS_MAX,
    "review": TEXT_CHARACTERS_MAX,
    "example": EXAMPLE_CHARACTERS_MAX,
}
ANNOTATIONS = frozenset({"id", "floor", "accept", "egress", "apart", *_LIMITS, *_REVIEWS, *_ROLES, *_TEXTS})


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The annotations of one rule, read. `limits` are (field of Limits, amount); `egress` are allow-list entries."""

    reason: str = ""
    example: str = ""
    review: ReviewTerms | None = None
    floor: ConfinementClass | None = None
    accept: tuple[ConfinementClass, ...] | None = None
    egress: tuple[str, ...] | None = None
    limits: tuple[tuple[str, int], ...] = ()


def read_terms(annotations: Mapping[str, str], *, effect: str) -> tuple[Terms, list[str]]:
    """Read the annotations of a rule with `effect` (`permit`, `forbid`), and say everything that is wrong with them."""
    faults = [f"`@{name}` is not an annotation" for name in sorted(annotations.keys() - ANNOTATIONS)]
    faults += _misplaced(annotations, effect)
    for name, size in _TEXTS.items():
        text = annotations.get(name, "x")
        if not text.strip() or len(text) > size or not text.isprintable():
            faults.append(f"`@{name}` must be a printable text of 1 to {size} characters")
    floor = annotations.get("floor")
    if floor is not None and floor not in set(LADDER):
        faults.append(f"`@floor` must be one of {', '.join(f'`{name}`' for name in LADDER)}")
    accept = tuple(annotations["accept"].split()) if "accept" in annotations else None
    if accept is not None and (
        not accept or not set(accept) <= set(ConfinementClass) or len(set(accept)) < len(accept)
    ):
        faults.append(f"`@accept` must name some of {', '.join(f'`{name}`' for name in ConfinementClass)}, each once")
    egress = _egress(annotations, faults)
    roles = {name: _roles(name, annotations[name], faults) for name in _ROLES if name in annotations}
    faults += _half_said(annotations)
    amounts = {name: _amount(name, annotations, faults) for name in (*_LIMITS, *_REVIEWS) if name in annotations}
    if faults:
        return Terms(), faults
    limits = tuple((_LIMITS[name][0], amount * _LIMITS[name][1]) for name, amount in amounts.items() if name in _LIMITS)
    terms = Terms(
        reason=annotations.get("reason", ""),
        example=annotations.get("example", ""),
        review=_review(annotations, amounts, roles),
        floor=ConfinementClass(floor) if floor else None,
        accept=tuple(map(ConfinementClass, accept)) if accept else None,
        egress=egress,
        limits=limits,
    )
    return terms, []


def _misplaced(annotations: Mapping[str, str], effect: str) -> list[str]:
    if "review" in annotations:
        return [] if effect == "forbid" else ["`@review` belongs to a `forbid` that an approval lifts"]
    alone = [name for name in (*_REVIEWS, *_ROLES, "apart") if name in annotations]
    if effect == "forbid":  # what is never carried out needs no limits
        alone += [name for name in ("floor", "accept", "egress", *_LIMITS) if name in annotations]
    return [f"`@{name}` says nothing here without `@review`" for name in alone]


def _half_said(annotations: Mapping[str, str]) -> list[str]:
    """What the annotations of a review say that means nothing without another, or nothing at all."""
    faults = []
    if annotations.get("apart", _APART) != _APART:
        faults.append(f"`@apart` must be `{_APART}`: nobody in whose name it is asked answers")
    if ("escalate_s" in annotations) != ("escalate_to" in annotations):
        faults.append("`@escalate_s` and `@escalate_to` belong together")
    if "escalate_to" in annotations and "by" not in annotations:
        faults.append("`@escalate_to` adds to those of `@by`, which is not there")
    return faults


def _roles(name: str, text: str, faults: list[str]) -> tuple[str, ...]:
    roles = tuple(text.split())
    if not roles or len(roles) > ROLES_MAX or not all(map(is_role, roles)) or len(set(roles)) < len(roles):
        faults.append(f"`@{name}` must name 1 to {ROLES_MAX} roles, each once, with blanks between them")
    return roles


def _egress(annotations: Mapping[str, str], faults: list[str]) -> tuple[str, ...] | None:
    if "egress" not in annotations:
        return None
    entries = tuple(annotations["egress"].split())
    if not 1 <= len(entries) <= EGRESS_MAX:
        faults.append(f"`@egress` must name 1 to {EGRESS_MAX} hosts, with blanks between them")
        return None
    try:
        return in_common(entries, entries)
    except Malformed as error:
        faults.append(f"`@egress`: {error}")
        return None


def _amount(name: str, annotations: Mapping[str, str], faults: list[str]) -> int:
    text = annotations[name]
    most = _REVIEWS.get(name) or AMOUNT_MAX // _LIMITS[name][1]
    if text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most:
        return int(text)
    faults.append(f"`@{name}` must be a whole number from 1 to {most}")
    return 0


def _review(
    annotations: Mapping[str, str], amounts: Mapping[str, int], roles: Mapping[str, tuple[str, ...]]
) -> ReviewTerms | None:
    if "review" not in annotations:
        return None
    default = ReviewTerms(question=annotations["review"])
    quorum = amounts.get("quorum", default.quorum)
    seat = Seat(
        roles=roles.get("by", ()),
        quorum=quorum,
        escalate_s=amounts.get("escalate_s", 0),
        escalate_to=roles.get("escalate_to", ()),
    )
    return ReviewTerms(
        question=annotations["review"],
        quorum=quorum,
        ttl_s=amounts.get("review_ttl_s", default.ttl_s),
        demands=Demands(seats=(seat,) if seat.roles else (), apart="apart" in annotations),
        emergency=roles.get("emergency", ()),
        waivable_s=amounts.get("waivable_s", 0),
    )


def tightened(
    base: Obligations, terms: Iterable[Terms], *, hosts: tuple[str, ...], least: ConfinementClass
) -> Obligations:
    """What holds under all of `terms`, for exactly `hosts`, or, where the call names none, for those that `terms` name.

    The floor of `base` and its limits are defaults: a limit holds where no rule names it, the floor where no rule names
    the classes it accepts. Below `least`, the floor of the contract, nothing goes. Of several rules that name a limit
    the smallest amount holds, of several floors the strictest; and a class is accepted that all of them accept.
    """
    floors = [least]
    accept: Accepted = None
    egress: tuple[str, ...] | None = None
    named: dict[str, int] = {}
    for term in terms:
        if term.floor is not None:
            floors.append(term.floor)
        accept = both(accept, term.accept)
        if term.egress is not None:
            egress = term.egress if egress is None else in_common(egress, term.egress)
        for name, amount in term.limits:
            named[name] = min(named.get(name, amount), amount)
    if accept is None:
        floors.append(base.floor)
    limits = {name: named.get(name, getattr(base.limits, name)) for name in Limits.__struct_fields__}
    return Obligations(floor=tightest(*floors), accept=accept, hosts=hosts or egress or (), limits=Limits(**limits))


def joined(terms: Iterable[Terms], *, question: str) -> ReviewTerms:
    """One review that satisfies all of `terms`: every question, the largest quorum, everybody's seats, the shortest
    time. What is to be done first, or waived, every one of them must let be.

    `question` is asked when none of them has one.
    """
    said = list(terms)
    reviews = [term.review for term in said if term.review is not None]
    if not reviews:
        return ReviewTerms(question=question)
    emergency = [role for role in reviews[0].emergency if all(role in review.emergency for review in reviews)]
    waivable_s = min(review.waivable_s for review in reviews)
    silent = len(reviews) < len(said)
    questions = dict.fromkeys(review.question for review in reviews)
    return ReviewTerms(
        question=" ".join(questions),
        quorum=max(review.quorum for review in reviews),
        ttl_s=min(review.ttl_s for review in reviews),
        demands=Demands(
            seats=tuple(dict.fromkeys(seat for review in reviews for seat in review.demands.seats)),
            apart=any(review.demands.apart for review in reviews),
        ),
        emergency=() if silent else tuple(emergency),
        waivable_s=0 if silent else waivable_s,
    )
