"""The entry point: a command is called, its answer told, its exit code returned. Here the desk is put together.

Commands hold no rules and name nothing concrete; what they need they ask of their desk (`ports.Desk`). This one reads
the settings and opens the database only when a command asks, so that `--help` and mistakes in words cost nothing.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from assent.bootstrap.environment import environment
from assent.bootstrap.system import SystemClock
from assent.primitives.errors import AssentError, Malformed, Refused, Unavailable
from assent.surfaces.cli.exits import Exit, of_error
from assent.surfaces.cli.paper import Paper
from assent.surfaces.cli.ports import Founding, House, PolicyText, Said
from assent.surfaces.cli.running import Ended, finish, of_bug, of_system, parse
from assent.surfaces.cli.terminal import Terminal

if TYPE_CHECKING:
    from assent.bootstrap.connector_folder import ConnectorFolder
    from assent.bootstrap.settings import Settings
    from assent.execution.attestations import ConfinementClass
    from assent.execution.outcomes import StreamEvent
    from assent.ledger.contracts import OperationContract
    from assent.operations.connecting import Connecting
    from assent.operations.health import Finding
    from assent.operations.identity.callers import Caller
    from assent.operations.rehearsals import Rehearsals
    from assent.operations.verification import Verification
    from assent.surfaces.cli.options import Common

DEBUG_VARIABLE = "ASSENT_DEBUG"
TOKEN_VARIABLE = "ASSENT_TOKEN"  # noqa: S105 (a name)
PAUSE_S = 0.2


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def run(tokens: Sequence[str]) -> int:
    """Run one command and return its exit code, whatever happens inside."""
    clock = SystemClock()
    terminal = Terminal(environment=environment(), now_ms=clock.now_ms)
    terminal.json = "--json" in tokens[: tokens.index("--") if "--" in tokens else len(tokens)]
    code = _run(tokens, terminal, clock)
    if terminal.fault:
        terminal.note(f"the answer could not be written: {terminal.fault}")
    return code or (Exit.FAILED if terminal.fault else Exit.DONE)


def _run(tokens: Sequence[str], terminal: Terminal, clock: SystemClock) -> int:
    try:
        return _called(tokens, terminal, clock)
    except AssentError as error:
        terminal.refuse(error)
        return of_error(error)
    except Ended as ended:
        terminal.refuse(Unavailable("interrupted", "ended early", hint="what was under way was cancelled and recorded"))
        return ended.exit
    except OSError as error:
        terminal.refuse(of_system(error))
    except Exception as error:  # noqa: BLE001 (the top of an entry point: a bug ends in a sentence)
        terminal.refuse(of_bug(error, variable=DEBUG_VARIABLE))
        if environment().get(DEBUG_VARIABLE):
            traceback.print_exc()
    return Exit.FAILED


def _called(tokens: Sequence[str], terminal: Terminal, clock: SystemClock) -> int:
    called = parse(tokens)
    desk = Counter(terminal, clock)
    desk.use(called.common)
    result = called.call(desk=desk) if called.wants_desk else called.call()
    if isinstance(result, Coroutine):
        result = finish(result)
    if isinstance(result, Said):
        terminal.answer(result)
        return result.exit
    return result if isinstance(result, int) else Exit.DONE


class Counter:
    """The desk of this process (`ports.Desk`)."""

    def __init__(self, terminal: Terminal, clock: SystemClock) -> None:
        self._terminal = terminal
        self._clock = clock
        self._folder: Path | None = None
        self._told_broken = False

    @property
    def json(self) -> bool:
        """Whether the answer is one JSON document."""
        return self._terminal.json

    def use(self, common: Common | None) -> None:
        """Take note of what every command takes."""
        if common is not None:
            self._terminal.json = common.json
            self._folder = common.folder or self._folder

    @cached_property
    def place(self) -> Settings:
        """The settings: found, read and judged once."""
        from assent.bootstrap.settings import find_settings, os_login, read_settings

        file = find_settings(Path.cwd(), folder=self._folder, environment=environment())
        return read_settings(file, login=os_login())

    async def caller(self, house: House) -> Caller:
        """Who works here: whom the token in the environment shows, or the user of the system."""
        from assent.operations.identity.callers import Caller

        token, place = environment().get(TOKEN_VARIABLE, ""), self.place
        if token:
            return await house.signing_in.by_token(place.tenant, token)
        return Caller(tenant=place.tenant, principal=place.person, shown_by="the user of the system", may_answer=True)

    @asynccontextmanager
    async def open(self, *, drift: bool = True, credential: bool = False) -> AsyncIterator[House]:
        """Open the node, and note what its owner should know. What does not look at a `credential` does nothing when
        there is one: it would act as somebody else."""
        from assent.bootstrap.node import open_node
        from assent.bootstrap.settings import blueprint

        if environment().get(TOKEN_VARIABLE) and not credential:
            raise Refused(
                "credential_unused", f"this command acts as the user of the system, and `{TOKEN_VARIABLE}` is set",
                hint=f"unset {TOKEN_VARIABLE}; `do`, `approve`, `deny`, `inbox` and `whoami` look at it",
            )  # fmt: skip
        self._note_broken()
        async with open_node(blueprint(self.place), clock=self._clock) as node:
            await self._note_unknown(node)
            if drift:
                await self._note_drift(node)
            yield node
            if node.anchors.fault:
                self.note(f"checkpoints are not kept: {node.anchors.fault}; run `assent doctor`")

    @cached_property
    def shelf(self) -> ConnectorFolder:
        """The admitted connectors."""
        from assent.bootstrap.connector_folder import ConnectorFolder

        return ConnectorFolder(self.place.connectors)

    @asynccontextmanager
    async def open_hub(self, tell: Callable[[Mapping[str, str]], None]) -> AsyncIterator[str]:
        """Let guests in."""
        from assent.bootstrap.hub import hub_of

        async with hub_of(self.place, clock=self._clock, tell=tell) as address:
            yield address

    async def join_hub(self, home: Path, *, hub: str, token: str) -> str:
        """Use an invitation."""
        from assent.bootstrap.hub import join_as_guest

        return await join_as_guest(home, hub=hub, token=token)

    async def serve_as_guest(
        self, home: Path, *, hub: str, least: ConfinementClass, tell: Callable[[Mapping[str, str]], None]
    ) -> None:
        """Carry orders for another machine."""
        from assent.bootstrap.hub import guest_of

        await guest_of(home, hub=hub, least=least, clock=self._clock, tell=tell)

    def contracts(self) -> Mapping[str, OperationContract]:
        """Every operation's contract, by name; outside an installation those that come with Assent."""
        from assent.bootstrap.offering import offering
        from assent.bootstrap.policy_folder import contracts

        try:
            operations = offering(self.place.models, self.shelf, search=self.place.search)
        except AssentError:
            return contracts()  # there are no settings, or none that can be read: whoever needs them will say so
        self._note_broken()
        return contracts(operations)

    def rehearsals(self) -> Rehearsals:
        """Policy's answers without doing anything."""
        from assent.bootstrap.offering import offering
        from assent.bootstrap.policy_folder import rehearsals

        self._note_broken()
        return rehearsals(self.place, offering(self.place.models, self.shelf, search=self.place.search))

    def connecting(self) -> Connecting:
        """What makes and keeps connectors."""
        from assent.bootstrap.connector_folder import BUILTIN_NAMES
        from assent.operations.connecting import Connecting

        return Connecting(shelf=self.shelf, by=self.place.person, builtin=BUILTIN_NAMES, now_ms=self._clock.now_ms)

    def confirm(self, question: str) -> bool:
        """Ask whoever sits at the terminal."""
        return self._terminal.confirm(question)

    def policy_text(self) -> PolicyText:
        """The policy files, joined."""
        from assent.bootstrap.policy_folder import read_policy

        return read_policy(self.place.policy)

    def policy_signatures(self) -> Sequence[str]:
        """The signatures beside the policy files."""
        from assent.bootstrap.policy_signing import read_signatures

        return read_signatures(self.place.policy, self.policy_text().revision)

    def sign_policy(self, key: Path, *, new: str) -> tuple[str, int]:
        """Sign the policy files."""
        from assent.bootstrap.policy_folder import read_policy
        from assent.bootstrap.policy_signing import add_signature, make_signer, must_lie_apart, read_signer
        from assent.bootstrap.system import SystemEntropy

        must_lie_apart(key, self.place.workspace)
        revision = read_policy(self.place.policy).revision
        signer = make_signer(key, new, entropy=SystemEntropy()) if new else read_signer(key)
        return signer.key.encode(), add_signature(self.place.policy, revision, signer)

    def policy_tests(self) -> Sequence[tuple[str, str]]:
        """The policy test files: names and texts."""
        from assent.bootstrap.policy_folder import read_tests

        return read_tests(self.place.policy)

    def artefact(self, digest: str) -> Path:
        """The file of a kept output."""
        from assent.bootstrap.artefacts import kept_artefact

        return kept_artefact(self.place.data, digest)

    def verification(self) -> Verification:
        """The verifier."""
        from assent.bootstrap.inspection import verification

        return verification(self.place, clock=self._clock)

    async def examine(self, *, fresh: bool) -> AsyncIterator[Finding]:
        """Everything `doctor` looks at."""
        from assent.bootstrap.inspection import examine

        try:
            settings: Settings | AssentError = self.place
        except AssentError as error:
            settings = error
        async for finding in examine(settings, clock=self._clock, fresh=fresh):
            yield finding

    def found(self, folder: Path) -> Sequence[Founding]:
        """Make a new installation in `folder`, and work there from now on."""
        from assent.bootstrap.founding import found

        made = found(folder)
        self._folder = folder
        return made

    def now_ms(self) -> int:
        """Wall time in milliseconds."""
        return self._clock.now_ms()

    async def pause(self) -> None:
        """Wait a moment before looking again."""
        await asyncio.sleep(PAUSE_S)

    def say(self, tell: Callable[[Paper], None]) -> None:
        """Tell people something before the end."""
        self._terminal.say(tell)

    def note(self, *sentences: str) -> None:
        """Mention something on stderr."""
        self._terminal.note(*sentences)

    def live(self, event: StreamEvent) -> None:
        """Show live output."""
        self._terminal.live(event.stream, event.data)

    def live_end(self) -> bool:
        """Nothing more comes. Whether anything was shown."""
        return self._terminal.live_end()

    def raw(self, data: bytes) -> None:
        """Write bytes to stdout as they are."""
        self._terminal.raw(data)

    def _note_broken(self) -> None:
        """Say once which connectors cannot be used."""
        if not self._told_broken:
            self._told_broken = True
            for one in self.shelf.broken():
                self.note(f"the connector `{one.name}` is not offered: {one.file}, {one.message}")

    async def _note_unknown(self, node: House) -> None:
        unknown = await node.timelines.unknown(self.place.tenant)
        if unknown:
            some = f"`{unknown[-1].id[-8:]}`" + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else "")
            self.note(f"the outcome of {some} is unknown; run `assent recover`")

    async def _note_drift(self, node: House) -> None:
        active = await node.policies.active_revision(self.place.tenant)
        try:
            written = self.policy_text().revision
        except Malformed:
            return  # files nobody can read change nothing; `assent policy check` says what is wrong
        if active is None or active[0] != written:
            word = "propose" if self.place.policy_by_review else "activate"
            self.note(f"the policy files are not what is in force; run `assent policy {word}`")
