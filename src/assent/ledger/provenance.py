"""Provenance: on whose word a call stands. Computed by whoever asks for it, from what it has seen; never declared by a
model. Pure values, kept with the call, so that a decision can be told and made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.primitives.labels import Integrity, Label, joined

BEYOND_CHARACTERS_MAX = 500


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`context` is the label of everything that whoever chose the call had seen; `arguments` are the labels of those
    arguments that are known to come from somewhere else in it. `beyond` says in what the call goes beyond what was
    asked for (empty: in nothing, or nobody said what was)."""

    context: Label = Label()
    arguments: dict[str, Label] = {}
    beyond: str = ""

    def of(self, argument: str) -> Label:
        """The label of an argument."""
        return self.arguments.get(argument, self.context)

    def over(self, arguments: Mapping[str, Any]) -> Label:
        """The label of all these arguments together."""
        return joined(self.of(name) for name in arguments)


UNVOUCHED = Provenance()
"""Nobody knows where it comes from."""
TYPED = Provenance(context=Label(integrity=Integrity.USER))
"""A person chose every word of it, or code that a person runs did."""
OWN = Provenance(context=Label(integrity=Integrity.SYSTEM))
"""Assent chose every word of it."""
