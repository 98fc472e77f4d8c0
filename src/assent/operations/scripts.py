"""Models that are none: `scripted` plays a file, `recorded` says again what a log holds. Both say that they do.

They are operations like every other endpoint, so a demonstration or a test goes the whole path. Which line is said is
computed from what the model is told, before anything runs: the order carries the words, and the function that is called
hands them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.execution.functions import Callee
from assent.execution.obligations import Obligations
from assent.execution.orders import FunctionOrder
from assent.execution.outcomes import Outcome
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import read_arguments
from assent.ledger.operations import Facts, Place
from assent.operations.models import COMPLETION, asked_for, model_contract
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed
from assent.reasoning.messages import Completion, Stop, Text, ToolCall

SAYS = "model.says"
SCRIPT_BYTES_MAX = 4 * 1_048_576
_DEFINITION = digest(b"model.says 1")


class ScriptedCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A proposal in a script."""

    name: str
    arguments: dict[str, Any] = {}


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said in one turn."""

    text: str = ""
    calls: tuple[ScriptedCall, ...] = ()


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A play: the lines of a model, in order. `about` says what it shows."""

    lines: tuple[Line, ...]
    about: str = ""


def read_script(data: bytes) -> Script:
    """Read a script from JSON.

    Raises:
        Malformed: `script_malformed`.
    """
    if len(data) > SCRIPT_BYTES_MAX:
        raise Malformed("script_malformed", f"a script has at most {SCRIPT_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=Script)
    except msgspec.MsgspecError as error:
        raise Malformed("script_malformed", f"this is not a script: {error}") from error


class _Played(Unobserved):
    """An endpoint behind which no model is: `_says` finds the words."""

    def __init__(self, name: str, summary: str) -> None:
        self.contract = model_contract(name, summary, reaches=())

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """How much it is told."""
        named = read_arguments(self.contract, arguments)["pieces"]
        return Facts(payload_bytes=sum(len(place.contents.get(one, b"")) for one in named))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (the protocol's)
    ) -> FunctionOrder:
        """The words, to be handed back. Raises Malformed: there are none."""
        said = msgspec.json.encode(self._says(arguments, place)).decode()
        return FunctionOrder(function=SAYS, definition=_DEFINITION, arguments=said, limits=obligations.limits)

    def read(self, outcome: Outcome) -> Outcome:
        """What was said, as an answer."""
        return msgspec.structs.replace(outcome, value={COMPLETION: outcome.value["result"]})

    def _says(self, arguments: dict[str, Any], place: Place) -> Completion:
        raise NotImplementedError


class ScriptedModel(_Played):
    """Plays the lines of a script: as many answers as it finds in what it is told, so many lines are over."""

    def __init__(self, name: str, script: Script) -> None:
        super().__init__(name, f"play a script of {len(script.lines)} lines; no model is asked")
        self._script = script

    def _says(self, arguments: dict[str, Any], place: Place) -> Completion:
        said = sum(message.role == "assistant" for message in asked_for(self.contract, arguments, place).messages)
        if said >= len(self._script.lines):
            raise Malformed("script_over", f"the script has {len(self._script.lines)} lines, and all are said")
        return self._spoken(self._script.lines[said], said)

    def _spoken(self, line: Line, said: int) -> Completion:
        calls = tuple(
            ToolCall(id=f"call_{said}_{place_}", name=call.name, arguments=call.arguments)
            for place_, call in enumerate(line.calls)
        )
        words = (Text(text=line.text),) if line.text else ()
        return Completion(
            parts=(*words, *calls), stop=Stop.CALLS if calls else Stop.END, model="scripted", wire="scripted"
        )


class RecordedModel(_Played):
    """Says what was said before to exactly the same: `recording` holds answers by the hash of what was told."""

    def __init__(self, name: str, recording: Mapping[str, Completion]) -> None:
        super().__init__(name, f"say again {len(recording)} recorded answers; no model is asked")
        self._recording = recording

    def _says(self, arguments: dict[str, Any], place: Place) -> Completion:  # noqa: ARG002 (as above)
        told = told_hash(read_arguments(self.contract, arguments)["pieces"])
        if told not in self._recording:
            raise Malformed(
                "recording_missing", f"nothing is recorded for what the model is told here (`{told[:20]}…`)",
                hint="record it with the model itself; a recording never makes anything up",
            )  # fmt: skip
        return self._recording[told]


def told_hash(pieces: list[str]) -> str:
    """The context hash of these pieces, as `reasoning.context` computes it."""
    return digest("\n".join(pieces).encode())


def _handed_back(completion: dict[str, Any]) -> dict[str, Any]:
    return completion


PLAYED: Mapping[str, Callee] = {SAYS: Callee(definition=_DEFINITION, call=_handed_back)}
"""What the function lane calls to hand scripted and recorded words back."""
