"""Targets in the settings: what is declared, and every mistake told with its line."""

from __future__ import annotations

import pytest

from assent.bootstrap.settings import read_settings
from assent.bootstrap.settings_targets import HubSettings, TargetSettings
from assent.primitives.errors import Malformed

SSH = """
[targets.build]
kind = "ssh"
host = "build.example.org"
user = "ci"
identity = "keys/build"
known_hosts = "keys/hosts"
workspace = "/srv/work"
"""


def read(folder, text):
    path = folder / "assent.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, login="ann")


def test_targets_and_hub_are_read_whole(tmp_path):
    settings = read(tmp_path, SSH + '[targets.lab]\nkind = "guest"\ntrusted = true\n[hub]\nlisten = "127.0.0.1:9"\n')
    build, lab = settings.targets
    assert build == TargetSettings(
        name="build", kind="ssh", host="build.example.org", user="ci", workspace="/srv/work",
        identity=str(tmp_path / "keys/build"), known_hosts=str(tmp_path / "keys/hosts"),
    )  # fmt: skip
    assert lab == TargetSettings(name="lab", kind="guest", trusted=True)
    assert settings.hub == HubSettings(port=9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[targets.local]\nkind = "guest"', "no name for a target"),
        ('[targets.Build]\nkind = "guest"', "no name for a target"),
        ("[targets.lab]\n", "`kind` must be one of"),
        ('[targets.lab]\nkind = "cloud"', "`kind` must be one of"),
        ('[targets.lab]\nkind = "guest"\nhost = "x"', "`host` is not known"),
        ('[targets.lab]\nkind = "guest"\ntrusted = "yes"', "must be true or false"),
        (SSH.replace("build.example.org", "-oProxyCommand=x"), "`host` of target"),
        (SSH.replace('"ci"', '"-x"'), "`user` of target"),
        (SSH.replace('"/srv/work"', '"work"'), "must be an absolute path there"),
        (SSH.replace('"keys/hosts"', '"workspace/hosts"'), "an agent could change it"),
        (SSH.replace('"keys/build"', "'a\"b'"), "must be the path of a file"),
        (SSH + "port = 0", "from 1 to 65535"),
        ('[hub]\nlisten = "7743"', "is not an address"),
        ("[hub]\nlease_s = 1", "from 2 to 300"),
        ("[hub]\nlease_s = true", "from 2 to 300"),
    ],
)
def test_mistake_is_told_when_a_target_is_not_whole(tmp_path, text, told):
    with pytest.raises(Malformed, match="mistake") as caught:
        read(tmp_path, text)
    assert told in str(caught.value)
