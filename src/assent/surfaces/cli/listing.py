"""Which commands there are, and where each is found when it is called for. None is imported before."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import assent
from assent.primitives.errors import Malformed
from assent.surfaces.cli.exits import MEANINGS
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Said

if TYPE_CHECKING:
    from cyclopts import App

_HERE = "assent.surfaces.cli.commands"


class Command(NamedTuple):
    """One command: its name (two words in a family such as `policy`), where its function is, and what it does."""

    name: str
    where: str
    about: str


GROUPS: dict[str, tuple[Command, ...]] = {
    "Start": (
        Command("init", f"{_HERE}.start:init", "make a new installation: settings, starter policy, workspace"),
        Command("demo", "assent.surfaces.demo.main:demo", "walk through governed actions on real files and processes"),
    ),
    "Act": (
        Command("do", f"{_HERE}.perform:do", "perform one operation: decided, recorded, confined"),
        Command("run-in", f"{_HERE}.places:run_in", "run one program on a target you name, and watch it"),
        Command("terminal", f"{_HERE}.terminals:terminal", "work in a confined, recorded terminal with one program"),
        Command("operations", f"{_HERE}.perform:operations", "list the operations that can be performed"),
    ),
    "Agents": (
        Command("chat", f"{_HERE}.talking:chat", "talk to an agent"),
        Command("agents", f"{_HERE}.agents:agents", "list the agents that can be talked to"),
        Command("work", f"{_HERE}.working:work", "carry on whatever runs can go on, as long as this process lives"),
        Command("skills", f"{_HERE}.skills:skills", "list the skills that agents are told of"),
        Command("sessions list", f"{_HERE}.agents:list_sessions", "list the conversations"),
        Command("sessions show", f"{_HERE}.agents:show_session", "show what a conversation holds"),
        Command("sessions reset", f"{_HERE}.agents:reset_session", "begin a conversation afresh"),
        Command("sessions fork", f"{_HERE}.agents:fork_session", "begin a conversation with what another holds"),
        Command("runs start", f"{_HERE}.working:start_run", "give an agent something to do, and leave it to `work`"),
        Command("runs tell", f"{_HERE}.working:answer_run", "answer what a run asked, or say something to it"),
        Command("runs list", f"{_HERE}.agents:list_runs", "list the runs of agents"),
        Command("runs show", f"{_HERE}.agents:show_run", "show what was said and done in a run"),
        Command("runs resume", f"{_HERE}.agents:resume_run", "carry a run on from its record"),
        Command("runs pause", f"{_HERE}.agents:pause_run", "stop a run for a while"),
        Command("runs cancel", f"{_HERE}.agents:cancel_run", "end a run for good"),
        Command("runs fork", f"{_HERE}.agents:fork_run", "begin a conversation with what was said in a run"),
        Command("runs replay", f"{_HERE}.agents:replay_run", "tell a run again from the record, without a model"),
    ),
    "Answer": (
        Command("inbox", f"{_HERE}.people:inbox", "show what waits for a person"),
        Command("approve", f"{_HERE}.people:approve", "approve a review, and carry the call out"),
        Command("deny", f"{_HERE}.people:deny", "deny a review"),
        Command("review", f"{_HERE}.people:show_review", "show one review whole, with what it would change"),
        Command("escalate", f"{_HERE}.people:escalate", "put a review before those it goes to when nobody answers"),
        Command("stand-in", f"{_HERE}.waiving:stand_in", "let somebody else answer in your place for a while"),
        Command("waive", f"{_HERE}.waiving:waive", "answer yes beforehand, for calls of a kind, for a while"),
        Command("waivers list", f"{_HERE}.waiving:list_waivers", "list the waivers that lift a question now"),
        Command("waivers sign", f"{_HERE}.waiving:sign_waiver", "stand for a waiver that somebody else made"),
        Command("waivers revoke", f"{_HERE}.waiving:revoke_waiver", "let a waiver lift nothing any more"),
        Command("dismiss", f"{_HERE}.budgets:dismiss", "say that you have seen what a budget stopped"),
    ),
    "Identity": (
        Command("whoami", f"{_HERE}.identities:whoami", "say who you are here, and by what that is shown"),
        Command("tokens create", f"{_HERE}.identities:create_token", "make a token for a program"),
        Command("tokens list", f"{_HERE}.identities:list_tokens", "list the tokens: whom they show, for what"),
        Command("tokens revoke", f"{_HERE}.identities:revoke_token", "let a token show nobody any more"),
    ),
    "Stop": (
        Command("halt", f"{_HERE}.halting:halt", "stop an agent, a connector or everything at once"),
        Command("lift", f"{_HERE}.halting:lift", "let go on what was halted"),
        Command("halts", f"{_HERE}.halting:halts", "list what is halted: by whom, since when, why"),
    ),
    "Look": (
        Command("timeline", f"{_HERE}.records:timeline", "tell what happened: lately, in a run, to an effect"),
        Command("explain", f"{_HERE}.records:explain", "explain one effect: who, which rules, where, what came back"),
        Command("budgets", f"{_HERE}.budgets:budgets", "list budgets: what is used and held of every limit"),
        Command("replay", f"{_HERE}.terminals:replay", "play the recording of a terminal, or print it"),
        Command("lanes", f"{_HERE}.places:lanes", "show the lanes: what carries which kind of order, and can be told"),
        Command("targets", f"{_HERE}.places:targets", "show where orders can run, with which confinement, and why"),
        Command("verify", f"{_HERE}.records:verify", "verify that the record is whole"),
        Command("checkpoint", f"{_HERE}.records:checkpoint", "sign the record as it is now, to be kept elsewhere"),
    ),
    "Mend": (
        Command("doctor", f"{_HERE}.upkeep:doctor", "look at everything this needs, and say how to mend it"),
        Command("recover", f"{_HERE}.upkeep:recover", "look at effects whose outcome is unknown"),
        Command("attest", f"{_HERE}.upkeep:attest", "settle an unknown effect on your word"),
    ),
    "Connect": (
        Command("connect openapi", f"{_HERE}.connect:openapi", "make a connector of an OpenAPI description"),
        Command("connect graphql", f"{_HERE}.connect:graphql", "make a connector of a GraphQL schema"),
        Command("connect mcp", f"{_HERE}.connect:mcp", "make a connector of an MCP server's tools"),
        Command("connect cli", f"{_HERE}.connect:command_line", "make a connector of a program that you describe"),
        Command("connect list", f"{_HERE}.connect:shelf", "list the connectors that were admitted"),
        Command("connect show", f"{_HERE}.connect:show", "show one connector, and rules for it"),
        Command("connect classify", f"{_HERE}.connect:classify", "say what an operation does to the world"),
        Command("connect remove", f"{_HERE}.connect:remove", "remove a connector"),
    ),
    "Other machines": (
        Command("node invite", f"{_HERE}.nodes:invite", "invite another machine to carry orders"),
        Command("node list", f"{_HERE}.nodes:list_guests", "list the machines that were invited or have joined"),
        Command("node remove", f"{_HERE}.nodes:remove", "turn a machine out"),
        Command("node serve", f"{_HERE}.nodes:serve", "let guests in and hand them their orders"),
        Command("node join", f"{_HERE}.nodes:join", "carry orders for another machine"),
    ),
    "Govern": (
        Command("policy check", f"{_HERE}.policies:check", "check the policy files"),
        Command("policy test", f"{_HERE}.policies:run_tests", "run the policy tests"),
        Command("policy simulate", f"{_HERE}.simulating:simulate", "decide one call as if it were made"),
        Command("policy matrix", f"{_HERE}.matrices:matrix", "write down what the policy files decide, as a table"),
        Command("policy backtest", f"{_HERE}.replays:backtest", "decide recorded calls again by the policy files"),
        Command(
            "policy coverage", f"{_HERE}.replays:coverage", "say which rules recorded calls met, and which none did"
        ),
        Command(
            "policy compare", f"{_HERE}.replays:compare", "search for calls the policy files let happen more easily"
        ),
        Command("policy sign", f"{_HERE}.policies:sign", "sign the policy files"),
        Command("policy propose", f"{_HERE}.policies:propose", "ask for the policy files to be put in force"),
        Command("policy activate", f"{_HERE}.policies:activate", "put the policy files in force"),
        Command("policy show", f"{_HERE}.policies:show", "show the policy in force"),
    ),
}
COMMANDS = tuple(command for group in GROUPS.values() for command in group)
# First words that say nothing alone.
FAMILIES = frozenset(command.name.partition(" ")[0] for command in COMMANDS if " " in command.name)
# Commands that read their own words, because an operation's contract says what they mean.
WORDED = ("do", "policy simulate")


def find(tokens: Sequence[str]) -> Command | None:
    """The command that the first words name, or None: help, version, or half a name.

    Raises:
        Malformed: `command_unknown`.
    """
    words = list(tokens[:2])
    if not words or words[0].startswith("-"):
        return None
    if words[0] in FAMILIES and (len(words) < 2 or words[1].startswith("-")):
        return None
    name = " ".join(words) if words[0] in FAMILIES else words[0]
    for command in COMMANDS:
        if command.name == name:
            return command
    near = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=2)
    told = f"did you mean {' or '.join(f'`{n}`' for n in near)}? " if near else ""
    raise Malformed("command_unknown", f"there is no command `{name[:80]}`", hint=f"{told}`assent --help` lists all")


def make_app(*commands: Command) -> App:
    """The parser for some commands."""
    from cyclopts import App, Parameter

    app = App(
        name="assent",
        help="Run AI agents that cannot act without consent.",
        version=assent.__version__,
        help_formatter="plain",
        help_format="plaintext",
        version_flags=["--version"],
        default_parameter=Parameter(show_default=False),
    )
    families = {name: App(name=name) for name in sorted(FAMILIES)}
    for family in families.values():
        app.command(family)
    for command in commands:
        first, _, second = command.name.partition(" ")
        if second:
            families[first].command(command.where, name=second)
        else:
            app.command(command.where, name=first)
    return app


def overview() -> Said:
    """What `assent --help` says."""
    return Said(
        document={"commands": [{"name": c.name, "about": c.about} for c in COMMANDS], "version": assent.__version__},
        tell=_tell_overview,
    )


def version() -> Said:
    """What `assent --version` says."""
    return Said(document={"version": assent.__version__}, tell=lambda paper: paper.line(assent.__version__))


def _tell_overview(paper: Paper) -> None:
    paper.line(Span("assent", Tone.STRONG), f" {assent.__version__}: run AI agents that cannot act without consent")
    paper.gap()
    paper.line("Usage: assent COMMAND …   (`assent COMMAND --help` shows its options; every command takes --json)")
    width = max(len(command.name) for command in COMMANDS)
    for name, group in GROUPS.items():
        paper.gap()
        paper.line(Span(name, Tone.STRONG))
        for command in group:
            paper.line(f"  {command.name:<{width}}  {command.about}")
    paper.gap()
    paper.line(Span("Exit codes", Tone.STRONG))
    paper.pairs([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])
