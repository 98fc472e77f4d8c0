from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.bootstrap.settings import (
    SETTINGS_BYTES_MAX,
    Settings,
    blueprint,
    find_settings,
    os_login,
    read_settings,
)
from assent.bootstrap.toml_places import places
from assent.policy.principals import KnownPrincipal
from assent.primitives.errors import Malformed, Refused


def read(folder: Path, text: str | bytes, *, login: str = "ann") -> Settings:
    path = folder / "assent.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_settings(path, login=login)


def faults(folder: Path, text: str | bytes) -> list[str]:
    """What is told about a file, as `line: message`."""
    with pytest.raises(Malformed) as caught:
        read(folder, text)
    assert caught.value.code == "settings_invalid"
    head, *lines = caught.value.message.split("\n")
    assert f"{len(lines)} mistake" in head
    return [line.removeprefix("  assent.toml:") for line in lines]


def test_empty_file_means_the_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    home = tmp_path.resolve()
    assert (found.tenant, found.person, found.act_as) == ("local", "person:ann", "person:ann")
    assert (found.data, found.workspace, found.policy) == (home / ".assent", home / "workspace", home / "policy")
    assert found.principals == (KnownPrincipal(name="person:ann"),)


def test_everything_is_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        [assent]
        tenant = "acme"
        data = "../data"
        workspace = "/somewhere/ws"
        [people.ann]
        roles = ["admin"]
        [people."bob@example.org"]
        [agents.helper]
        description = "helps"
        roles = ["a", "b"]
        [services.nightly]
        [defaults]
        as = "agent:helper"
        """,
    )
    assert found.tenant == "acme"
    assert found.data == tmp_path.resolve().parent / "data"
    assert found.workspace == Path("/somewhere/ws").resolve()
    assert {p.name: p.roles for p in found.principals} == {
        "person:ann": ("admin",),
        "person:bob@example.org": (),
        "agent:helper": ("a", "b"),
        "service:nightly": (),
    }
    assert found.descriptions == {"agent:helper": "helps"}
    drawn = blueprint(found)
    assert (drawn.tenants, drawn.workspace, drawn.principals) == (("acme",), found.workspace, found.principals)


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = '''# a comment
tenant = "x"
[assent]
tenant = "Bad Tenant"
wrkspace = """
two lines
"""
data = 3

[people]
ann = { roles = ["no no"] }
[agents.helper]
rolez = [
  "a",
]
roles = ["a", 1]
[defaults]
as = "agent:helpr"
'''
    told = faults(tmp_path, text)
    assert [line.partition(":")[0] for line in told] == ["2", "4", "5", "8", "11", "13", "16", "18"]
    for line, expected in zip(
        told,
        [
            "belongs in `[assent]`",
            "not a tenant name",
            "did you mean `workspace`?",
            "must be a text, and is a number",
            "`no no` is not a role",
            "did you mean `roles`?",
            "must be a list of texts",
            "did you mean `agent:helper`?",
        ],
        strict=True,
    ):
        assert expected in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[assent", 1),
        ('[assent]\ntenant = "x', 2),
        ("\n\n= 3", 3),
        ("[assent]\n[assent]\n", 2),
        (b"[assent]\n# \xff\n", 2),
        (b"\xef\xbb\xbf[assent]\n", 1),
        (b"a = 1\r\nb = \r\n", 2),
        ("x = 1" + "0" * 5000, 1),
        ("x = " + "[" * 20_000, 1),
        ("# " + "x" * SETTINGS_BYTES_MAX, 1),
    ],
)
def test_file_that_is_not_toml_is_one_mistake_with_its_line(tmp_path: Path, text: str | bytes, line: int) -> None:
    (told,) = faults(tmp_path, text)
    assert told.startswith(f"{line}: ")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('[assent]\ndata = "workspace/.assent"', 2, "the data folder"),
        ('[assent]\npolicy = "workspace"', 2, "the policy folder"),
        ('[assent]\nworkspace = "."', 2, "holds these settings"),
        ('[assent]\nworkspace = ".."', 2, "holds these settings"),
        ('[assent]\nworkspace = ".assent/ws"', 2, "lies in the data folder"),
        ('[assent]\nworkspace = "policy/ws"', 2, "lies in the policy folder"),
        ('[assent]\nworkspace = "link"', 2, "holds these settings"),
        ('[assent]\ndata = ""', 2, "is not a folder's path"),
        ('[assent]\ndata = "a\\u0000b"', 2, "must be a text"),
        ("assent = 3", 1, "must be a table"),
        ('agents = "x"', 1, "must be a table"),
        ('[[agents]]\nname = "x"', 1, "must be a table"),
        ('[defaults]\nas = "person:bob"', 2, "another person"),
        ('[agents."a b"]', 1, "not a principal"),
        ('[agents."\\u001b[31m"]\nx = 1', 2, "`x` is not known"),
    ],
)
def test_settings_that_would_be_unsafe_or_mean_nothing_are_refused(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    found = faults(tmp_path, text)
    assert any(fault.startswith(f"{line}: ") and told in fault for fault in found)
    assert not any("\x1b" in fault for fault in found)


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "assent.toml").mkdir()
    with pytest.raises(Malformed) as caught:
        read_settings(tmp_path / "assent.toml", login="ann")
    assert caught.value.code == "settings_unreadable"


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="replace"))))
def test_no_bytes_at_all_lead_to_anything_but_settings_or_a_list_of_mistakes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    # A folder of its own: settings are looked for upwards, so a file above every other test's folder would be found.
    folder = tmp_path_factory.getbasetemp() / "any-bytes"
    folder.mkdir(exist_ok=True)
    path = folder / "assent.toml"
    path.write_bytes(data)
    with suppress(Malformed):
        assert read_settings(path, login="ann").person == "person:ann"


_NAMES = st.sampled_from(
    ["assent", "people", "agents", "services", "defaults", "as", "roles", "tenant", "x", '"a b"', "''"]
)
_VALUES = st.sampled_from(
    [
        '"t"',
        "'l'",
        "3",
        "true",
        "1.5",
        "[]",
        '["a"]',
        "[\n 1,\n]",
        "{}",
        '{ roles = ["r"] }',
        '"""\n\n"""',
        "1979-05-27",
        '""""""',
    ]
)
_LINES = st.one_of(
    st.builds(lambda keys: f"[{'.'.join(keys)}]", st.lists(_NAMES, min_size=1, max_size=3)),
    st.builds(lambda keys, value: f"{'.'.join(keys)} = {value}", st.lists(_NAMES, min_size=1, max_size=3), _VALUES),
    st.sampled_from(["", "# [x]", "  # a = 1"]),
)


@given(st.lists(_LINES, max_size=12))
def test_lines_of_keys_are_found_in_any_valid_toml(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = places(text)
    starts = [sum(line.count("\n") + 1 for line in lines[:at]) + 1 for at in range(len(lines))]
    assert set(found.values()) <= set(starts)
    for name in values:
        written = lines[starts.index(found[(name,)])]
        assert (name or "''") in written


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("", ("agent:helper", ("person:ann",))),
        ("person:ann", ("person:ann", ())),
        ("agent:helper", ("agent:helper", ("person:ann",))),
        ("service:nightly", ("service:nightly", ("person:ann",))),
    ],
)
def test_asking_is_done_as_oneself_or_on_ones_own_behalf(
    tmp_path: Path, name: str, asked: tuple[str, tuple[str, ...]]
) -> None:
    found = read(tmp_path, '[agents.helper]\n[services.nightly]\n[people.bob]\n[defaults]\nas = "agent:helper"')
    assert found.asking(name) == asked


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("person:bob", "asking_as_another"),
        ("agent:nobody", "principal_undeclared"),
        ("helper", "principal_undeclared"),
        ("schedule:x", "principal_undeclared"),
    ],
)
def test_asking_as_anybody_else_is_refused(tmp_path: Path, name: str, code: str) -> None:
    found = read(tmp_path, "[agents.helper]\n[people.bob]\n")
    with pytest.raises(Refused) as caught:
        found.asking(name)
    assert caught.value.code == code


def test_settings_are_found_here_then_above(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "assent.toml").touch()
    assert find_settings(inner, folder=None, environment={}) == tmp_path / "assent.toml"
    (inner / "assent.toml").touch()
    assert find_settings(inner, folder=None, environment={}) == inner / "assent.toml"


def test_settings_named_by_option_win_over_the_variable_and_that_over_here(tmp_path: Path) -> None:
    for name in ("here", "env", "option"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "assent.toml").touch()
    env = {"ASSENT_FOLDER": str(tmp_path / "env")}
    here = tmp_path / "here"
    assert find_settings(here, folder=tmp_path / "option", environment=env).parent.name == "option"
    assert find_settings(here, folder=None, environment=env).parent.name == "env"
    assert find_settings(here, folder=None, environment={"ASSENT_FOLDER": ""}).parent.name == "here"


@pytest.mark.parametrize("folder", ["nowhere", "a\0b", "x" * 5000])
def test_settings_in_a_named_place_are_not_looked_for_elsewhere(tmp_path: Path, folder: str) -> None:
    (tmp_path / "assent.toml").touch()
    with pytest.raises(Malformed) as caught:
        find_settings(tmp_path, folder=Path(folder), environment={})
    assert caught.value.code == "settings_missing"


def test_settings_of_somebody_else_met_on_the_way_up_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may put a file into /tmp: it must not decide what runs below."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "assent.toml").touch()
    owner = (tmp_path / "assent.toml").stat().st_uid
    if owner == 0:  # root's files are anybody's to trust: give this one away
        os.chown(tmp_path / "assent.toml", 12_345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(Malformed) as caught:
        find_settings(inner, folder=None, environment={})
    assert caught.value.code == "settings_foreign"
    assert find_settings(inner, folder=tmp_path, environment={}) == tmp_path / "assent.toml"


def test_login_comes_from_the_system_and_not_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os_login()
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("LOGNAME", "somebody")
    assert os_login() == before


@pytest.mark.parametrize("name", ["DOMAIN\\ann", "", "a b"])
def test_login_that_is_no_principal_is_told_by_number(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import pwd

    entry = pwd.struct_passwd((name, "x", 7, 7, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    assert os_login() == f"uid-{os.getuid()}"
