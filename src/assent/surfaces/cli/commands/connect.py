"""`assent connect …`: make connectors of descriptions, admit them, and say what their operations do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from assent.ledger.contracts import EffectClass
from assent.operations.connecting import Proposal, Shown
from assent.operations.wishes import TYPED, Wish
from assent.primitives.errors import Malformed
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Desk, Said
from assent.surfaces.cli.telling.connectors import tell_proposal, tell_row, tell_shelf, tell_shown

SOURCE_BYTES_MAX = 16_777_216

Yes = Annotated[bool, Parameter(negative="")]
Called = Annotated[str, Parameter(name="--name")]


async def openapi(
    source: str,
    /,
    *,
    name: Called,
    server: str = "",
    only: str = "",
    yes: Yes = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Make a connector of an OpenAPI 3 description, show it, and admit it when you say so.

    Run again, it shows what has changed, and changes nothing until you admit the difference.

    Example: assent connect openapi petstore.json --name petstore --server http://127.0.0.1:8080

    Parameters
    ----------
    source
        A file (JSON or YAML), or a URL, which is fetched by a governed `http.get`.
    name
        What the connector is called: its operations are NAME.something.
    server
        The base URL of its calls, when the description names none that can be taken as it is.
    only
        Only operations whose name or path holds this text.
    yes
        Admit it without asking.
    """
    desk.use(common)
    connecting = desk.connecting()
    fetched_from = source if _is_url(source) else ""
    data = await _fetched(desk, source) if fetched_from else _read(source)
    proposal = connecting.openapi(data, name=name, where=source, server=server, fetched_from=fetched_from, only=only)
    return _decided(desk, proposal, yes=yes)


async def graphql(
    source: str,
    /,
    *,
    name: Called,
    server: str = "",
    only: str = "",
    yes: Yes = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Make a connector of a GraphQL schema: an operation for each query and each mutation.

    Example: assent connect graphql http://127.0.0.1:8080/graphql --name shop

    Parameters
    ----------
    source
        The server's URL, which is asked for its schema by a governed `http.introspect`; or a file: the result of an
        introspection, or the schema in GraphQL's type system language.
    name
        What the connector is called: its operations are NAME.something.
    server
        With a file: the URL its calls go to.
    only
        Only fields whose name holds this text.
    yes
        Admit it without asking.
    """
    desk.use(common)
    connecting = desk.connecting()
    url = server or (source if _is_url(source) else "")
    if not url:
        raise Malformed(
            "usage", "a file does not say where its calls go", hint="name the server with --server https://…"
        )
    data = await _fetched(desk, source, operation="http.introspect") if _is_url(source) else _read(source)
    return _decided(desk, connecting.graphql(data, name=name, where=source, url=url, only=only), yes=yes)


async def mcp(
    *argv: str,
    name: Called,
    url: str = "",
    cwd: str = ".",
    host: str = "",
    writes: Annotated[bool, Parameter(negative="")] = False,
    stays: Annotated[bool, Parameter(negative="")] = False,
    only: str = "",
    yes: Yes = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Make a connector of the tools of an MCP server: a program, or a host.

    The server is asked by a governed `shell.tools` or `http.tools`. Each tool is bound to its definition as it is now:
    when the server changes it, its calls are refused until you have seen the difference and admitted it.

    Example: assent connect mcp --name notes -- python3 notes_server.py

    Parameters
    ----------
    argv
        The server's program and its arguments, after `--`.
    name
        What the connector is called: its operations are NAME.something.
    url
        The server's URL, when it is not a program.
    cwd
        The folder that the program runs in, relative to the workspace.
    host
        The one host (`name:port`) that the program may reach when it is called.
    writes
        The program may write the workspace when it is called.
    stays
        The server stays for the next call, and may remember the one before; else each call starts it anew.
    only
        Only tools whose name holds this text.
    yes
        Admit it without asking.
    """
    desk.use(common)
    connecting = desk.connecting()
    if bool(url) == bool(argv):
        raise Malformed("usage", "a server is a program or a URL", hint="write `-- PROGRAM …`, or --url https://…")
    operation, arguments = ("http.tools", {"url": url}) if url else ("shell.tools", {"argv": list(argv), "cwd": cwd})
    tools = await _listed(desk, operation, arguments)
    proposal = connecting.mcp(
        tools, name=name, url=url, argv=argv, cwd=cwd, host=host, writes=writes, stays=stays, only=only
    )
    return _decided(desk, proposal, yes=yes)


async def command_line(
    source: str,
    /,
    *,
    name: Called,
    only: str = "",
    yes: Yes = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Make a connector of a program, by a description that you wrote: its fixed words, its options, what it does.

    Example: assent connect cli git.toml --name git

    Parameters
    ----------
    source
        The description, a TOML file.
    name
        What the connector is called: its operations are NAME.something.
    only
        Only operations whose name holds this text.
    yes
        Admit it without asking.
    """
    desk.use(common)
    connecting = desk.connecting()
    return _decided(desk, connecting.command_line(_read(source), name=name, where=source, only=only), yes=yes)


async def shelf(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """List the connectors that were admitted, and those whose files cannot be used.

    Example: assent connect list
    """
    desk.use(common)
    connecting = desk.connecting()
    found, broken = connecting.all(), connecting.broken()
    document = {
        "connectors": [
            {"name": c.name, "family": c.family, "where": c.where, "operations": len(c.operations)} for c in found
        ],
        "broken": [msgspec.to_builtins(one) for one in broken],
    }
    return Said(
        document=document,
        tell=lambda paper: tell_shelf(paper, found, broken),
        exit=Exit.FAILED if broken else Exit.DONE,
    )


async def show(
    name: str,
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Show a connector: its operations, their effect classes and why, what was left out, and rules to begin with.

    Example: assent connect show petstore

    Parameters
    ----------
    name
        The connector.
    """
    desk.use(common)
    found = desk.connecting().show(name)
    return Said(document=document_of(found), tell=lambda paper: tell_shown(paper, found))


async def classify(
    operation: str,
    effect: EffectClass,
    /,
    *,
    reason: str,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Say what an operation does to the world. It stands in the connector's file, with your name and reason.

    It holds for this definition of the operation: when the description changes, it must be said again.

    Example: assent connect classify petstore.findPets read --reason "it only searches"

    Parameters
    ----------
    operation
        The operation, with its connector: petstore.findPets.
    effect
        What it does.
    reason
        How you know.
    """
    desk.use(common)
    row = desk.connecting().classify(operation, effect, reason=reason)
    return Said(document=msgspec.to_builtins(row), tell=lambda paper: tell_row(paper, row))


async def remove(
    name: str,
    /,
    *,
    yes: Yes = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Remove a connector: none of its operations is offered any more. What was recorded stays.

    Example: assent connect remove petstore

    Parameters
    ----------
    name
        The connector.
    yes
        Remove it without asking.
    """
    desk.use(common)
    if not yes and not desk.confirm(f"Remove the connector `{name[:60]}`?"):
        return _nothing_done()
    path = desk.connecting().remove(name)
    return Said(
        document={"removed": name, "file": path}, tell=lambda paper: paper.line(Span("Removed", Tone.GOOD), f" {path}")
    )


def document_of(shown: Shown) -> dict[str, Any]:
    """A connector as a JSON document."""
    found: dict[str, Any] = msgspec.to_builtins(shown)
    return found


def _decided(desk: Desk, proposal: Proposal, *, yes: bool) -> Said:
    """Show a proposal and admit it, when it says something new and whoever sits there says yes."""
    document = {
        "connector": document_of(proposal.shown),
        "changes": [msgspec.to_builtins(change) for change in proposal.changes],
        "known": proposal.known,
    }
    if proposal.same:
        return Said(
            document=document | {"admitted": False, "same": True}, tell=lambda paper: _tell_same(paper, proposal)
        )
    desk.say(lambda paper: tell_proposal(paper, proposal))
    if not yes and not desk.confirm(f"Admit {'the difference' if proposal.known else 'this connector'}?"):
        return _nothing_done()
    path = desk.connecting().admit(proposal)

    def tell(paper: Paper) -> None:
        paper.line(Span("Admitted", Tone.GOOD), f" as `{proposal.shown.name}` in {path}")
        if not proposal.known:
            paper.line("Nothing is permitted yet. Rules to begin with, for your policy folder:", indent=2)
            paper.gap()
            paper.block(proposal.shown.rules, indent=4)
            paper.gap()
            paper.line("Then `assent policy check` and `assent policy activate`.", indent=2)

    return Said(document=document | {"admitted": True, "same": False, "file": path}, tell=tell)


def _tell_same(paper: Paper, proposal: Proposal) -> None:
    paper.line(Span("Nothing has changed", Tone.GOOD), f" since `{proposal.shown.name}` was admitted")


def _nothing_done() -> Said:
    return Said(document={"admitted": False}, tell=lambda paper: paper.line("Nothing was changed."), exit=Exit.REFUSED)


def _is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


async def _fetched(desk: Desk, url: str, *, operation: str = "http.get") -> bytes:
    from assent.operations.fetching import fetched

    async with desk.open() as house:
        return await fetched(house.gate, _wish(desk, operation, {"url": url}))


async def _listed(desk: Desk, operation: str, arguments: dict[str, Any]) -> list[Any]:
    from assent.operations.fetching import listed

    async with desk.open() as house:
        return await listed(house.gate, _wish(desk, operation, arguments))


def _wish(desk: Desk, operation: str, arguments: dict[str, Any]) -> Wish:
    place = desk.place
    return Wish(tenant=place.tenant, operation=operation, arguments=arguments, principal=place.person, provenance=TYPED)


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(SOURCE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise Malformed(
            "source_unreadable", f"`{name[:200]}` cannot be read: {reason.lower()}", hint="name a file or a URL"
        ) from error
    if len(data) > SOURCE_BYTES_MAX:
        raise Malformed("source_unreadable", f"`{name[:200]}` is larger than {SOURCE_BYTES_MAX} bytes")
    return data
