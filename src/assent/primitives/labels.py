"""Labels: how far a value can be trusted, and who may see it. Joins are computed and never declared by a model."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Integrity(StrEnum):
    """Who vouches for a value, strongest first."""

    SYSTEM = "system"
    USER = "user"
    ORG = "org"
    THIRD_PARTY = "third_party"


_WEAKER = {one: place for place, one in enumerate(Integrity)}
STRENGTH = {one: len(Integrity) - 1 - place for one, place in _WEAKER.items()}
"""As rules see it: 3 Assent's own, 2 the person's, 1 the organisation's records, 0 a third party's."""


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The label of one value. `readers` are the principals that may see it (None: whoever the tenant lets)."""

    integrity: Integrity = Integrity.THIRD_PARTY
    readers: tuple[str, ...] | None = None


def joined(labels: Iterable[Label]) -> Label:
    """The label of what was made of all these: as weak as the weakest, for those who may see every one."""
    integrity, readers = Integrity.SYSTEM, None
    for label in labels:
        integrity = max(integrity, label.integrity, key=_WEAKER.__getitem__)
        if label.readers is not None:
            readers = label.readers if readers is None else tuple(one for one in readers if one in label.readers)
    return Label(integrity=integrity, readers=readers)
