"""From words to a command, and from a command to its end: parsing, signals, and errors nobody expected."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assent.primitives.errors import AssentError, InvariantBroken, Malformed, Unavailable
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.listing import FAMILIES, WORDED, find, make_app, overview, version

if TYPE_CHECKING:
    from assent.surfaces.cli.options import Common

_SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


class Ended(BaseException):
    """A signal ended the command; whatever was under way was cancelled and recorded first."""

    def __init__(self, exit_: Exit) -> None:
        super().__init__(exit_)
        self.exit = exit_


class Called(NamedTuple):
    """A command, ready to be called with a desk if it wants one."""

    call: Callable[..., Any]
    wants_desk: bool = False
    common: Common | None = None


def parse(tokens: Sequence[str]) -> Called:
    """Find the command that `tokens` name, with its arguments.

    Raises:
        Malformed: `command_unknown`, `usage`: they name none, or its arguments do not fit.
    """
    command = find(tokens)
    if command is None:
        return _general(tokens)
    words = list(tokens[len(command.name.split()) :])
    if command.name in WORDED:
        return _worded(command.name, words)
    from cyclopts import CycloptsError

    app = make_app(command)
    try:
        function, bound, left = app.parse_args(list(tokens), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        text = " ".join(str(error).split()).rstrip(".")
        raise _usage(text[:1].lower() + text[1:], command.name) from error
    common = bound.arguments.get("common")
    return Called(lambda **desk: function(*bound.args, **bound.kwargs, **desk), "desk" in left, common)


def _general(tokens: Sequence[str]) -> Called:
    """What is said without any command: help, or the version."""
    rest = [token for token in tokens if token not in ("--json", "--help", "-h", *FAMILIES)]
    if not rest:
        return Called(overview)
    if rest == ["--version"]:
        return Called(version)
    raise _usage(f"`{rest[0][:80]}` stands before any command", "")


def _worded(name: str, words: list[str]) -> Called:
    if name == "do":
        from assent.surfaces.cli.commands.perform import do

        return Called(lambda **desk: do(*words, **desk), wants_desk=True)
    from assent.surfaces.cli.commands.simulating import simulate

    return Called(lambda **desk: simulate(*words, **desk), wants_desk=True)


def finish(work: Coroutine[Any, Any, object]) -> object:
    """Run a command to its end, or to an orderly one when SIGINT or SIGTERM comes.

    Raises:
        Ended: a signal came.
    """
    caught: list[Exit] = []

    async def under_signals() -> object:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "a coroutine run by asyncio.run is a task"

        def end(number: signal.Signals) -> None:
            caught.append(_SIGNALS[number])
            loop.remove_signal_handler(number)  # a second one ends at once
            task.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, end, number)
        return await work

    try:
        return asyncio.run(under_signals())
    except (asyncio.CancelledError, KeyboardInterrupt) as cancelled:
        raise Ended(caught[0] if caught else Exit.INTERRUPTED) from cancelled


def of_system(error: OSError) -> AssentError:
    """An error of the operating system that no adapter translated."""
    what = (error.strerror or str(error) or type(error).__name__).lower()
    where = f"`{error.filename}`: " if isinstance(error.filename, str) else ""
    return Unavailable("system", f"{where}{what}", hint="`assent doctor` looks at folders, permissions and disk")


def of_bug(error: BaseException, *, variable: str) -> AssentError:
    """An error that nobody expected."""
    told = f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")
    return InvariantBroken(
        "internal", f"something is wrong inside assent ({told})", hint=f"set {variable}=1 to see where, and report it"
    )


def _usage(text: str, command: str) -> Malformed:
    return Malformed("usage", text, hint=f"see `assent {command} --help`" if command else "see `assent --help`")
