"""The scene: who plays, where, and what has happened so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from assent.operations.wishes import TYPED, Wish
from assent.surfaces.cli.paper import Paper, Span, Tone

if TYPE_CHECKING:
    from assent.primitives.ids import TenantId
    from assent.surfaces.cli.ports import Desk
    from assent.surfaces.demo.questions import Person
    from assent.surfaces.demo.site import Site

RUN = "release"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step that held its promises. `number` is the one it is told under, `name` is stable, `outcome` one word,
    `effect` the id of the effect it was about, if one."""

    number: int
    name: str
    outcome: str
    effect: str = ""
    facts: Mapping[str, Any] = {}


class Scene:
    """The stage of one story. `desk` works in `folder`; `asked` is the person whose consent is needed, or who
    stands in for them."""

    def __init__(self, *, desk: Desk, folder: Path, site: Site, paper: Paper, asked: Person) -> None:
        self.desk = desk
        self.folder = folder
        self.site = site
        self.paper = paper
        self.asked = asked
        self.agent, self.on_behalf_of = desk.place.asking("")
        self.number = 0
        self.steps: list[Step] = []
        self.notices: list[str] = []

    @property
    def tenant(self) -> TenantId:
        """Where everything is recorded."""
        return self.desk.place.tenant

    @property
    def person(self) -> str:
        """In whose name it is done, and who is asked."""
        return self.desk.place.person

    def wish(self, operation: str, arguments: Mapping[str, Any], *, key: str = "") -> Wish:
        """What the helper wishes, on behalf of the person."""
        return Wish(
            tenant=self.tenant, operation=operation, arguments=arguments, principal=self.agent,
            on_behalf_of=self.on_behalf_of, run=RUN, key=key, provenance=TYPED,
        )  # fmt: skip

    def begin(self, title: str) -> None:
        """Announce the next step."""
        self.number += 1
        self.paper.gap()
        self.paper.line(Span(f"{self.number}  {title}", Tone.STRONG))

    def end(self, name: str, outcome: str, *, effect: str = "", **facts: Any) -> None:  # noqa: ANN401
        """Note that the step held its promises, with its facts."""
        self.steps.append(Step(number=self.number, name=name, outcome=outcome, effect=effect, facts=facts))

    def notice(self, sentence: str) -> None:
        """Say what this machine or this person made different from the whole story."""
        self.notices.append(sentence)
        self.paper.line(Span("notice", Tone.WAIT), f"  {sentence}", indent=3)
