"""What commands need: a desk to work at, and the running house behind it. The entry point supplies both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.paper import Paper

if TYPE_CHECKING:
    from assent.execution.attestations import ConfinementClass
    from assent.execution.outcomes import StreamEvent
    from assent.ledger.contracts import OperationContract
    from assent.operations.agents import Agents
    from assent.operations.backtests import BackTests
    from assent.operations.briefings import Briefings
    from assent.operations.budgets import Budgets
    from assent.operations.checkpoints import Checkpoints
    from assent.operations.connecting import Connecting
    from assent.operations.executions import Executions
    from assent.operations.gate import Gate
    from assent.operations.guests import Guests
    from assent.operations.halts import Halts
    from assent.operations.health import Finding
    from assent.operations.identity.callers import Caller
    from assent.operations.identity.signing_in import SigningIn
    from assent.operations.policies import Policies
    from assent.operations.policy_changes import PolicyChanges
    from assent.operations.recovery import Recovery
    from assent.operations.rehearsals import Rehearsals
    from assent.operations.reviews import Reviews
    from assent.operations.runs.host import Host
    from assent.operations.runs.runs import Runs
    from assent.operations.runs.sessions import Sessions
    from assent.operations.targets import Targets
    from assent.operations.timelines import Timelines
    from assent.operations.verification import Verification
    from assent.primitives.ids import TenantId
    from assent.surfaces.cli.options import Common


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a command has to say: `document` for programs, `tell` for people, and how it ended."""

    document: Any
    tell: Callable[[Paper], None]
    exit: int = Exit.DONE


class Place(Protocol):
    """Which installation this is, and who works at the desk."""

    @property
    def file(self) -> Path:
        """The settings file."""
        ...

    @property
    def tenant(self) -> TenantId:
        """Whose record is worked on."""
        ...

    @property
    def person(self) -> str:
        """Who works at the desk, as a principal."""
        ...

    @property
    def chat_with(self) -> str:
        """The agent that is talked to when nobody names one; empty: the only one there is."""
        ...

    @property
    def workspace(self) -> Path:
        """The folder agents work in."""
        ...

    @property
    def policy(self) -> Path:
        """The folder of policy files."""
        ...

    def asking(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The principal to ask as and its chain; `name` may be empty for the default."""
        ...


class House(Protocol):
    """A running node."""

    @property
    def gate(self) -> Gate:
        """Performs."""
        ...

    @property
    def reviews(self) -> Reviews:
        """Takes answers."""
        ...

    @property
    def recovery(self) -> Recovery:
        """Settles what is unknown."""
        ...

    @property
    def policies(self) -> Policies:
        """Decides by."""
        ...

    @property
    def policy_changes(self) -> PolicyChanges:
        """Asks for another policy."""
        ...

    @property
    def backtests(self) -> BackTests:
        """Decides again."""
        ...

    @property
    def timelines(self) -> Timelines:
        """Tells."""
        ...

    @property
    def budgets(self) -> Budgets:
        """Counts."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """Keeps heads of the log."""
        ...

    @property
    def targets(self) -> Targets:
        """Where orders can run."""
        ...

    @property
    def guests(self) -> Guests:
        """Other machines that carry orders."""
        ...

    @property
    def executions(self) -> Executions:
        """What runs now."""
        ...

    @property
    def runs(self) -> Runs:
        """Works of agents."""
        ...

    @property
    def agents(self) -> Agents:
        """Who is served by whom."""
        ...

    @property
    def host(self) -> Host:
        """Drives whatever can go on."""
        ...

    @property
    def briefings(self) -> Briefings:
        """What to know before answering."""
        ...

    @property
    def signing_in(self) -> SigningIn:
        """Who somebody is."""
        ...

    @property
    def halts(self) -> Halts:
        """Stops."""
        ...

    @property
    def sessions(self) -> Sessions:
        """Conversations."""
        ...


class PolicyText(Protocol):
    """The policy files, joined."""

    @property
    def text(self) -> str:
        """All of them."""
        ...

    @property
    def revision(self) -> str:
        """What names them in decisions."""
        ...

    def place(self, line: int) -> tuple[str, int]:
        """The file that holds `line`, and the line in it."""
        ...


class Founding(Protocol):
    """What `init` did to one path."""

    @property
    def path(self) -> Path:
        """What it is."""
        ...

    @property
    def made(self) -> bool:
        """Whether it was made now."""
        ...


class Desk(Protocol):
    """Where a command works. Whatever costs time is made when it is asked for."""

    json: bool

    def use(self, common: Common | None) -> None:
        """Take note of what every command takes."""
        ...

    @property
    def place(self) -> Place:
        """The settings. Raises: Malformed: there are none, or they have mistakes."""
        ...

    async def caller(self, house: House) -> Caller:
        """Who works here: whom the token in the environment shows, or the user of the system."""
        ...

    def open(self, *, drift: bool = True, credential: bool = False) -> AbstractAsyncContextManager[House]:
        """Open the node, and note what its owner should know; with `drift`, that the policy files are not in force.

        Raises: Unavailable: its database or key cannot be used."""
        ...

    def open_hub(self, tell: Callable[[Mapping[str, str]], None]) -> AbstractAsyncContextManager[str]:
        """Let guests in; gives the address. `tell` hears what happens.

        Raises: Unavailable: the database, the keys or the address cannot be used."""
        ...

    async def join_hub(self, home: Path, *, hub: str, token: str) -> str:
        """Use an invitation; the name that was given. Raises: Malformed, Refused, Unavailable."""
        ...

    async def serve_as_guest(
        self, home: Path, *, hub: str, least: ConfinementClass, tell: Callable[[Mapping[str, str]], None]
    ) -> None:
        """Carry orders for the hub that `home` is a member of, for ever. Raises: Malformed, Refused, Unavailable."""
        ...

    def contracts(self) -> Mapping[str, OperationContract]:
        """Every operation's contract, by name."""
        ...

    def connecting(self) -> Connecting:
        """What makes, admits, shows and classifies connectors."""
        ...

    def confirm(self, question: str) -> bool:
        """Ask whoever sits at the terminal. Raises: Refused: `confirmation_needed`: nobody sits there."""
        ...

    def rehearsals(self) -> Rehearsals:
        """Policy's answers without doing anything."""
        ...

    def policy_text(self) -> PolicyText:
        """The policy files. Raises: Malformed: they cannot be read."""
        ...

    def policy_signatures(self) -> Sequence[str]:
        """The signatures beside the policy files, of these files. Raises: Malformed: they cannot be read."""
        ...

    def sign_policy(self, key: Path, *, new: str) -> tuple[str, int]:
        """Sign the policy files with the key in a file, made now under the name `new` (empty: it is there). The public
        key, and how many signatures the files have now. Raises: Malformed, Refused, Unavailable."""
        ...

    def policy_tests(self) -> Sequence[tuple[str, str]]:
        """The policy test files: names and texts."""
        ...

    def artefact(self, digest: str) -> Path:
        """The file of a kept output. Raises NotFound: nothing with this digest is kept here."""
        ...

    def verification(self) -> Verification:
        """The verifier, on a database that nobody needs to have opened."""
        ...

    def examine(self, *, fresh: bool) -> AsyncIterator[Finding]:
        """Everything `doctor` looks at, one finding at a time."""
        ...

    def found(self, folder: Path) -> Sequence[Founding]:
        """Make a new installation in `folder`, and work there from now on."""
        ...

    def now_ms(self) -> int:
        """Wall time in milliseconds."""
        ...

    async def pause(self) -> None:
        """Wait a moment before looking again."""
        ...

    def say(self, tell: Callable[[Paper], None]) -> None:
        """Tell people something now, before the command's end. Nothing when the answer is JSON."""
        ...

    def note(self, *sentences: str) -> None:
        """Mention something beside the answer, on stderr."""
        ...

    def live(self, event: StreamEvent) -> None:
        """Show live output of what is running."""
        ...

    def live_end(self) -> bool:
        """Nothing more comes. Whether anything was shown."""
        ...

    def raw(self, data: bytes) -> None:
        """Write bytes to stdout as they are."""
        ...
