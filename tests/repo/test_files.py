"""Files that travel: nothing in them ties the project to one machine, one registry or one checkout."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.repo.sources import ROOT, files, project, text

REGISTRIES = re.compile(r"pypi[.](?:org|io)|pythonhosted[.]org|npmjs[.](?:org|com)|crates[.]io|docker[.]io|ghcr[.]io")
# Where somebody's checkout or environment was, as opposed to places that every machine has.
SOMEBODYS = re.compile(r"/(?:Users|work)/\w|/tmp/[v]/")
HERE = tuple(place for place in (str(ROOT), str(Path.home()), sys.prefix) if place.count("/") > 1)


def test_no_file_names_a_package_registry() -> None:
    assert not _lines_where(lambda line: REGISTRIES.search(line) is not None)


def test_no_file_names_a_place_on_the_machine_it_was_written_on() -> None:
    assert not _lines_where(lambda line: SOMEBODYS.search(line) is not None or any(place in line for place in HERE))


def test_scripts_that_are_started_by_name_are_executable() -> None:
    started = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci/run"]
    assert [path.name for path in started if not os.access(path, os.X_OK)] == []


def test_every_kind_of_data_file_in_the_package_reaches_the_wheel() -> None:
    wheel = project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    ignored = [line for line in text(ROOT / ".gitignore").splitlines() if line.startswith("*.")]
    assert wheel == {"packages": ["src/assent"]}, "hatchling then packs whatever .gitignore does not name"
    assert not {"*.cedar", "*.toml", "*.sql", "*.typed"} & set(ignored)


def _lines_where(bad: object) -> list[str]:
    assert callable(bad)
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files()
        for number, line in enumerate(text(path).splitlines(), 1)
        if bad(line)
    ]
