"""The file lane, by both of its mechanisms: what each verb does, and that no path, link or race leads out."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assent.execution.adapters.files import FileLane
from assent.execution.adapters.files import beneath as beneath_module
from assent.execution.adapters.files.beneath import Beneath, best_mechanism
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Edit, FileOrder, HttpOrder, Limits, Search
from assent.execution.outcomes import Outcome
from assent.execution.paths import parts_of
from assent.primitives.digests import digest
from assent.primitives.errors import InvariantBroken, Malformed

VERBS = ("read", "write", "append", "edit", "delete", "list", "search", "stat", "make_folder")


class RealClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class RunningOutClock(RealClock):
    """Time that is over after so many looks at it."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def monotonic_ns(self) -> int:
        self._looks -= 1
        return 0 if self._looks >= 0 else 10**18


def carry(lane: FileLane, order: FileOrder) -> Outcome:
    return asyncio.run(lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _: None))


@pytest.fixture(params=["openat2", "walk"])
def mechanism(request):
    return request.param


@pytest.fixture
def lane(mechanism):
    return FileLane(clock=RealClock(), mechanism=mechanism)


@pytest.fixture
def place(tmp_path):
    """A workspace with a neighbour that must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    (tmp_path / "outside" / "mark").touch()
    (tmp_path / "ws").mkdir()
    before = snapshot(tmp_path / "outside")
    yield tmp_path / "ws"
    assert snapshot(tmp_path / "outside") == before


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def order(verb: Any, place: Path, path: str, content: bytes = b"", *, recursive: bool = False, **limits) -> FileOrder:
    return FileOrder(
        verb=verb,
        workspace=str(place),
        path=path,
        content=content,
        recursive=recursive,
        edit=Edit(old=b"old") if verb == "edit" else None,
        search=Search(pattern="secret") if verb == "search" else None,
        limits=Limits(**limits),
    )


def said(outcome: Outcome) -> tuple[str, str]:
    return str(outcome.ending), outcome.code


def test_best_mechanism_is_openat2_on_this_kernel():
    assert best_mechanism() == "openat2"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_best_mechanism_is_the_walk_when_the_kernel_or_a_filter_refuses_openat2(number, monkeypatch):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(beneath_module, "openat2", refused)
    assert best_mechanism() == "walk"


def test_write_then_read_gives_the_same_bytes_and_the_record_says_how(lane, place, mechanism):
    wrote = carry(lane, order("write", place, "a/b/ü.txt", "grüße".encode()))
    assert said(wrote) == ("succeeded", "ok")
    assert wrote.value == {"bytes": 7, "sha256": digest("grüße".encode()), "replaced": False}
    outcome = carry(lane, order("read", place, "a//./b/ü.txt"))
    assert outcome.value == {"text": "grüße", "bytes": 7, "sha256": digest("grüße".encode())}
    assert outcome.evidence.digests == {"content": digest("grüße".encode())}
    attestation = outcome.evidence.attestation
    assert attestation.confinement is ConfinementClass.BUILTIN
    assert attestation.properties["paths"].value == f"beneath workspace ({mechanism})"
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
    assert sorted(path.name for path in (place / "a" / "b").iterdir()) == ["ü.txt"]


def test_read_gives_base64_when_the_content_is_not_text(lane, place):
    (place / "f").write_bytes(b"\xff\x00")
    assert carry(lane, order("read", place, "f")).value["base64"] == "/wA="


def test_read_stops_at_the_limit_when_the_file_is_longer(lane, place):
    (place / "f").write_bytes(b"x" * 101)
    over = carry(lane, order("read", place, "f", output_bytes_max=100))
    assert said(over) == ("failed", "output_limit")
    assert over.value == {"bytes": 101}
    assert over.evidence.limit == "output_bytes_max"
    assert carry(lane, order("read", place, "f", output_bytes_max=101)).code == "ok"


def test_read_stops_at_the_limit_when_a_file_hides_its_length(lane):
    outcome = carry(lane, order("read", Path(f"/proc/{os.getpid()}"), "maps", output_bytes_max=64))
    assert said(outcome) == ("failed", "output_limit")


def test_write_replaces_a_file_and_keeps_its_mode(lane, place):
    (place / "f").write_bytes(b"old")
    (place / "f").chmod(0o640)
    inode = (place / "f").stat().st_ino
    assert carry(lane, order("write", place, "f", b"new")).value["replaced"] is True
    found = (place / "f").stat()
    assert (place / "f").read_bytes() == b"new"
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert found.st_ino != inode


def test_new_files_follow_the_umask(lane, place):
    before = os.umask(0o027)
    try:
        carry(lane, order("write", place, "d/f", b"x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((place / "d" / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((place / "d").stat().st_mode) == 0o750


def test_new_files_belong_to_the_owner_of_the_folder_when_root_makes_them(lane, place):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(place, 61_000, 61_000)
    for verb, path in (("write", "d/f"), ("append", "d/g"), ("make_folder", "e/e")):
        assert carry(lane, order(verb, place, path, b"x")).code == "ok"
    owners = {path.stat().st_uid for path in place.rglob("*")}
    assert owners == {61_000}
    os.chown(place / "d" / "f", 61_001, 61_002)
    carry(lane, order("write", place, "d/f", b"y"))
    found = (place / "d" / "f").stat()
    assert (found.st_uid, found.st_gid) == (61_001, 61_002)


def test_append_adds_to_the_end_and_makes_what_is_missing(lane, place):
    assert carry(lane, order("append", place, "d/f", b"one")).value == {"bytes": 3, "size": 3}
    assert carry(lane, order("append", place, "d/f", b"two")).value == {"bytes": 3, "size": 6}
    assert (place / "d" / "f").read_bytes() == b"onetwo"


@pytest.mark.parametrize("verb", ["write", "append"])
def test_writing_is_refused_when_the_file_would_be_too_large(verb, lane, place):
    (place / "f").write_bytes(b"12345")
    outcome = carry(lane, order(verb, place, "f", b"x" * 6, file_bytes_max=5))
    assert said(outcome) == ("failed", "output_limit")
    assert outcome.evidence.limit == "file_bytes_max"
    assert (place / "f").read_bytes() == b"12345"


def test_append_is_refused_when_the_file_has_a_second_name(lane, place, tmp_path):
    """A hard link outside is the same file: a write replaces the name, an append would write through it."""
    os.link(tmp_path / "outside" / "secret.txt", place / "f")
    assert said(carry(lane, order("append", place, "f", b"!"))) == ("failed", "not_permitted")
    assert carry(lane, order("read", place, "f")).evidence.facts["links"] == 2
    assert carry(lane, order("write", place, "f", b"mine")).code == "ok"


def test_delete_removes_a_file_and_a_folder_only_when_recursive(lane, place):
    (place / "d" / "e").mkdir(parents=True)
    (place / "d" / "e" / "f").write_bytes(b"x")
    (place / "g").write_bytes(b"x")
    assert carry(lane, order("delete", place, "g")).value == {"removed": 1}
    assert said(carry(lane, order("delete", place, "d"))) == ("failed", "not_regular")
    assert carry(lane, order("delete", place, "d", recursive=True)).value == {"removed": 3}
    assert list(place.iterdir()) == []
    assert said(carry(lane, order("delete", place, "d", recursive=True))) == ("failed", "not_found")


@pytest.mark.parametrize("verb", ["write", "append", "edit", "delete", "read"])
@pytest.mark.parametrize("path", [".", "./", "././/."])
def test_workspace_itself_is_no_file_to_work_on(verb, path, lane, place):
    assert said(carry(lane, order(verb, place, path, recursive=True))) == ("failed", "not_permitted")
    assert place.is_dir()


@pytest.mark.slow
def test_delete_removes_a_tree_of_any_depth(lane, place):
    here = os.open(place, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=here)
        with os.fdopen(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here), "w"):
            pass
        there = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    outcome = carry(lane, order("delete", place, "d", recursive=True))
    assert (outcome.code, outcome.value) == ("ok", {"removed": 600 + 599})
    assert [path.name for path in place.iterdir()] == ["f"]


def test_delete_says_how_much_is_gone_when_it_fails_in_the_middle(lane, place, monkeypatch):
    (place / "d").mkdir()
    for name in "abcdef":
        (place / "d" / name).write_bytes(b"x")
    genuine, calls = os.unlink, []

    def failing(name, *, dir_fd):
        calls.append(name)
        if len(calls) == 4:
            raise OSError(errno.EIO, "i/o error")
        genuine(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", failing)
    outcome = carry(lane, order("delete", place, "d", recursive=True))
    assert said(outcome) == ("failed", "io_error")
    assert outcome.evidence.facts["removed"] == 3
    assert "3 removed before" in outcome.message
    assert len(list((place / "d").iterdir())) == 3


def test_delete_stops_between_files_when_the_time_is_over(mechanism, place):
    (place / "d").mkdir()
    for name in "abcdef":
        (place / "d" / name).write_bytes(b"x")
    lane = FileLane(clock=RunningOutClock(3), mechanism=mechanism)
    outcome = carry(lane, order("delete", place, "d", recursive=True))
    assert said(outcome) == ("failed", "wall_limit")
    assert outcome.evidence.limit == "wall_ms"
    assert outcome.evidence.facts["removed"] == 6 - len(list((place / "d").iterdir())) == 2


def test_list_names_kinds_and_sizes_and_follows_no_link(lane, place, tmp_path):
    (place / "b").mkdir()
    (place / "b" / "c").write_bytes(b"123")
    (place / "a").symlink_to(tmp_path / "outside")
    os.mkfifo(place / "p")
    flat = carry(lane, order("list", place, ".")).value
    deep = carry(lane, order("list", place, ".", recursive=True)).value
    assert [(e["name"], e["kind"]) for e in flat["entries"]] == [("a", "link"), ("b", "folder"), ("p", "other")]
    assert [e["name"] for e in deep["entries"]] == ["a", "b", "b/c", "p"]
    assert deep["entries"][2] == {"name": "b/c", "kind": "file", "size": 3}
    assert flat["complete"] is True


def test_list_is_cut_and_says_so_when_there_is_too_much(lane, place):
    for number in range(300):
        (place / f"{number:03}").touch()
    outcome = carry(lane, order("list", place, ".", output_bytes_max=4_000))
    assert said(outcome) == ("failed", "output_limit")
    assert outcome.value["complete"] is False
    assert 0 < len(outcome.value["entries"]) < 300
    assert len(msgspec.json.encode(outcome.value["entries"])) <= 4_000


@pytest.mark.slow
def test_list_is_cut_when_there_are_more_entries_than_it_takes(lane, place):
    folder = os.open(place, os.O_RDONLY)
    for number in range(10_001):
        os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    outcome = carry(lane, order("list", place, "."))
    assert (outcome.code, outcome.evidence.limit, len(outcome.value["entries"])) == (
        "output_limit",
        "entries_max",
        10_000,
    )


def test_list_spells_out_names_that_are_not_utf_8(lane, place):
    os.close(os.open(os.fsencode(place) + b"/\xff\n", os.O_CREAT | os.O_WRONLY))
    outcome = carry(lane, order("list", place, "."))
    assert outcome.value["entries"][0]["name"] == "\\xff\n"
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome


def test_stat_tells_files_folders_links_and_nothing_apart(lane, place):
    (place / "f").write_bytes(b"abc")
    (place / "l").symlink_to("f")
    seen = carry(lane, order("stat", place, "f")).value
    assert (seen["exists"], seen["kind"], seen["size"]) == (True, "file", 3)
    assert seen["sha256"] == digest(b"abc")
    assert seen["modified_ms"] == (place / "f").stat().st_mtime_ns // 1_000_000
    assert carry(lane, order("stat", place, ".")).value["kind"] == "folder"
    assert carry(lane, order("stat", place, "l")).value["kind"] == "link"
    for path in ("none", "none/x", "f/x"):
        assert carry(lane, order("stat", place, path)).value == {"exists": False}


def test_stat_leaves_the_digest_out_when_the_file_is_large(lane, place):
    with (place / "f").open("wb") as file:
        file.truncate(67_108_865)
    assert "sha256" not in carry(lane, order("stat", place, "f")).value


def test_make_folder_makes_the_way_and_leaves_what_is_there(lane, place):
    assert carry(lane, order("make_folder", place, "a/b/c")).value == {"created": True}
    assert carry(lane, order("make_folder", place, "a/b/c")).value == {"created": False}
    assert carry(lane, order("make_folder", place, ".")).value == {"created": False}
    (place / "f").touch()
    assert said(carry(lane, order("make_folder", place, "f"))) == ("failed", "exists")
    assert said(carry(lane, order("make_folder", place, "f/g"))) == ("failed", "exists")


@pytest.mark.parametrize(
    ("verb", "path", "code"),
    [
        ("read", "none", "not_found"), ("read", "none/none", "not_found"), ("read", "d", "not_regular"),
        ("read", "f/x", "not_folder"), ("write", "d", "not_regular"), ("write", "f/x", "not_folder"),
        ("append", "d", "not_regular"), ("delete", "none", "not_found"), ("list", "f", "not_folder"),
        ("list", "none", "not_found"),
    ],
)  # fmt: skip
def test_verb_fails_with_a_word_of_its_own_when_it_meets_the_wrong_thing(verb, path, code, lane, place):
    (place / "d").mkdir()
    (place / "f").write_bytes(b"x")
    assert said(carry(lane, order(verb, place, path))) == ("failed", code)
    assert (place / "f").read_bytes() == b"x"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../outside/secret.txt", "outside_workspace"), ("..", "outside_workspace"), ("a/..", "outside_workspace"),
        ("a/../../outside", "outside_workspace"), ("./../ws/f", "outside_workspace"), ("/", "outside_workspace"),
        ("/etc/passwd", "outside_workspace"), ("//etc/passwd", "outside_workspace"), ("", "path_malformed"),
        ("a\0b", "path_malformed"), ("\0", "path_malformed"), ("f\0/../../outside/secret.txt", "path_malformed"),
        ("x" * 256, "path_malformed"), ("ü" * 128, "path_malformed"), ("d/" * 2_100 + "f", "path_malformed"),
        ("\udcff", "path_malformed"),
    ],
)  # fmt: skip
def test_path_is_refused_before_the_disk_is_touched_when_it_leads_out(verb, path, code, lane, place):
    outcome = carry(lane, order(verb, place, path, b"x", recursive=True))
    assert said(outcome) == ("failed", code)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["x" * 255, "ü" * 127, "a\\..\\b", "...", ".. ", "~", "$HOME", "-rf", "a\nb", "%2e%2e"]
)
def test_path_is_only_a_name_when_it_merely_looks_dangerous(path, lane, place):
    assert carry(lane, order("write", place, path, b"x")).code == "ok"
    assert [entry.name for entry in place.iterdir()] == [path]
    assert carry(lane, order("read", place, path)).value["text"] == "x"
    assert carry(lane, order("delete", place, path)).code == "ok"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "path", ["folder/secret.txt", "folder/new", "deep/er/folder/secret.txt", "self/folder/secret.txt"]
)
def test_link_on_the_way_is_refused_wherever_it_points(verb, path, lane, place, tmp_path):
    (place / "folder").symlink_to(tmp_path / "outside")
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "er" / "folder").symlink_to("../../../outside")
    (place / "self").symlink_to(".")
    assert said(carry(lane, order(verb, place, path, b"x", recursive=True))) == ("failed", "symlink_refused")


@pytest.mark.parametrize("verb", ["read", "write", "append", "edit", "list", "make_folder"])
@pytest.mark.parametrize(
    "target", ["../outside/secret.txt", "../outside", "../outside/new", "inside", "loop", "/proc/self/fd/0"]
)
def test_link_at_the_end_is_refused_wherever_it_points(verb, target, lane, place):
    (place / "inside").write_bytes(b"x")
    (place / "loop").symlink_to(target)
    assert said(carry(lane, order(verb, place, "loop", b"x"))) == ("failed", "symlink_refused")
    assert (place / "loop").is_symlink()
    assert (place / "inside").read_bytes() == b"x"


def test_delete_removes_links_and_never_what_they_point_to(lane, place, tmp_path):
    (place / "l").symlink_to(tmp_path / "outside")
    (place / "d").mkdir()
    (place / "d" / "l").symlink_to(tmp_path / "outside")
    (place / "d" / "m").symlink_to("../..")
    assert carry(lane, order("delete", place, "l", recursive=True)).value == {"removed": 1}
    assert carry(lane, order("delete", place, "d", recursive=True)).value == {"removed": 3}


@pytest.mark.parametrize("verb", ["read", "list"])
def test_magic_links_are_refused_when_the_workspace_holds_some(verb, lane):
    for path in ("root/etc/passwd", "cwd/x", "fd/0", "exe", "root"):
        assert said(carry(lane, order(verb, Path(f"/proc/{os.getpid()}"), path))) == ("failed", "symlink_refused")


@pytest.mark.parametrize("verb", ["read", "write", "append", "edit", "list", "stat", "delete"])
def test_special_file_neither_blocks_nor_opens(verb, lane, place):
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "sock"))
        for name in ("fifo", "sock"):
            outcome = carry(lane, order(verb, place, name, b"x"))
            code = {"list": "not_folder", "stat": "ok", "delete": "ok"}.get(verb, "not_regular")
            assert outcome.code == code
            if verb == "stat":
                assert outcome.value["kind"] == "other"


@pytest.mark.parametrize("name", ["null", "zero", "full", "tty", "random"])
@pytest.mark.parametrize("verb", ["read", "write", "append", "edit"])
def test_device_is_refused_when_it_lies_in_the_workspace(name, verb, lane):
    assert said(carry(lane, order(verb, Path("/dev"), name, b"x"))) == ("failed", "not_regular")


def test_fifo_swapped_in_for_a_file_does_not_block_the_open(mechanism, place, monkeypatch):
    os.mkfifo(place / "f")
    (place / "g").write_bytes(b"x")
    genuine = os.stat
    monkeypatch.setattr(os, "stat", lambda name, **more: genuine("g" if name == "f" else name, **more))
    outcome = carry(FileLane(clock=RealClock(), mechanism=mechanism), order("read", place, "f"))
    assert said(outcome) == ("failed", "not_regular")


@pytest.mark.parametrize(
    ("workspace", "code"),
    [("relative", "workspace_malformed"), ("", "workspace_malformed"), ("/nowhere/at/all", "not_found"),
     ("/etc/passwd", "workspace_malformed"), ("/proc/self/cwd", "workspace_malformed"), ("/\0", "workspace_malformed")],
)  # fmt: skip
@pytest.mark.parametrize("verb", VERBS)
def test_workspace_is_refused_when_it_is_no_folder_of_its_own(verb, workspace, code, lane):
    outcome = carry(lane, FileOrder(verb=verb, workspace=workspace, path="f"))
    assert said(outcome) == ("failed", code)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["read", "write", "append", "edit", "delete", "list", "make_folder"])
def test_nothing_escapes_when_a_folder_is_exchanged_for_a_link_in_a_race(verb, lane, place, tmp_path):
    """`way` is a folder in one moment and a link out of the workspace in the next, and never missing."""
    (place / "way").mkdir()
    (place / "way" / "file").write_text("inside")
    (place / "link").symlink_to(tmp_path / "outside")
    folder = os.open(place / "way", os.O_RDONLY)
    done = threading.Event()
    racing = threading.Thread(target=exchange_until, args=(done, place / "way", place / "link"))
    racing.start()
    codes: set[str] = set()
    reached = "edit_no_match" if verb == "edit" else "ok"
    path = {"list": "way", "make_folder": "way/new/folder"}.get(verb, "way/secret.txt")
    try:
        for number in range(50_000):
            os.close(os.open("secret.txt", os.O_CREAT, dir_fd=folder))
            outcome = carry_many(lane, order(verb, place, path, str(number).encode()))
            codes.add(outcome.code)
            assert outcome.value.get("text") != "secret"
            assert all(entry["name"] != "mark" for entry in outcome.value.get("entries", ()))
            if number > 500 and codes >= {reached, "symlink_refused"}:
                break
    finally:
        done.set()
        racing.join()
        os.close(folder)
    assert codes >= {reached, "symlink_refused"}
    assert codes <= {reached, "symlink_refused", "not_found"}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["read", "append"])
def test_nothing_escapes_when_a_file_is_exchanged_for_a_link_in_a_race(verb, lane, place, tmp_path):
    (place / "way").write_text("inside")
    (place / "link").symlink_to(tmp_path / "outside" / "secret.txt")
    done = threading.Event()
    racing = threading.Thread(target=exchange_until, args=(done, place / "way", place / "link"))
    racing.start()
    codes: set[str] = set()
    try:
        for number in range(50_000):
            outcome = carry_many(lane, order(verb, place, "way", b"."))
            codes.add(outcome.code)
            assert outcome.value.get("text") != "secret"
            if number > 500 and codes >= {"ok", "symlink_refused"}:
                break
    finally:
        done.set()
        racing.join()
    assert codes == {"ok", "symlink_refused"}


def exchange_until(done: threading.Event, one: Path, other: Path) -> None:
    """Exchange two names for each other, atomically, as fast as the kernel does it."""
    rename, exchange = ctypes.CDLL(None).renameat2, 2
    names = os.fsencode(one), os.fsencode(other)
    while not done.is_set():
        rename(-100, names[0], -100, names[1], exchange)


def carry_many(lane: FileLane, what: FileOrder) -> Outcome:
    """As `carry`, without a new event loop and thread for each of thousands of orders."""
    outcome = lane._perform(what, threading.Event())
    assert outcome is not None
    return outcome


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
hostile_names = names | st.sampled_from(["..", ".", "", "way", "way\0", "~", "secret.txt", "\udc80", "x" * 300])


@given(st.lists(hostile_names, max_size=6).map("/".join))
def test_parts_are_plain_names_or_the_path_is_refused(path):
    try:
        parts = parts_of(path)
    except Malformed as error:
        assert error.code in {"outside_workspace", "path_malformed"}  # noqa: PT017 (either way something is checked)
        return
    assert not path.startswith("/")
    assert all(part not in {"", ".", ".."} and "/" not in part and "\0" not in part for part in parts)
    assert os.path.normpath("/".join(parts) or ".") == os.path.normpath(path)


@pytest.mark.slow
@given(
    verb=st.sampled_from(VERBS),
    path=st.lists(hostile_names, min_size=1, max_size=5).map("/".join),
    recursive=st.booleans(),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_outside_stays_as_it_is_whatever_the_path(verb, path, *, recursive, lane, place, tmp_path):
    """`way` is a link out of the workspace, and may be anywhere in the path."""
    shutil.rmtree(place)
    place.mkdir()
    (place / "way").symlink_to(tmp_path / "outside")
    outcome = carry_many(lane, order(verb, place, path, b"x", recursive=recursive))
    assert outcome.evidence.facts["verb"] == verb
    assert snapshot(tmp_path / "outside") == {"secret.txt": b"secret", "mark": b""}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["outside", "ws"]


FILL_DISK = """
import asyncio, ctypes, os, resource, sys, time
from pathlib import Path
from typing import Any
from assent.execution.adapters.files import FileLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import FileOrder

class Clock:
    now_ms = staticmethod(lambda: 0)
    monotonic_ns = staticmethod(time.monotonic_ns)

def carry(verb, content):
    order = FileOrder(verb=verb, workspace=sys.argv[1], path="f", content=content)
    lane = FileLane(clock=Clock(), mechanism=sys.argv[2])
    return asyncio.run(lane.carry(order, floor=ConfinementClass.LOCAL_WEAK, on_event=lambda _: None)).code

if sys.argv[3] == "tmpfs":
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", sys.argv[1].encode(), b"tmpfs", 0, b"size=256k") != 0:
        sys.exit(77)
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (262144, 262144))
place = Path(sys.argv[1])
print(carry("write", b"old"), carry("write", b"x" * 1_000_000), carry("append", b"x" * 1_000_000))
print((place / "f").read_bytes().decode(), sorted(os.listdir(place)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["tmpfs", "rlimit"])
def test_old_content_stands_when_the_disk_is_full(limit, mechanism, place):
    """A real full disk (a small tmpfs in a mount namespace of its own), and a real limit on the size of a file."""
    inside = ["unshare", "--map-root-user", "--mount"] if limit == "tmpfs" else []
    done = subprocess.run(
        [*inside, sys.executable, "-c", FILL_DISK, str(place), mechanism, limit],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(beneath_module.__file__).parents[4])},
    )  # fmt: skip
    if limit == "tmpfs" and (done.returncode == 77 or "unshare failed" in done.stderr):
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace; the test with rlimit ran")
    assert done.stdout.splitlines() == ["ok no_space no_space", "old ['f']"], done.stderr


CRASH = """
import asyncio, os, signal, sys, time
from assent.execution.adapters.files import FileLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import FileOrder

class Clock:
    now_ms = staticmethod(lambda: 0)
    monotonic_ns = staticmethod(time.monotonic_ns)

genuine = getattr(os, sys.argv[3])
def crash(*given, **more):
    if sys.argv[4] == "after":
        genuine(*given, **more)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[3], crash)
order = FileOrder(verb="write", workspace=sys.argv[1], path="f", content=b"new content")
asyncio.run(FileLane(clock=Clock(), mechanism=sys.argv[2]).carry(
    order, floor=ConfinementClass.LOCAL_WEAK, on_event=lambda _: None))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "when", "content"),
    [
        ("write", "after", b"old"),
        ("fsync", "before", b"old"),
        ("rename", "before", b"old"),
        ("rename", "after", b"new content"),
    ],
)
def test_file_is_wholly_old_or_wholly_new_when_the_process_is_killed(call, when, content, mechanism, place):
    (place / "f").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(place), mechanism, call, when],
        check=False, env={**os.environ, "PYTHONPATH": str(Path(beneath_module.__file__).parents[4])},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert (place / "f").read_bytes() == content


@pytest.mark.parametrize(
    ("verb", "call"), [("write", "write"), ("write", "fsync"), ("write", "rename"), ("append", "write")]
)
def test_nothing_is_left_when_the_disk_fails_before_the_change_is_visible(verb, call, lane, place, monkeypatch):
    (place / "f").write_bytes(b"old")

    def failing(*_, **__):
        raise OSError(errno.EIO, "i/o error")

    monkeypatch.setattr(os, call, failing)
    outcome = carry_many(lane, order(verb, place, "f", b"new"))
    monkeypatch.undo()
    assert said(outcome) == ("failed", "io_error")
    assert snapshot(place) == {"f": b"old"}


@pytest.mark.parametrize(("verb", "fails_at"), [("write", 2), ("append", 1)])
def test_outcome_is_unknown_when_the_disk_fails_after_the_change_is_visible(verb, fails_at, lane, place, monkeypatch):
    (place / "f").write_bytes(b"old")
    calls: list[int] = []
    genuine = os.fsync

    def failing(fd: int) -> None:
        calls.append(fd)
        if len(calls) == fails_at:
            raise OSError(errno.EIO, "i/o error")
        genuine(fd)

    monkeypatch.setattr(os, "fsync", failing)
    assert said(carry_many(lane, order(verb, place, "f", b"new"))) == ("unknown", "io_error")


def test_append_takes_back_what_was_written_when_the_rest_fails(lane, place, monkeypatch):
    (place / "f").write_bytes(b"old")
    genuine = os.write

    def half(fd: int, data) -> int:
        if len(data) < 6:
            raise OSError(errno.ENOSPC, "no space")
        return genuine(fd, data[:3])

    monkeypatch.setattr(os, "write", half)
    outcome = carry_many(lane, order("append", place, "f", b"abcdef"))
    missing = carry_many(lane, order("append", place, "new", b"abcdef"))
    assert said(outcome) == said(missing) == ("failed", "no_space")
    assert snapshot(place) == {"f": b"old"}


def test_writing_says_that_it_failed_when_another_hand_exchanged_the_file(lane, place, monkeypatch):
    genuine = os.rename

    def overtaken(old, new, **dirs) -> None:
        genuine(old, new, **dirs)
        (place / "theirs").write_bytes(b"theirs")
        (place / "theirs").replace(place / "f")

    monkeypatch.setattr(os, "rename", overtaken)
    outcome = carry_many(lane, order("write", place, "f", b"mine"))
    assert said(outcome) == ("unknown", "io_error")


def test_not_permitted_is_said_when_the_kernel_forbids(lane, place, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr(os, "mkdir", forbidden)
    assert said(carry_many(lane, order("make_folder", place, "d"))) == ("failed", "not_permitted")


MOUNTED = """
import asyncio, ctypes, os, sys, time
from assent.execution.adapters.files import FileLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import FileOrder

class Clock:
    now_ms = staticmethod(lambda: 0)
    monotonic_ns = staticmethod(time.monotonic_ns)

place, outside = sys.argv[1], sys.argv[2]
if ctypes.CDLL(None).mount(outside.encode(), f"{place}/d/mounted".encode(), None, 4096, None) != 0:
    sys.exit(77)
lane = FileLane(clock=Clock(), mechanism=sys.argv[3])
def carry(verb, path):
    order = FileOrder(verb=verb, workspace=place, path=path, recursive=True)
    return asyncio.run(lane.carry(order, floor=ConfinementClass.LOCAL_WEAK, on_event=lambda _: None)).code
print(carry("read", "d/mounted/secret.txt"), carry("delete", "d"), carry("delete", "d/mounted"))
"""


@pytest.mark.slow
def test_delete_stays_on_its_mount_when_another_folder_is_bound_into_the_tree(mechanism, place, tmp_path):
    """A bind mount of the same file system: the device number does not give it away, the mount does."""
    (place / "d" / "mounted").mkdir(parents=True)
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", sys.executable, "-c", MOUNTED, str(place), str(tmp_path / "outside"),
         mechanism],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(beneath_module.__file__).parents[4])},
    )  # fmt: skip
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("this machine lets nobody bind a folder in a namespace of his own")
    assert done.stdout.split() == ["ok", "not_permitted", "not_permitted"], done.stderr


def test_no_descriptor_is_left_open_whatever_the_verb(lane, place):
    (place / "d").mkdir()
    (place / "f").write_bytes(b"x")
    (place / "l").symlink_to("..")
    carry_many(lane, order("stat", place, "f"))
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    for verb in VERBS:
        for path in ("f", "d", "l", "l/x", "none/x", "f/x", ".", ".."):
            carry_many(lane, order(verb, place, path, b"x", recursive=True))
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


class Paused:
    """Lets a test hold an operation at one system call."""

    def __init__(self, monkeypatch, name: str) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        genuine = getattr(os, name)

        def paused(*given, **more):
            self.reached.set()
            assert self.go_on.wait(10)
            return genuine(*given, **more)

        monkeypatch.setattr(os, name, paused)


def test_write_is_finished_and_told_truly_when_it_is_cancelled_at_the_last_step(lane, place, monkeypatch):
    pause = Paused(monkeypatch, "rename")

    async def cancelled() -> Outcome:
        what = order("write", place, "f", b"new")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(lane.carry(what, floor=ConfinementClass.BUILTIN, on_event=lambda _: None))
            await asyncio.to_thread(pause.reached.wait, 10)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()  # impatience changes nothing
            await asyncio.sleep(0)
            assert not task.done()
            pause.go_on.set()
        outcome: Outcome = task.result()
        return outcome

    assert said(asyncio.run(cancelled())) == ("succeeded", "ok")
    assert (place / "f").read_bytes() == b"new"


def test_write_leaves_the_old_content_when_it_is_cancelled_before_the_last_step(lane, place, monkeypatch):
    (place / "f").write_bytes(b"old")
    pause = Paused(monkeypatch, "fsync")

    async def cancelled() -> bool:
        what = order("write", place, "f", b"new")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(lane.carry(what, floor=ConfinementClass.BUILTIN, on_event=lambda _: None))
            await asyncio.to_thread(pause.reached.wait, 10)
            task.cancel()
            await asyncio.sleep(0)
            pause.go_on.set()
        return task.cancelled()

    assert asyncio.run(cancelled())
    assert snapshot(place) == {"f": b"old"}


def test_delete_says_what_is_gone_when_it_is_cancelled_in_the_middle(lane, place, monkeypatch):
    (place / "d").mkdir()
    for name in "abc":
        (place / "d" / name).write_bytes(b"x")
    pause = Paused(monkeypatch, "unlink")

    async def cancelled() -> Outcome:
        what = order("delete", place, "d", recursive=True)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(lane.carry(what, floor=ConfinementClass.BUILTIN, on_event=lambda _: None))
            await asyncio.to_thread(pause.reached.wait, 10)
            task.cancel()
            await asyncio.sleep(0)
            pause.go_on.set()
        outcome: Outcome = task.result()
        return outcome

    outcome = asyncio.run(cancelled())
    assert said(outcome) == ("failed", "cancelled")
    assert outcome.evidence.facts["removed"] == 1
    assert len(snapshot(place / "d")) == 2


def test_cancellation_goes_through_when_the_operation_never_began(lane, place):
    async def cancelled() -> None:
        loop = asyncio.get_running_loop()
        hold = threading.Event()
        busy = [loop.run_in_executor(None, hold.wait, 10) for _ in range(64)]
        task = loop.create_task(
            lane.carry(order("write", place, "f", b"x"), floor=ConfinementClass.BUILTIN, on_event=lambda _: None)
        )
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        hold.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*busy)

    asyncio.run(cancelled())
    assert list(place.iterdir()) == []


def test_loop_is_free_while_an_operation_waits_for_the_disk(lane, place, monkeypatch):
    pause = Paused(monkeypatch, "fsync")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(
                lane.carry(order("write", place, "f", b"x"), floor=ConfinementClass.BUILTIN, on_event=lambda _: None)
            )
            await asyncio.to_thread(pause.reached.wait, 10)
            quick = await lane.carry(
                order("make_folder", place, "."), floor=ConfinementClass.BUILTIN, on_event=lambda _: None
            )
            assert quick.code == "ok"
            assert not slow.done()
            pause.go_on.set()

    asyncio.run(both())


def test_lane_raises_when_it_gets_an_order_of_another_lane(lane):
    what = HttpOrder(method="GET", url="http://a.test/", hosts=())
    with pytest.raises(InvariantBroken):
        asyncio.run(lane.carry(what, floor=ConfinementClass.BUILTIN, on_event=lambda _: None))


def test_digest_is_of_the_bytes_on_disk_when_the_file_is_in_several_pieces(lane, place):
    content = os.urandom(2_500_000)
    (place / "f").write_bytes(content)
    value = carry(lane, order("stat", place, "f")).value
    assert value["sha256"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_walk_and_openat2_open_the_same_folder(place):
    (place / "a" / "b").mkdir(parents=True)
    seen = set()
    for mechanism in ("openat2", "walk"):
        root = Beneath(str(place), mechanism=mechanism)
        with root.folder(("a", "b")) as folder:
            seen.add(os.fstat(folder).st_ino)
        root.close()
    assert seen == {(place / "a" / "b").stat().st_ino}
