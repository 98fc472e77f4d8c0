"""`assent tokens …` and `assent whoami`: credentials for programs, and whom one shows."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.operations.identity.tokens import Token
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.ports import Desk, Said

Own = Annotated[Desk, Parameter(parse=False)]
_DAY_MS = 86_400_000


async def create_token(
    label: Annotated[str, Parameter(name="LABEL")],
    /,
    *,
    as_: Annotated[str, Parameter(name="--as")] = "",
    scope: tuple[str, ...] = (),
    days: int = 30,
    may_answer: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
    desk: Own,
) -> Said:
    """Make a token with which a program asks in your name, or in that of an agent or a service on your behalf. Its text
    is shown this once.

    Example: assent tokens create "the nightly build" --as service:build --scope "files.read path=src/*" --days 7

    Parameters
    ----------
    label
        What it is for, in words.
    as_
        Whom it shows: you (else), or `agent:NAME` or `service:NAME`.
    scope
        The calls it is good for, such as `files.read path=src/*`; may be given several times (else: all you may ask).
    days
        For how long.
    may_answer
        Reviews may be answered with it, in your name.
    """
    desk.use(common)
    place = desk.place
    principal, _ = place.asking(as_ or place.person)
    async with desk.open(drift=False) as house:
        made = await house.signing_in.tokens.make(
            place.tenant, by=place.person, principal=principal, label=label, scope=scope,
            until_ms=desk.now_ms() + days * _DAY_MS, may_answer=may_answer,
        )  # fmt: skip

    def tell(paper: Paper) -> None:
        paper.line(Span("Made", Tone.GOOD), f"  {made.token.label}: it shows {made.token.principal}")
        paper.line(made.text, indent=2)
        paper.line("This is the only time it is shown. Give it as ASSENT_TOKEN, or keep it where secrets are kept.")
        paper.pairs(_rows(paper, made.token))

    return Said(document={"token": msgspec.to_builtins(made.token), "text": made.text}, tell=tell)


async def list_tokens(*, common: Common | None = None, desk: Own) -> Said:
    """List the tokens: whom they show, for what, until when.

    Example: assent tokens list
    """
    desk.use(common)
    async with desk.open(drift=False) as house:
        found = await house.signing_in.tokens.all(desk.place.tenant)
    return Said(document={"tokens": msgspec.to_builtins(found)}, tell=lambda paper: _tell(paper, found, desk.now_ms()))


async def revoke_token(
    id_: Annotated[str, Parameter(name="ID")],
    /,
    *,
    reason: str,
    common: Common | None = None,
    desk: Own,
) -> Said:
    """Let a token show nobody any more, from the next call on.

    Example: assent tokens revoke 4c0f21aa --reason "it was in a log"

    Parameters
    ----------
    id_
        The token's id, or the end of it; never its text.
    reason
        Why. It stands in the log.
    """
    desk.use(common)
    tenant = desk.place.tenant
    async with desk.open(drift=False) as house:
        names = [one.id for one in await house.signing_in.tokens.all(tenant) if one.id.endswith(id_)]
        token = names[0] if len(names) == 1 else id_
        made = await house.signing_in.tokens.revoke(tenant, token, by=desk.place.person, reason=reason)
    return Said(
        document={"token": msgspec.to_builtins(made)},
        tell=lambda paper: paper.line(Span("Revoked", Tone.GOOD), f"  {made.label} ({made.id})"),
    )


async def whoami(*, common: Common | None = None, desk: Own) -> Said:
    """Say who you are here: the user of the system, or whom ASSENT_TOKEN shows.

    Example: assent whoami
    """
    desk.use(common)
    async with desk.open(drift=False, credential=True) as house:
        caller = await desk.caller(house)

    def tell(paper: Paper) -> None:
        paper.line(Span(" for ".join([caller.principal, *caller.on_behalf_of]), Tone.STRONG))
        paper.pairs(
            [
                ("shown by", caller.shown_by),
                ("good for", ", ".join(str(one) for one in caller.scope)),
                ("reviews", "may be answered" if caller.may_answer else "are not answered with this"),
            ]
        )

    return Said(document=msgspec.to_builtins(caller), tell=tell)


def _rows(paper: Paper, token: Token) -> list[tuple[str, Part | list[Part]]]:
    return [
        ("for", ", ".join(token.on_behalf_of)),
        ("good for", ", ".join(token.scope) or "whatever it may ask"),
        ("until", paper.when(token.until_ms)),
        ("token", Span(token.id, Tone.QUIET)),
    ]


def _tell(paper: Paper, found: list[Token], now_ms: int) -> None:
    if not found:
        paper.line("There are no tokens.")
    for one in found:
        over = "revoked" if one.state == "revoked" else "expired" if one.until_ms <= now_ms else ""
        paper.line(Span(one.label, Tone.STRONG), f"  {one.principal}", Span(f"  {over}" if over else "", Tone.BAD))
        paper.pairs(_rows(paper, one))
