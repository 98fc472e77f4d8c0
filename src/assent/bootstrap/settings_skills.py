"""Which skills in the workspace somebody vouches for.

[skills.NAME]  digest: of the skill's folder, as it was read by whoever vouches for it
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from assent.bootstrap.settings_text import Document

SKILL_KEYS = ("digest",)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class SkillSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The folder beside the settings that may hold `skills` (None: there is none), and the digests of skills in the
    workspace that somebody vouches for, by name."""

    folder: Path | None = None
    pins: Mapping[str, str] = {}


def read_skills(document: Document, *, home: Path) -> SkillSettings:
    """The skills that a document vouches for; what is wrong is added to its faults."""
    pins = {}
    for name in document.tables(("skills",)):
        key = ("skills", name)
        document.only(key, SKILL_KEYS)
        pins[name] = document.text((*key, "digest"), default="")
        if not _DIGEST.match(pins[name]):
            document.fault(key, "a skill that is vouched for has a `digest`: `sha256:` and 64 hex digits")
    return SkillSettings(folder=home, pins=pins)
