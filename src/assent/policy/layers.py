"""Layers: whose rules bind whom. Each may only tighten what those above it allow. Pure.

    policy/*.cedar                 platform: what is permitted at all
    policy/tenant/*.cedar          tenant: forbids more
    policy/installation/*.cedar    installation: forbids more still

Below the first layer there are no permits, so that it can be proved rather than searched for: Cedar allows a call when
a permit applies and no forbid does, and each forbid that is added can only take calls away, whatever its condition is.
A forbid with a review asks more people, or sooner; its terms are joined with the others' to the largest quorum, the
shortest time and the strictest floor. What else an annotation could do would replace a default, and so raise it:
limits, accepted classes and hosts are therefore the first layer's alone.

In the joined text a line marks where a layer begins. No file may hold such a line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

from assent.policy.terms import Terms

LAYERS: Final = ("platform", "tenant", "installation")
_MARK = re.compile(r"^[ \t]*//!.*$", re.MULTILINE)
_NAMED = re.compile(r"//! layer: ([a-z]+)\Z")


def layer_of(name: str) -> str:
    """The layer of a policy file, by its folder."""
    folder, slash, _ = name.partition("/")
    return folder if slash and folder in LAYERS else LAYERS[0]


def mark(layer: str) -> str:
    """The line with which a layer begins."""
    return f"//! layer: {layer}\n"


def has_mark(text: str) -> bool:
    """Whether a file holds what only the joined text may."""
    return _MARK.search(text) is not None


class Marks:
    """Where the layers of a joined text begin. `fault` is the line of a mark that is none or goes back up (0: none)."""

    def __init__(self, text: str) -> None:
        self._lines, self._layers, self.fault = [0], [LAYERS[0]], 0
        for found in _MARK.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            named = _NAMED.match(found.group().strip())
            layer = named[1] if named else ""
            if layer not in LAYERS or LAYERS.index(layer) < LAYERS.index(self._layers[-1]):
                self.fault = self.fault or line
            else:
                self._lines.append(line)
                self._layers.append(layer)

    def layer_at(self, line: int) -> str:
        """The layer that a line belongs to."""
        return self._layers[bisect_right(self._lines, line) - 1]


def loosens(layer: str, effect: str, terms: Terms) -> str:
    """What in a rule could let more happen than the layers above it allow; empty when nothing could."""
    if layer == LAYERS[0]:
        return ""
    if effect != "forbid":
        return f"the layer `{layer}` may only tighten: it holds no `permit`"
    for name, value in (("@accept", terms.accept), ("@egress", terms.egress), ("a limit", terms.limits)):
        if value:
            return f"the layer `{layer}` may only tighten: {name} could raise what holds above it"
    return ""
