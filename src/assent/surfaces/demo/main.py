"""`assent demo`: the demonstration is set up, played, told and cleared away. What it leaves is its folder."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from assent.primitives.errors import AssentError
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Desk, Said
from assent.surfaces.demo.grounds import break_ground, furnish
from assent.surfaces.demo.promises import PromiseBroken
from assent.surfaces.demo.questions import Nobody, Person, Terminal
from assent.surfaces.demo.scene import RUN, Scene
from assent.surfaces.demo.site import open_site
from assent.surfaces.demo.story import play

COLUMNS = 80


async def demo(
    *,
    yes: Annotated[bool, Parameter(negative="")] = False,
    folder: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Walk through governed actions on real files, real processes and a real server on this machine.

    A release helper reads, tests, writes, publishes, and wants more than it may; an agent answers letters and is fooled
    by one of them. Every step checks what it tells. The folder it plays in stays.

    Example: assent demo --yes

    Parameters
    ----------
    yes
        Approve without asking, which is also what happens where there is no terminal.
    folder
        A new or empty folder to play in (else: assent-demo-1 here, or the next that is free).
    json
        Print one JSON document and nothing else on stdout.
    """
    desk.use(Common(json=json))
    started_ms = desk.now_ms()
    place = break_ground(folder, start=Path.cwd())
    async with open_site() as site:
        furnish(place, host=site.host)
        desk.found(place)
        paper = _paper(desk)
        asked = _person(desk, paper, yes=yes or json)
        scene = Scene(desk=desk, folder=place, site=site, paper=paper, asked=asked)
        _open(scene)
        failure = await _play(scene)
    return _said(scene, failure, spent_ms=desk.now_ms() - started_ms)


async def _play(scene: Scene) -> AssentError | None:
    """Play the story; what ended it early, if something did."""
    try:
        await play(scene)
    except AssentError as error:
        return error
    return None


def _paper(desk: Desk) -> Paper:
    """The paper that the desk tells people things on; one that nobody reads when the answer is JSON."""
    papers: list[Paper] = []
    desk.say(papers.append)
    return papers[0] if papers else Paper(lambda _: None, colour=False, columns=COLUMNS, now_ms=desk.now_ms())


def _person(desk: Desk, paper: Paper, *, yes: bool) -> Person:
    if yes or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return Nobody(paper=paper)
    return Terminal(sys.stdin.fileno(), say=lambda text: desk.raw(text.encode()))


def _open(scene: Scene) -> None:
    paper = scene.paper
    paper.line(
        "A true story: real files, real processes, a real server on this machine. Where a model speaks, it is a script."
    )
    paper.pairs(
        [
            ("helper", f"{scene.agent} for {scene.person}"),
            ("server", f"{scene.site.url('/')} (process {scene.site.pid})"),
            ("folder", str(scene.folder)),
        ]
    )


def _said(scene: Scene, failure: AssentError | None, *, spent_ms: int) -> Said:
    return Said(
        document=_document(scene, failure, spent_ms=spent_ms),
        tell=lambda paper: _close(paper, scene, failure, spent_ms=spent_ms),
        exit=Exit.FAILED if failure else Exit.DONE,
    )


def _document(scene: Scene, failure: AssentError | None, *, spent_ms: int) -> dict[str, Any]:
    found = None
    if failure is not None:
        found = {"step": scene.number, "code": failure.code, "message": str(failure)}
    if isinstance(failure, PromiseBroken):
        found = {**(found or {}), "expected": failure.promise, "found": failure.found}
    return {
        "ok": failure is None,
        "folder": str(scene.folder),
        "principal": scene.agent,
        "on_behalf_of": list(scene.on_behalf_of),
        "approver": scene.person,
        "server": scene.site.host,
        "run": RUN,
        "duration_ms": spent_ms,
        "steps": [msgspec.to_builtins(step) for step in scene.steps],
        "notices": scene.notices,
        "failure": found,
        "try": _to_try(scene),
    }


def _close(paper: Paper, scene: Scene, failure: AssentError | None, *, spent_ms: int) -> None:
    """How it ended, and what can be looked at now."""
    paper.gap()
    if failure is None:
        held = "Everything told here was checked as it happened"
        paper.line(Span(held, Tone.GOOD), f", in {spent_ms / 1000:.1f} s. Look for yourself:")
    else:
        paper.line(Span(f"Step {scene.number} did not hold.", Tone.BAD), f" {failure}")
        paper.line("Look at what is there:")
    for command in _to_try(scene):
        paper.line(command, indent=2)


def _to_try(scene: Scene) -> list[str]:
    """Three commands for the folder that was left; the first one enters it."""
    killed = next((step.effect for step in scene.steps if step.name == "crash"), "")
    assent = _assent()
    return [
        f"cd {shlex.quote(str(scene.folder))}",
        f"{assent} timeline {RUN}",
        f"{assent} explain {killed}" if killed else f"{assent} inbox",
        f"{assent} verify",
    ]


def _assent() -> str:
    """How this `assent` is called from another folder: by its path where its name alone would not find it."""
    installed, found = Path(sys.executable).with_name("assent"), shutil.which("assent")
    if not installed.exists() or (found and Path(found).resolve() == installed.resolve()):
        return "assent"
    return shlex.quote(str(installed))
