"""Bundles: the policy texts that are in force together, and the revision that names them. Pure values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from assent.policy.layers import LAYERS, has_mark, layer_of, mark
from assent.policy.schema import SCHEMA
from assent.policy.text import pieces
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One policy text. `sources` names what it was joined from: (name, first line in `text`), in order."""

    text: str
    sources: tuple[tuple[str, int], ...] = ()

    @property
    def revision(self) -> Digest:
        """What names this policy in every decision: over the text and the schema it is read against.

        The text is digested as it stands, comments included: they are what a reviewer read.
        """
        return digest(b"assent-policy-v1\0" + msgspec.json.encode([SCHEMA, self.text]))

    def place(self, line: int) -> tuple[str, int]:
        """The source that holds `line` of the text, and the line in it."""
        name, first = "", 1
        for source, start in self.sources:
            if start <= line:
                name, first = source, start
        return name, line - first + 1


def join(texts: Mapping[str, str]) -> Bundle:
    """Join texts, layer by layer and sorted by name: the order in which a folder is read changes nothing.

    Raises:
        Malformed: `policy_unfinished`: a text ends within a rule, which the next text would silently continue;
            `policy_marked`: a text holds a line that says where a layer begins.
    """
    open_ended = [name for name in sorted(texts) if any(not piece.finished for piece in pieces(texts[name]))]
    if open_ended:
        raise Malformed(
            "policy_unfinished", f"`{open_ended[0][:200]}` ends within a rule", hint="end every rule with `;`"
        )
    marked = [name for name in sorted(texts) if has_mark(texts[name])]
    if marked:
        raise Malformed(
            "policy_marked", f"`{marked[0][:200]}` holds a line that begins with `//!`",
            hint="what begins so says where a layer begins; write the comment with `//`",
        )  # fmt: skip
    parts: list[str] = []
    sources: list[tuple[str, int]] = []
    line, layer = 1, LAYERS[0]
    for name in sorted(texts, key=lambda name: (LAYERS.index(layer_of(name)), name)):
        if layer_of(name) != layer:
            layer = layer_of(name)
            parts.append(mark(layer))
            line += 1
        part = texts[name] if texts[name].endswith("\n") else texts[name] + "\n"
        sources.append((name, line))
        parts.append(part)
        line += part.count("\n")
    return Bundle(text="".join(parts), sources=tuple(sources))
