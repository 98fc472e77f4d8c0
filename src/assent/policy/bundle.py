"""Bundles: the policy texts that are in force together, and the revision that names them. Pure values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

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
    """Join texts by name. They are sorted by name, so that the order in which a folder is read changes nothing.

    Raises:
        Malformed: `policy_unfinished`: a text ends within a rule, which the next text would silently continue.
    """
    open_ended = [name for name in sorted(texts) if any(not piece.finished for piece in pieces(texts[name]))]
    if open_ended:
        raise Malformed(
            "policy_unfinished", f"`{open_ended[0][:200]}` ends within a rule", hint="end every rule with `;`"
        )
    parts: list[str] = []
    sources: list[tuple[str, int]] = []
    line = 1
    for name in sorted(texts):
        part = texts[name] if texts[name].endswith("\n") else texts[name] + "\n"
        sources.append((name, line))
        parts.append(part)
        line += part.count("\n")
    return Bundle(text="".join(parts), sources=tuple(sources))
