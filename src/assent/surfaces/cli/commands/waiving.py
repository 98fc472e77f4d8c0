"""`assent waive`, `waivers …`, `stand-in`: fewer questions, and somebody else to answer them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.operations.standing_in import StandIn
from assent.operations.waivers import Matched, Waiver
from assent.primitives.errors import Malformed
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.ports import Desk, Said

Own = Annotated[Desk, Parameter(parse=False)]
Id = Annotated[str, Parameter(name="ID")]
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000


async def waive(
    calls: Annotated[str, Parameter(name="CALLS")],
    /,
    *,
    for_: Annotated[str, Parameter(name="--for")],
    reason: str = "",
    hours: int = 1,
    look_back: int = 30,
    preview: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
    desk: Own,
) -> Said:
    """Answer yes beforehand, for calls of a kind, for a while. It counts only where the rule says that its question may
    be waived (`@waivable_s`), and as one person's yes.

    Example: assent waive "files.delete path=tmp/* x20" --for agent:helper --hours 2 --reason "tidying up"

    Parameters
    ----------
    calls
        The operation, patterns for its arguments (`*` is any text), and how many: `files.delete path=tmp/* x20`.
    for_
        Whose calls: `agent:NAME`, `service:NAME` or `person:NAME`, not your own.
    reason
        Why. It stands in the log.
    hours
        For how long.
    look_back
        How many days of the record are looked through for calls that it would have been about.
    preview
        Only say what it would have been about.
    """
    desk.use(common)
    tenant, now_ms = desk.place.tenant, desk.now_ms()
    if not for_.startswith("person:"):
        desk.place.asking(for_)  # nobody waives a question about somebody that there is not
    async with desk.open(drift=False) as house:
        since_ms = now_ms - look_back * _DAY_MS
        past = await house.gate.waivers.matched(tenant, principal=for_, calls=calls, since_ms=since_ms)
        if preview:
            return Said(
                document={"would_have_matched": msgspec.to_builtins(past)},
                tell=lambda paper: _tell_past(paper, past, look_back),
            )
        if not reason:
            raise Malformed("usage", "`--reason` is missing", hint="say why; it stands in the log")
        until_ms = now_ms + hours * _HOUR_MS
        made = await house.gate.waivers.make(
            tenant, principal=for_, calls=calls, until_ms=until_ms, by=desk.place.person, reason=reason
        )
        longest_s = await house.policies.waivable_s(tenant, made.allowance.names)
    if longest_s < hours * 3_600:
        why = f"for {longest_s} s at most" if longest_s else "no question about these calls"
        desk.note(f"this waiver lifts nothing: the policy in force lets people waive {why}")

    def tell(paper: Paper) -> None:
        paper.line(Span("Waived", Tone.WAIT), f"  {made.allowance} for {made.principal}")
        _tell_past(paper, past, look_back)
        paper.pairs([*_rows(made, paper), ("undo", f"`assent waivers revoke {made.id[-8:]} --reason …`")])

    return Said(
        document={"waiver": msgspec.to_builtins(made), "would_have_matched": msgspec.to_builtins(past)}, tell=tell
    )


async def list_waivers(*, common: Common | None = None, desk: Own) -> Said:
    """List the waivers that lift a question now.

    Example: assent waivers list
    """
    desk.use(common)
    async with desk.open(drift=False) as house:
        found = await house.gate.waivers.standing(desk.place.tenant)
    return Said(document={"waivers": msgspec.to_builtins(found)}, tell=lambda paper: _tell(paper, found))


async def sign_waiver(id_: Id, /, *, reason: str, common: Common | None = None, desk: Own) -> Said:
    """Stand for a waiver too, where the rule asks for more than one person.

    Example: assent waivers sign 4c0f21aa --reason "agreed with ann"

    Parameters
    ----------
    id_
        The waiver, or the end of its id.
    reason
        Why. It stands in the log.
    """
    desk.use(common)
    async with desk.open(drift=False) as house:
        waiver = _pick(await house.gate.waivers.standing(desk.place.tenant), id_)
        made = await house.gate.waivers.sign(desk.place.tenant, waiver, by=desk.place.person, reason=reason)
    return _said("Signed", made)


async def revoke_waiver(id_: Id, /, *, reason: str, common: Common | None = None, desk: Own) -> Said:
    """Let a waiver lift nothing any more, from the next call on.

    Example: assent waivers revoke 4c0f21aa --reason "done"

    Parameters
    ----------
    id_
        The waiver, or the end of its id.
    reason
        Why. It stands in the log.
    """
    desk.use(common)
    async with desk.open(drift=False) as house:
        waiver = _pick(await house.gate.waivers.standing(desk.place.tenant), id_)
        made = await house.gate.waivers.revoke(desk.place.tenant, waiver, by=desk.place.person, reason=reason)
    return _said("Revoked", made)


async def stand_in(
    person: Annotated[str, Parameter(name="PERSON")] = "",
    /,
    *,
    days: int = 7,
    end: Annotated[bool, Parameter(negative="")] = False,
    reason: str = "",
    common: Common | None = None,
    desk: Own,
) -> Said:
    """Let somebody else answer reviews in your place for a while; without a name, list who stands in for whom.

    Example: assent stand-in person:bob --days 14 --reason "on leave"

    Parameters
    ----------
    person
        Who answers in your place, with the say that your roles give.
    days
        For how long.
    end
        Nobody answers in your place any more.
    reason
        Why. It stands in the log.
    """
    desk.use(common)
    tenant, me = desk.place.tenant, desk.place.person
    async with desk.open(drift=False) as house:
        if end:
            await house.reviews.stand_ins.end(tenant, of=me, reason=reason)
        elif person:
            until_ms = desk.now_ms() + days * _DAY_MS
            await house.reviews.stand_ins.name(tenant, of=me, by=person, until_ms=until_ms, reason=reason)
        found = await house.reviews.stand_ins.standing(tenant)
    return Said(document={"stand_ins": msgspec.to_builtins(found)}, tell=lambda paper: _tell_places(paper, found))


def _pick(standing: list[Waiver], id_: str) -> str:
    names = [one.id for one in standing if one.id.endswith(id_)]
    return names[0] if len(names) == 1 else id_


def _said(head: str, made: Waiver) -> Said:
    def tell(paper: Paper) -> None:
        paper.line(Span(head, Tone.GOOD), f"  {made.allowance} for {made.principal}")
        paper.pairs(_rows(made, paper))

    return Said(document={"waiver": msgspec.to_builtins(made)}, tell=tell)


def _rows(made: Waiver, paper: Paper) -> list[tuple[str, Part | list[Part]]]:
    used = f"{made.used} of {made.allowance.times}" if made.allowance.times else f"{made.used}"
    return [
        ("signed by", ", ".join(made.signers)),
        ("until", paper.when(made.until_ms)),
        ("used", used),
        ("waiver", Span(made.id, Tone.QUIET)),
    ]


def _tell_past(paper: Paper, past: Matched, days: int) -> None:
    paper.line(
        f"{past.calls} calls of the last {days} days would have matched; people were asked about {past.asked} of them, "
        f"approved {past.approved} and denied {past.denied}", indent=2,
    )  # fmt: skip


def _tell(paper: Paper, found: list[Waiver]) -> None:
    if not found:
        paper.line("No question is waived.")
    for one in found:
        paper.line(Span(str(one.allowance), Tone.WAIT), f" for {one.principal}: {one.reason}")
        paper.pairs(_rows(one, paper))


def _tell_places(paper: Paper, found: list[StandIn]) -> None:
    if not found:
        paper.line("Nobody stands in for anybody.")
        return
    paper.table([[one.by, "in the place of", one.of, f"until {paper.when(one.until_ms)}"] for one in found])
