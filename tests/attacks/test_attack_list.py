"""The whole attack list against every class that works here, as an ordinary user and where Assent is root; the count
that each class blocks is printed, and the committed table is what happened.

`ASSENT_WRITE_MATRIX=1 pytest tests/attacks/test_attack_list.py` writes the table anew; where it says `either`, that
stays.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attacks import attack_list
from tests.attacks.attack_list import ALONE, BLOCKED, EITHER, LIST, NOT_USED, OPEN
from tests.attacks.scene import PLANTED, Scene
from tests.attacks.test_sandbox_attacks import A_LITTLE_MORE, THIRD_UID, scene_of
from tests.attacks.world import EXECUTION, SOURCES
from tests.components import need
from tests.execution.lane_world import DEADLINE_S
from tests.execution.ordinary_user import ORDINARY_UID

pytestmark = pytest.mark.slow
TOGETHER = tuple(probe for probe in LIST.values() if probe not in ALONE)
# Without a user namespace the kernel counts the user's other tasks too: a fork bomb is stopped, but not at its number.
STOPPED = {"local-weak": {"processes_max": 399}, "confined": {"processes_max": 399}}
CONFINING = ("confined", "namespaces", "bubblewrap", "container")
_SEEN: dict[tuple[str, str], dict[str, str]] = {}


def test_list_is_whole():
    assert len(LIST) == len(set(LIST.values())) == 35


def test_committed_table_is_drawn_as_it_is_read():
    text = attack_list.MATRIX.read_text(encoding="utf-8")
    assert attack_list.drawn(attack_list.read()) == text.partition("\n\n")[2]


def test_every_confining_class_blocks_all_and_nothing_else_nearly_does():
    """What the table promises, apart from any run."""
    matrix = attack_list.read()
    for (mechanism, user), row in matrix.items():
        unused = mechanism == "bubblewrap" and user == "root"
        assert set(row.values()) <= ({NOT_USED} if unused else {BLOCKED, OPEN, EITHER})
        if mechanism in CONFINING and not unused:
            assert attack_list.counted(row) == 35
        elif not unused:
            assert list(row.values()).count(OPEN) >= 11


@pytest.mark.parametrize("mechanism", ["local-weak", *CONFINING])
def test_class_blocks_what_the_table_says_when_everything_is_tried(lane, mechanism, capsys):
    need("bubblewrap", "runc")
    if (mechanism, lane.user) == ("bubblewrap", "root"):
        outcome = lane.run({"type": "process", "argv": ["true"], "workspace": "/tmp/x"}, mechanism=mechanism)
        assert outcome["code"] == "sandbox_failed"
        _SEEN[mechanism, lane.user] = dict.fromkeys(LIST, NOT_USED)
        return
    with _scene(lane, mechanism) as scene:
        broken, classes = _tried_in_lane(lane, scene, mechanism)
    name = mechanism if mechanism != "namespaces" else "namespaced"
    assert classes == {"namespaced" if mechanism == "bubblewrap" else name}
    _compare(mechanism, lane.user, broken, capsys)


def test_nothing_is_blocked_but_by_the_users_rights_when_a_bare_process_tries(capsys):
    for user in attack_list.USERS if os.geteuid() == 0 else ("ordinary",):
        _compare("bare", user, _tried_bare(user), capsys)


def test_table_is_written_when_that_is_asked_for():
    if os.environ.get("ASSENT_WRITE_MATRIX") == "1":
        known = attack_list.read() if attack_list.MATRIX.exists() else {}
        matrix = {
            column: {name: _kept(known, column, name) or seen[name] for name in LIST} for column, seen in _SEEN.items()
        }
        head = "# How each class answers the attack list. See test_attack_list.py for how to write it anew.\n\n"
        attack_list.MATRIX.write_text(head + attack_list.drawn(matrix), encoding="utf-8")


def _kept(known, column, name):
    return EITHER if known.get(column, {}).get(name) == EITHER else ""


def _compare(mechanism, user, broken, capsys):
    seen = {name: OPEN if probe in broken else BLOCKED for name, probe in LIST.items()}
    _SEEN[mechanism, user] = seen
    with capsys.disabled():
        print(f"\n{mechanism}, {user}: {attack_list.counted(seen)} of {len(LIST)} attacks blocked", end="")
    if os.environ.get("ASSENT_WRITE_MATRIX") != "1":
        expected = attack_list.read()[mechanism, user]
        assert {name for name in LIST if expected[name] not in (EITHER, seen[name])} == set(), sorted(broken)


@contextmanager
def _scene(lane, mechanism) -> Iterator[Scene]:
    """Victims with the very user that the mechanism's programs get."""
    if lane.user == "root" and mechanism == "namespaces":
        with scene_of(lane) as made:
            yield made
        return
    uid = THIRD_UID if lane.user == "root" else lane.uid
    made = Scene(owner=uid, attacker=uid)
    try:
        yield made
    finally:
        made.clear()


def _tried_in_lane(lane, scene, mechanism):
    more = STOPPED.get(mechanism, {})
    broken, classes = set(), set()
    for wanted in (TOGETHER, *((one,) for one in ALONE)):
        confined = mechanism != "local-weak"
        outcome = lane.run(scene.attack(*wanted, confined=confined, **more), floor="local-weak", mechanism=mechanism)
        classes.add(outcome["class"])
        assert outcome["code"] in ("ok", "memory_limit"), (
            wanted,
            outcome["code"],
            outcome["message"],
            outcome["value"],
        )
        if outcome["code"] == "ok":
            broken |= _won(scene, outcome["value"]["stdout"], wanted)
    return broken, classes


def _won(scene, stdout, wanted):
    said = json.loads(stdout.splitlines()[-1])
    assert set(said) == set(wanted)
    broken = scene.broken(stdout)
    assert not [name for name, how in broken.items() if how.startswith("not tried")], broken
    return set(broken)


def _tried_bare(user):
    """With no more than the user's own rights; a change of the host is a change to what it is already."""
    attacker = 0 if user == "root" else ORDINARY_UID if os.geteuid() == 0 else os.getuid()
    as_other = [str(EXECUTION / "ordinary_user.py")] if os.geteuid() == 0 and user == "ordinary" else []
    scene = Scene(owner=attacker, attacker=attacker)
    planted = os.open(scene.key, os.O_RDONLY)
    told = scene.target(*LIST.values(), confined=False, host_name=platform.node(), **A_LITTLE_MORE)
    try:
        said = subprocess.run(
            [sys.executable, *as_other, str(Path(__file__).parent / "probes.py")],
            input=json.dumps(told), capture_output=True, text=True, check=True, pass_fds=(planted,), cwd="/",
            timeout=DEADLINE_S, env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, "PLANTED": PLANTED},
        )  # fmt: skip
        return _won(scene, said.stdout, LIST.values())
    finally:
        for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            made = Path(folder, told["cgroup"])
            if made.is_dir():
                made.rmdir()
        os.close(planted)
        scene.clear()
