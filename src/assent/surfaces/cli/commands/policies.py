"""`assent policy …`: check, test, activate, show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from assent.primitives.errors import Malformed, NotFound, Refused
from assent.surfaces.cli.commands.matrices import NAME, is_stale
from assent.surfaces.cli.exits import OF_STATE, Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Desk, PolicyText, Said
from assent.surfaces.cli.telling.answers import tell_answer
from assent.surfaces.cli.telling.calls import short
from assent.surfaces.cli.telling.replays import tell_comparison


async def check(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Check the policy files: everything that is wrong or doubtful, with file and line.

    Example: assent policy check
    """
    desk.use(common)
    return _checked(desk)[0]


async def run_tests(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Run the policy tests: every case of every *_tests.toml beside the policy files.

    Example: assent policy test
    """
    desk.use(common)
    text, bench = desk.policy_text(), desk.rehearsals()
    files = desk.policy_tests()
    if not files:
        raise Malformed(
            "tests_missing", f"there are no policy tests (`*_tests.toml`) in `{desk.place.policy}`",
            hint="`assent init` in a new folder shows how they look",
        )  # fmt: skip
    results = [(name, result) for name, cases in files for result in bench.test(text.text, cases)]
    failed = [(name, result) for name, result in results if result.fault]

    def tell(paper: Paper) -> None:
        for name, result in failed:
            paper.line(Span("fail", Tone.BAD), f"  {name}: {result.case.name}")
            paper.line(result.fault, indent=6)
        told = f"{len(results) - len(failed)} of {len(results)} cases pass"
        paper.line(Span(told, Tone.BAD if failed else Tone.GOOD))

    document = {
        "ok": not failed,
        "cases": [
            {"file": name, "name": r.case.name, "ok": not r.fault, "fault": r.fault, "verdict": r.decision.verdict}
            for name, r in results
        ],
    }
    return Said(document=document, tell=tell, exit=Exit.FAILED if failed else Exit.DONE)


async def sign(
    key: Path,
    /,
    *,
    new: str = "",
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Sign the policy files as they are, in `policy.sig` beside them. Where the settings name signers (`[policy]`),
    nothing is put in force that they have not signed.

    Example: assent policy sign ~/ann.key --new ann

    Parameters
    ----------
    key
        The file of the signing key, which belongs where no agent and nobody else can read it.
    new
        Make the key first, under this name.
    """
    desk.use(common)
    public, count = desk.sign_policy(key, new=new)
    text, folder = desk.policy_text(), desk.place.policy

    def tell(paper: Paper) -> None:
        counted = "1 signature" if count == 1 else f"{count} signatures"
        paper.line(Span(f"{folder.name}/ is signed", Tone.GOOD), f", by {counted}")
        paper.pairs([("public key", public), ("revision", Span(text.revision, Tone.QUIET))])

    return Said(document={"revision": text.revision, "key": public, "signatures": count}, tell=tell)


async def activate(
    *,
    tighter: Annotated[bool, Parameter(negative="")] = False,
    sign_key: Path | None = None,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Put the policy files in force, if they pass every check. Until then the active revision decides.

    Calls are searched for that may happen more easily from then on (`assent policy compare`), and are shown.

    Example: assent policy activate

    Parameters
    ----------
    tighter
        Only when no such call is found; otherwise nothing is activated.
    sign_key
        Sign the files first, with the key in this file, as `assent policy sign` does.
    """
    desk.use(common)
    said, ok = _checked(desk)
    if not ok:
        return said
    if sign_key is not None:
        desk.sign_policy(sign_key, new="")
    text, place = desk.policy_text(), desk.place
    async with desk.open(drift=False) as house:
        now = await house.policies.active_revision(place.tenant)
        decides = now is not None and not await house.policies.lacking(place.tenant)
        changes = decides and now is not None and now[0] != text.revision
        found = await house.backtests.compare(place.tenant, text.text) if changes else None
        if tighter and found is not None and found.loosens:
            raise Refused(
                "policy_loosens", f"nothing was activated: {found.examples[0].how} ({found.examples[0].call})",
                hint="`assent policy compare` shows more",
            )  # fmt: skip
        done = await house.policies.activate(
            place.tenant, text.text, by=place.person, signatures=desk.policy_signatures()
        )
    if is_stale(desk):
        desk.note(f"`{place.policy.name}/{NAME}` is not what the policy files decide; run `assent policy matrix`")

    def tell(paper: Paper) -> None:
        what = "is in force" if done.changed else "was in force already"
        paper.line(Span(f"Policy revision {done.number} {what}", Tone.GOOD), f", {len(done.report.rules)} rules")
        paper.pairs([("revision", Span(done.revision, Tone.QUIET))])
        if found is not None and found.loosens:
            tell_comparison(paper, found)

    document = {"number": done.number, "revision": done.revision, "changed": done.changed}
    document |= {"comparison": msgspec.to_builtins(found)} if found is not None else {}
    return Said(document=document, tell=tell)


async def propose(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Ask for the policy files to be put in force, if they pass every check. The policy in force says whether you may
    and whose yes it takes; `assent review ID` shows them what would change.

    Where the settings say so (`by_review` in `[policy]`), this is the only way to replace a policy.

    Example: assent policy propose
    """
    desk.use(common)
    said, ok = _checked(desk)
    if not ok:
        return said
    text = desk.policy_text()
    async with desk.open(drift=False, credential=True) as house:
        caller = await desk.caller(house)
        answer = await house.policy_changes.propose(caller, text.text, signatures=desk.policy_signatures())

    def tell(paper: Paper) -> None:
        tell_answer(paper, answer, call=f"policy.activate {text.revision[:19]}…", streamed=False)
        if answer.review is not None:
            paper.pairs([("look", f"`assent review {short(answer.review.id)}` shows what would change")])

    return Said(document=msgspec.to_builtins(answer), tell=tell, exit=OF_STATE[answer.effect.state])


async def show(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Show the policy that is in force, as it was activated.

    Example: assent policy show
    """
    desk.use(common)
    tenant = desk.place.tenant
    async with desk.open() as house:
        active = await house.policies.active_revision(tenant)
        told = await house.policies.told(tenant, active[0]) if active else None
    if active is None or told is None:
        raise NotFound("policy_missing", "no policy is active", hint="run `assent policy activate`")

    def tell(paper: Paper) -> None:
        paper.line(
            Span(f"Policy revision {active[1]}", Tone.STRONG),
            f", {len(told.rules)} rules  ",
            Span(active[0], Tone.QUIET),
        )
        paper.gap()
        paper.block(told.text, indent=0, lines_max=len(told.text))

    return Said(document={"number": active[1], "revision": active[0], "text": told.text}, tell=tell)


def _checked(desk: Desk) -> tuple[Said, bool]:
    """What checking the files gives, and whether they may be activated."""
    text = desk.policy_text()
    report = desk.rehearsals().check(text.text)

    def tell(paper: Paper) -> None:
        for word, tone, found in (("fault", Tone.BAD, report.faults), ("warning", Tone.WAIT, report.warnings)):
            for fault in found:
                rule = f"rule `{fault.rule}`: " if fault.rule else ""
                paper.line(Span(word, tone), f"  {at_place(text, fault.line)}: {rule}{fault.message}")
        told = (
            f"{len(report.rules)} rules are in order"
            if not report.faults
            else f"{len(report.faults)} faults; nothing was activated"
        )
        paper.line(Span(told, Tone.BAD if report.faults else Tone.GOOD))

    document = {
        "ok": not report.faults,
        "revision": text.revision,
        "faults": _placed(report.faults, text),
        "warnings": _placed(report.warnings, text),
        "rules": [msgspec.to_builtins(rule) for rule in report.rules],
    }
    ok = not report.faults
    return Said(document=document, tell=tell, exit=Exit.DONE if ok else Exit.FAILED), ok


def _placed(faults: Iterable[Any], text: PolicyText) -> Sequence[dict[str, Any]]:
    placed = []
    for fault in faults:
        file, line = text.place(fault.line)
        placed.append(msgspec.to_builtins(fault) | {"file": file, "line": line})
    return placed


def at_place(text: PolicyText, line: int) -> str:
    """Where a rule stands, for people."""
    file, inside = text.place(line)
    return f"{file}:{inside}" if file else f"line {inside}"
