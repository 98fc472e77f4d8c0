"""A new installation: settings, starter policy, workspace. What exists is left as it is, and told."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import msgspec

from assent.bootstrap.settings import FILE_NAME, os_login, read_settings
from assent.primitives.errors import Unavailable

_SETTINGS = """\
# Settings of one Assent installation. `assent doctor` checks them; every mistake is told with its line.

[assent]
tenant = "local"         # the name under which everything here is recorded
data = ".assent"         # database, log key, checkpoints: for Assent alone
workspace = "workspace"  # the folder agents work in; nothing of Assent's may lie in it
policy = "policy"        # the folder of *.cedar rules and *_tests.toml; `assent policy activate` puts them in force
connectors = "connectors"  # the folder of connectors that were admitted; `assent connect` writes them

# Who may ask. You ({person}) always may. Agents and services act on somebody's behalf.
# Roles are what rules see as `principal in Role::"..."`.

[agents.helper]
description = "works on files in the workspace"
roles = []

# [people.ann]
# roles = ["reviewers"]

# [services.nightly]
# description = "the nightly build"

[defaults]
as = "agent:helper"      # as whom `assent do` asks when --as is not given
"""
_IGNORE = "# The database, the log's key and its checkpoints: not for version control.\n*\n"


class Founded(msgspec.Struct, frozen=True, kw_only=True):
    """One path of the installation, and whether it was made now (otherwise it was there)."""

    path: Path
    made: bool


def found(folder: Path) -> list[Founded]:
    """Make what is missing of an installation in `folder`.

    Raises:
        Unavailable: `folder_unusable`.
        Malformed: settings that were there already have mistakes.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE_NAME
        made = [_text(file, _SETTINGS.format(person=f"person:{os_login()}"))]
        settings = read_settings(file, login=os_login())
        made += [_folder(settings.workspace), *_starter(settings.policy)]
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        made.append(_text(settings.data / ".gitignore", _IGNORE))
    except OSError as error:
        what = (error.strerror or "no reason given").lower()
        raise Unavailable(
            "folder_unusable", f"`{error.filename or folder}` cannot be made: {what}", hint="choose another folder"
        ) from error
    return made


def _starter(folder: Path) -> list[Founded]:
    """The starter policy, unless there are rules already: two sets of rules would be one that nobody wrote."""
    if any(folder.glob("*.cedar")):
        return [Founded(path=folder, made=False)]
    folder.mkdir(parents=True, exist_ok=True)
    starter = files("assent.policy.starter")
    names = ("starter.cedar", "starter_tests.toml")
    return [_text(folder / name, (starter / name).read_text(encoding="utf-8")) for name in names]


def _folder(path: Path) -> Founded:
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    return Founded(path=path, made=made)


def _text(path: Path, text: str) -> Founded:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return Founded(path=path, made=False)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return Founded(path=path, made=True)
