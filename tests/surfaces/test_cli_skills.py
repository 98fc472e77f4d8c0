"""`assent skills`, on a real node: what agents are told of, on whose word, and what to pin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.surfaces.commandline import Cli

TEXT = "---\nname: {name}\ndescription: About {name}.\n---\nDo it well.\n"


def put(root: Path, name: str, text: str = TEXT) -> None:
    folder = root / "skills" / name
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(text.format(name=name))


@pytest.mark.slow
def test_skills_shows_each_with_its_digest_and_that_digest_pins_it(home: Path, cli: Cli):
    assert "There is no skill" in cli("skills").out
    put(home, "letters")
    put(home / "workspace", "numbers")
    put(home / "workspace", "broken", "nothing")
    ran = cli("skills", "--json")
    assert ran.code == 0
    assert [(one["name"], one["label"]["integrity"]) for one in ran.document["skills"]] == [
        ("letters", "org"), ("numbers", "third_party"),
    ]  # fmt: skip
    assert ["broken" in fault for fault in ran.document["faults"]] == [True]
    told = cli("skills").out
    assert "About letters." in told
    assert "left out" in told
    mark = ran.document["skills"][1]["digest"]
    with (home / "assent.toml").open("a") as file:
        file.write(f'\n[skills.numbers]\ndigest = "{mark}"\n')
    assert [one["label"]["integrity"] for one in cli("skills", "--json").document["skills"]] == ["org", "org"]
    (home / "workspace" / "skills" / "numbers" / "SKILL.md").write_text(TEXT.format(name="numbers") + "Or else.\n")
    ran = cli("skills", "--json")
    assert [one["name"] for one in ran.document["skills"]] == ["letters"]
    assert any("pin another" in fault for fault in ran.document["faults"])
