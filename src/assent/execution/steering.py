"""Steering: what comes in to a running order, and how much of its output may be handed up. Pure values.

A lane that understands a word obeys it; one that does not says so in its capabilities, and whoever asks is told before
the word is sent. Cancelling is not a word: the carry itself is cancelled.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SignalName = Literal["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "KILL"]


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """More for standard input, or the next message."""

    data: bytes


class EndInput(msgspec.Struct, frozen=True, kw_only=True):
    """No more input comes: the pipe is closed, or the terminal is sent its end-of-file character."""


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A signal for the program's process group."""

    name: SignalName


class Resize(msgspec.Struct, frozen=True, kw_only=True):
    """The terminal has another size, in characters."""

    rows: int
    columns: int


Word = Input | EndInput | Signal | Resize


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a lane can do besides carrying an order to its end. Each claim has a case in the conformance suite.

    `words` are the names of the words it obeys (`Input`, …); `streams`: output is handed up while it comes, and no
    faster than it is taken; `cancels`: a cancelled carry leaves nothing running; `sessions`: state can be kept between
    orders.
    """

    words: tuple[str, ...] = ()
    streams: bool = False
    cancels: bool = True
    sessions: bool = False
    summary: str = ""
