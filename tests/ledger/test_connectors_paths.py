from __future__ import annotations

import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.ledger.connectors.paths import PATH_BYTES_MAX, Spot, inside, locate
from assent.ledger.operations import Place
from assent.primitives.errors import Malformed

PLACE = Place(workspace="/srv/ws")

PIECES = st.sampled_from(
    ["..", ".", "", "/", "a", "srv", "ws", "wsx", "~", "\\", "..a", " ", "é", "\u202e", "\0", "\ud800"]
)
HOSTILE = st.one_of(st.lists(PIECES, max_size=8).map("/".join), st.text(max_size=20))
WORKSPACES = st.sampled_from(["/srv/ws", "/srv/ws/", "/", "//srv//ws", "/srv/./ws/../ws"])


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("a.txt", "a.txt"),
        ("./a//b/../c.txt", "a/c.txt"),
        ("a/..", "."),
        (".", "."),
        ("a/", "a"),
        ("..a/...", "..a/..."),
        ("~/a", "~/a"),
        ("a b\\c", "a b\\c"),
        ("/srv/ws", "."),
        ("/srv/ws/", "."),
        ("/srv/ws/a/b", "a/b"),
        ("//srv/ws/a", "a"),
        ("///srv/ws/a", "a"),
        ("/srv/x/../ws/a", "a"),
        ("/../srv/ws/a", "a"),
    ],
)
def test_locate_normalises_when_the_path_lies_inside(written, path):
    assert locate(written, PLACE) == Spot(path=path, inside=True)
    assert inside(written, PLACE) == path


@pytest.mark.parametrize(
    "written",
    [
        "..",
        "../",
        "a/../..",
        "../ws/a",
        "/",
        "//",
        "/etc/passwd",
        "/srv",
        "/srv/wsx",
        "/srv/ws/..",
        "/srv/ws/../x",
        "/SRV/ws",
    ],
)
def test_locate_keeps_the_written_path_when_it_leads_outside(written):
    assert locate(written, PLACE) == Spot(path=written, inside=False)
    with pytest.raises(Malformed) as refused:
        inside(written, PLACE)
    assert refused.value.code == "outside_workspace"


@pytest.mark.parametrize(
    "written",
    ["", "a\0b", "a\nb", "a\x7f", "a\x85", "a\u2028b", "photo\u202egpj.exe", "\u2066a", "a" * (PATH_BYTES_MAX + 1)],
)
def test_locate_refuses_when_people_and_kernels_would_read_the_path_differently(written):
    with pytest.raises(Malformed) as refused:
        locate(written, PLACE)
    assert refused.value.code == "path_malformed"
    assert refused.value.message.isascii()
    assert refused.value.message.isprintable()


def test_locate_counts_bytes_not_characters_when_a_path_is_long():
    assert locate("é" * (PATH_BYTES_MAX // 2), PLACE).inside
    with pytest.raises(Malformed):
        locate("é" * (PATH_BYTES_MAX // 2) + "a", PLACE)


@pytest.mark.parametrize("workspace", ["", "srv/ws", "./ws", "/srv\0/ws"])
def test_locate_refuses_when_the_workspace_is_not_absolute(workspace):
    with pytest.raises(Malformed) as refused:
        locate("a", Place(workspace=workspace))
    assert refused.value.code == "workspace_malformed"


def test_locate_takes_everything_absolute_when_the_workspace_is_the_root():
    assert locate("/etc/passwd", Place(workspace="/")) == Spot(path="etc/passwd", inside=True)
    assert not locate("../etc", Place(workspace="/")).inside


@settings(max_examples=150)
@given(written=HOSTILE, workspace=WORKSPACES)
def test_locate_stays_beneath_the_workspace_when_it_says_inside(written, workspace):
    place = Place(workspace=workspace)
    try:
        spot = locate(written, place)
    except Malformed:
        return
    if not spot.inside:
        assert spot.path == written
        return
    root = "/" + posixpath.normpath(workspace).strip("/")
    reached = posixpath.normpath(posixpath.join(root, spot.path))
    assert reached == root or reached.startswith(root.rstrip("/") + "/")
    assert ".." not in spot.path.split("/")
    assert locate(spot.path, place) == spot
