"""The files around a run: skills beside the settings and in the workspace, and `AGENTS.md`.

The workspace is a place where anybody who works in it can plant a link, so its files are opened as the file lane opens
them: beneath the folder, through no link, ordinary files only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from assent.bootstrap.settings_skills import SkillSettings
from assent.execution.adapters.files.looking import content_of, files_below, folders_in, opened
from assent.execution.functions import Callee
from assent.execution.paths import parts_of
from assent.operations.runs.surroundings import NOTES_BYTES_MAX, Around, notes_section, skill_sections
from assent.operations.skills import SKILL
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed, Refused
from assent.primitives.labels import Integrity, Label
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.skills import FILE, FILES_MAX, FOLDER_BYTES_MAX, SKILLS_MAX, Known, folder_digest, read_skill

NOTES = "AGENTS.md"
SKILLS = "skills"
DEPTH_MAX = 4


class Surroundings:
    """Reads what stands around a run (`runs.surroundings`), and the skills it asks for."""

    def __init__(self, workspace: Path, skills: SkillSettings) -> None:
        own = skills.folder
        if own is not None and (own / SKILLS).resolve().is_relative_to(workspace.resolve()):
            own = None  # whoever works in the workspace would vouch for himself
        self._workspace = workspace
        self._shelves = (*([own] if own is not None else []), workspace)
        self._pins = skills.pins

    @property
    def callees(self) -> Mapping[str, Callee]:
        """What the function lane calls for `assistant.skill`."""
        return {
            SKILL.contract.name: Callee(
                definition=SKILL.definition, call=lambda said: self.skill(said["name"], said["sha256"], said["file"])
            )
        }

    async def around(self, agent: AgentDefinition) -> Around:
        return await asyncio.to_thread(self._look, agent)

    def skill(self, name: str, sha256: str, file: str) -> str:
        """A file of the skill whose folder has this digest.

        Raises:
            Refused: `skill_changed`: there is none, or none any more; `skill_file`: it has no such file.
        """
        for shelf in self._shelves:
            files = _folder(shelf, name)
            if FILE not in files or _mark(files) != sha256:
                continue
            if file == FILE:
                return read_skill(name, files[FILE]).body
            if file in files:
                return files[file].decode("utf-8", "replace")
            known = ", ".join(sorted(files))[:1_000]
            raise Refused("skill_file", f"`{file[:200]}` is no file of the skill; there are: {known}")
        raise Refused("skill_changed", f"the skill `{name[:80]}` is not as it was when the run began")

    def _look(self, agent: AgentDefinition) -> Around:
        found: dict[str, Known] = {}
        faults: list[str] = []
        for shelf in self._shelves if agent.skills else ():
            for name in _names(shelf, faults):
                try:
                    if name in found:
                        raise Malformed("skill_malformed", f"there are two skills `{name}`: the one in the workspace")
                    found.update(self._met(shelf, name))
                except Refused as refused:
                    faults.append(refused.message)
        sections = skill_sections(list(found.values()), faults)
        notes = _notes(self._workspace) if agent.workspace_notes else b""
        return Around(
            sections=(*sections, *([notes_section(NOTES, notes)] if notes.strip() else [])),
            skills=tuple(found[name] for name in sorted(found)),
            faults=tuple(faults),
        )

    def _met(self, shelf: Path, name: str) -> dict[str, Known]:
        """A skill; nothing when the folder is none. Raises Malformed: `skill_malformed`."""
        files = _folder(shelf, name)
        if FILE not in files:
            return {}
        skill, mark = read_skill(name, files[FILE]), _mark(files)
        pin = self._pins.get(name, "") if shelf is self._workspace else mark
        if pin and pin != mark:
            raise Malformed(
                "skill_malformed", f"the skill `{name}` has the digest `{mark}`, and the settings pin another one"
            )
        label = Label(integrity=Integrity.ORG if pin else Integrity.THIRD_PARTY)
        return {name: Known(name=name, description=skill.description, digest=mark, label=label)}


def _mark(files: Mapping[str, bytes]) -> Digest:
    return folder_digest({path: digest(data) for path, data in files.items()})


def _notes(workspace: Path) -> bytes:
    try:
        with opened(workspace) as root:
            return content_of(root, (NOTES,), NOTES_BYTES_MAX + 1)
    except (OSError, Refused):
        return b""


def _names(root: Path, faults: list[str]) -> list[str]:
    """The folders that may be skills."""
    try:
        with opened(root) as beneath:
            names = folders_in(beneath, (SKILLS,))
    except (OSError, Refused):
        return []
    if len(names) > SKILLS_MAX:
        faults.append(f"there are {len(names)} skills in `{root.name}`, and {SKILLS_MAX} are the most")
    return names[:SKILLS_MAX]


def _folder(root: Path, name: str) -> dict[str, bytes]:
    """All files of a skill by their paths in it; none when there is no such folder.

    Raises:
        Malformed: `skill_malformed`: there are too many, they are too large, one is a link, or cannot be read.
    """
    try:
        with opened(root) as beneath:
            return files_below(
                beneath, (SKILLS, *parts_of(name)), files_max=FILES_MAX, bytes_max=FOLDER_BYTES_MAX, depth_max=DEPTH_MAX
            )
    except FileNotFoundError:
        return {}
    except (OSError, Refused) as fault:
        why = fault.message if isinstance(fault, Refused) else (fault.strerror or "it cannot be read").lower()
        raise Malformed("skill_malformed", f"the skill `{ascii(name[:80])[1:-1]}` cannot be used: {why}") from fault
