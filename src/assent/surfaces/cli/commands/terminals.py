"""`assent terminal` and `assent replay`: working in a confined, recorded terminal, and looking at it afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
from cyclopts import Parameter

from assent.operations.wishes import TYPED, Answer, Wish
from assent.primitives.casts import LINE_BYTES_MAX, Calm, CastEvent, CastHeader, read_cast
from assent.primitives.errors import Malformed
from assent.surfaces.cli.exits import OF_STATE
from assent.surfaces.cli.keyboard import Keyboard
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper
from assent.surfaces.cli.ports import Desk, Said
from assent.surfaces.cli.telling.answers import tell_answer
from assent.surfaces.cli.telling.calls import call_line

SPEED_MAX = 1_000
_SIGNALLED = 128
_AT_REST = b"\x1b[0m\x1b[?25h\x1b[?1049l"  # colours off, cursor shown, main screen


async def terminal(
    *argv: Annotated[str, Parameter(name="ARGV")],
    cwd: str = ".",
    record_input: Annotated[bool, Parameter(negative="")] = False,
    asker: Annotated[str, Parameter(name="--as")] = "",
    wall_s: int | None = None,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Work in a confined terminal with one program. It is a call of `terminal.open` like any other, and recorded.

    Every key is the program's; it ends when the program does, or with its time. The exit code is the program's.

    Example: assent terminal -- python3

    Parameters
    ----------
    argv
        The program and its arguments, exactly; no shell reads them.
    cwd
        The folder to run in, relative to the workspace.
    record_input
        Record what is typed too, passwords included. What the program shows is recorded always.
    asker
        Ask as a declared agent or service on your behalf, or as yourself (else: defaults.as).
    wall_s
        Seconds to allow, if fewer than policy does.
    """
    desk.use(common)
    principal, on_behalf_of = desk.place.asking(asker)
    with Keyboard(sys.stdin.fileno()) as keyboard:
        rows, columns = keyboard.size
        arguments: dict[str, Any] = {
            "argv": [*argv], "cwd": cwd, "rows": rows, "columns": columns, "record_input": record_input,
            **({"wall_s": wall_s} if wall_s is not None else {}),
        }  # fmt: skip
        wish = Wish(
            tenant=desk.place.tenant,
            operation="terminal.open",
            arguments=arguments,
            principal=principal,
            on_behalf_of=on_behalf_of,
            provenance=TYPED,
        )
        async with desk.open() as house:
            with _ended_by_hang_up():
                answer = await house.gate.perform(wish, on_event=keyboard.hear, steering=keyboard)
            await keyboard.flush()
    return _said(answer, call_line("terminal.open", {"argv": [*argv]}), desk)


async def replay(
    recording: Annotated[str, Parameter(name="RECORDING")],
    /,
    *,
    speed: int = 1,
    dump: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Play the recording of a terminal as it was, or print what stands in it.

    What would reach beyond the screen, or make your terminal answer, is left out.

    Example: assent replay session.cast --speed 4

    Parameters
    ----------
    recording
        A file, or the digest of a kept recording, as `assent explain` tells it.
    speed
        How many times as fast; 0: without waiting.
    dump
        Print every event with its time, one a line, instead of playing.
    """
    desk.use(common)
    if not 0 <= speed <= SPEED_MAX:
        raise Malformed("usage", f"the speed `{speed}` is none", hint=f"give 0 to {SPEED_MAX}")
    with _found(recording, desk) as file:
        header, events = read_cast(iter(lambda: file.readline(LINE_BYTES_MAX + 1), b""))
        if desk.json or dump:
            return _dumped(header, [*events])
        count = await _play(events, speed=speed, desk=desk)
    return Said(document=None, tell=lambda _: None) if count else Said(document=None, tell=lambda p: p.line("empty"))


@contextmanager
def _ended_by_hang_up() -> Iterator[None]:
    """A terminal that goes away cancels the call, as SIGTERM does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a command is a task"
    loop.add_signal_handler(signal.SIGHUP, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _said(answer: Answer, line: str, desk: Desk) -> Said:
    value = answer.outcome.value if answer.outcome is not None else {}
    told = value.get("recording")
    if isinstance(told, dict):
        desk.note(f"recorded as {told['artefact']}; `assent replay {told['artefact']}` plays it")
    ended = _exit_code(value)
    return Said(
        document=msgspec.to_builtins(answer),
        tell=lambda paper: tell_answer(paper, answer, call=line, streamed=True) if ended is None else None,
        exit=OF_STATE[answer.effect.state] if ended is None else ended,
    )


def _exit_code(value: Mapping[str, Any]) -> int | None:
    """The program's own, as a shell tells it; None when it did not come to an end of its own."""
    if isinstance(value.get("exit"), int):
        return int(value["exit"])
    name = value.get("signal")
    number = signal.Signals.__members__.get(name) if isinstance(name, str) else None
    return _SIGNALLED + number if number is not None else None


def _found(recording: str, desk: Desk) -> BinaryIO:
    path = Path(recording)
    return (path if path.is_file() else desk.artefact(recording)).open("rb")


async def _play(events: Iterator[CastEvent], *, speed: int, desk: Desk) -> int:
    calm, at_ms, count = Calm(), 0, 0
    try:
        for event in events:
            if speed and event.at_ms > at_ms:
                await asyncio.sleep((event.at_ms - at_ms) / 1000 / speed)
            at_ms, count = max(at_ms, event.at_ms), count + 1
            if event.kind == "o":
                desk.raw(calm.text(event.text).encode())
    finally:
        if count and os.isatty(1):
            desk.raw(_AT_REST)
    return count


def _dumped(header: CastHeader, events: list[CastEvent]) -> Said:
    def tell(paper: Paper) -> None:
        paper.line(f"{header.columns} x {header.rows}  {header.command}")
        for event in events:
            paper.line(f"{event.at_ms / 1000:10.3f}  {event.kind}  {event.text!r}")

    return Said(document={"header": msgspec.to_builtins(header), "events": msgspec.to_builtins(events)}, tell=tell)
