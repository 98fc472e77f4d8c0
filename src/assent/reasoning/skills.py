"""Skills: folders with a `SKILL.md`, whose name and description a model is told, and whose body it reads on demand.

    skills/write-letters/SKILL.md
    ---
    name: write-letters
    description: How letters are written here. Use it for every letter.
    ---
    Begin with the date. …

The front matter is read strictly, in the part of YAML that such files use: one `key: value` a line, plain or quoted
values, `>` and `|` blocks, and a map of texts for `metadata`. All mistakes are told at once. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed
from assent.primitives.labels import Label

FILE = "SKILL.md"
SKILL_BYTES_MAX = 131_072
SKILLS_MAX = 64
FILES_MAX = 100
"""How many files a skill's folder may have, itself included."""
FOLDER_BYTES_MAX = 1_048_576
NAME_CHARACTERS_MAX = 64
DESCRIPTION_CHARACTERS_MAX = 1_024
COMPATIBILITY_CHARACTERS_MAX = 500
TEXT_CHARACTERS_MAX = 2_000
LINES_MAX = 100

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_KEY = re.compile(r"([a-z][a-z-]{0,40}):(?:[ \t]+(.*))?\Z")
_BLOCK = re.compile(r"([>|])[+-]?\Z")
_MOST = {
    "description": DESCRIPTION_CHARACTERS_MAX,
    "compatibility": COMPATIBILITY_CHARACTERS_MAX,
    "license": TEXT_CHARACTERS_MAX,
    "allowed-tools": TEXT_CHARACTERS_MAX,
}
_KNOWN = ("name", *_MOST, "metadata")


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """What a `SKILL.md` says. `allowed_tools` is what its author thinks it needs; it allows nothing."""

    name: str
    description: str
    body: str
    licence: str = ""
    compatibility: str = ""
    allowed_tools: tuple[str, ...] = ()


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A skill that a run can read: what the model is told of it, who vouches for it, and the digest of its folder as it
    was when the run began."""

    name: str
    description: str
    digest: Digest
    label: Label


def read_skill(folder: str, data: bytes) -> Skill:
    """Read the `SKILL.md` of a folder of this name.

    Raises:
        Malformed: `skill_malformed`, with everything that is wrong.
    """
    faults: list[str] = []
    fields, body = _front_matter(data, faults)
    name, description = fields.get("name", ""), fields.get("description", "")
    if not faults or fields:
        faults += _field_faults(folder, fields)
    if faults:
        raise Malformed("skill_malformed", f"`{_shown(folder)}/{FILE}`: {'; '.join(faults[:20])}", hint="mend the file")
    return Skill(
        name=name,
        description=description,
        body=body,
        licence=fields.get("license", ""),
        compatibility=fields.get("compatibility", ""),
        allowed_tools=tuple(re.split(r"[,\s]+", fields["allowed-tools"])) if fields.get("allowed-tools") else (),
    )


def folder_digest(files: Mapping[str, Digest]) -> Digest:
    """The digest of a skill's folder: of all its files, by their paths in it."""
    return digest(msgspec.json.encode(sorted(files.items())))


def told(skills: Iterable[Known]) -> str:
    """What a model is told of the skills there are; nothing when there are none."""
    lines = [f"- {one.name}: {' '.join(one.description.split())}" for one in sorted(skills, key=lambda one: one.name)]
    return "\n".join([HOW, *lines]) if lines else ""


HOW = (
    "Each is a description of how work of some kind is done. When one fits what you are to do, read it with the tool "
    "`skill` before you begin. It gives you no permission."
)


def _field_faults(folder: str, fields: Mapping[str, str]) -> list[str]:
    name, faults = fields.get("name", ""), []
    if not _NAME.match(name) or len(name) > NAME_CHARACTERS_MAX:
        faults.append(
            f"`name` is 1 to {NAME_CHARACTERS_MAX} lower-case letters, digits and single hyphens between them"
        )
    elif name != folder:
        faults.append(f"`name` is `{name}`, and the folder is called `{_shown(folder)}`")
    if not fields.get("description", "").strip():
        faults.append("`description` is missing")
    faults += [
        f"`{key}` has {len(fields[key])} characters, and {most} are the most"
        for key, most in _MOST.items()
        if len(fields.get(key, "")) > most
    ]
    return faults


def _front_matter(data: bytes, faults: list[str]) -> tuple[dict[str, str], str]:
    """The fields at the beginning, and the text after them."""
    if len(data) > SKILL_BYTES_MAX:
        faults.append(f"it has {len(data)} bytes, and {SKILL_BYTES_MAX} are the most")
        return {}, ""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        faults.append("it is not UTF-8 text")
        return {}, ""
    lines = text.split("\n")
    end = next((at for at, line in enumerate(lines[1 : LINES_MAX + 2], 1) if line.rstrip() == "---"), 0)
    if lines[0].rstrip() != "---" or not end or "\0" in text:
        faults.append(f"it does not begin with a front matter between two lines `---`, at most {LINES_MAX} lines apart")
        return {}, ""
    return _fields(lines[1:end], faults), "\n".join(lines[end + 1 :]).strip() + "\n"


def _fields(lines: list[str], faults: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line, number = lines[at], at + 2
        at += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _KEY.match(line)
        if found is None:
            faults.append(f"line {number} is no `key: value`")
            continue
        key, value = found[1], (found[2] or "").strip()
        inner = []
        while at < len(lines) and (not lines[at].strip() or lines[at].startswith((" ", "\t"))):
            inner.append(lines[at])
            at += 1
        if key not in _KNOWN or key in fields:
            faults.append(f"`{key}` in line {number} is " + ("given twice" if key in fields else "not known"))
            continue
        fields[key] = _value(key, value, inner, number, faults)
    return fields


def _value(key: str, value: str, inner: list[str], number: int, faults: list[str]) -> str:
    """The value of a key, which stands behind it, or indented below."""
    below = [line.strip() for line in inner]
    if key == "metadata":
        if value or not all(re.match(r"[\w.-]+:(\s|\Z)", line) for line in below if line):
            faults.append(f"`metadata` in line {number} is no map of texts")
        return ""
    block = _BLOCK.match(value)
    if block:
        return ("\n" if block[1] == "|" else " ").join(below).strip()
    if any(below):
        value = " ".join([value, *filter(None, below)]).strip()
    try:
        return _scalar(value)
    except ValueError:
        faults.append(f"the value of `{key}` in line {number} is no text that can be read: quote it")
        return "?"


def _scalar(value: str) -> str:
    """A plain or quoted text. Raises ValueError for what YAML would read as something else."""
    if value.startswith('"'):
        found = msgspec.json.decode(value)  # JSON's escapes are YAML's
        if not isinstance(found, str):
            raise ValueError("no text")
        return found
    if value.startswith("'"):
        if len(value) < 2 or not value.endswith("'") or "'" in value[1:-1].replace("''", ""):
            raise ValueError("not closed")
        return value[1:-1].replace("''", "'")
    if value.startswith((*"[]{}&*!|>%@`#,?", "- ")) or " #" in value:
        raise ValueError("not plain")
    return value


def _shown(name: str) -> str:
    return ascii(name[:80])[1:-1]
