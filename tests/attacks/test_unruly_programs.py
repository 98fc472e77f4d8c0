"""Programs that will not be run as they should: they hang, stop themselves, shut their streams, flood, fight their
process 1, or come with words that cannot be carried. Each ends in a named way, and none is left."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from assent.execution.adapters.sandboxes.image import Image, check_order
from assent.execution.orders import Limits, ProcessOrder
from assent.execution.outcomes import Ending
from assent.primitives.errors import Malformed
from tests.attacks.world import PlantedLane
from tests.execution.lane_world import DAEMON, Place, processes_with

OUTPUT_BYTES = 100_000
UNRULY = {
    "stops_itself": ("kill -STOP $$", "wall_limit"),
    "stops_everybody": ("sleep 600 & kill -STOP -1; kill -STOP $$", "wall_limit"),
    "shuts_its_streams_and_hangs": ("exec <&- >&- 2>&-; sleep 600", "wall_limit"),
    "shuts_its_streams_and_ends": ("exec <&- >&- 2>&-; exit 3", "exit_nonzero"),
    "ignores_what_it_can": ("trap '' HUP INT QUIT TERM USR1 PIPE; sleep 600 & while :; do wait; done", "wall_limit"),
    "starts_another_when_asked_to_stop": ("trap 'setsid sleep 600 &' TERM; while :; do sleep 0.05; done", "wall_limit"),
    "kills_its_process_one": ("trap '' TERM; for s in 9 19 11 15 10; do kill -$s 1; done; exit 5", "exit_nonzero"),
    "floods_both_streams": ("yes out & yes err >&2", "output_limit"),
    "floods_and_leaves_the_flooders": ("setsid yes & setsid yes >&2 & sleep 600", "output_limit"),
    "removes_its_own_folder": ("mkdir d; cd d; rmdir ../d; exec sleep 0", "ok"),
}  # fmt: skip


def limits_of(code: str) -> dict[str, int]:
    """Little time for what will not end by itself, and enough on any machine for what will."""
    return {"wall_ms": 700 if code == "wall_limit" else 20_000, "output_bytes_max": OUTPUT_BYTES}


@pytest.fixture(scope="module")
def unruly(lane: PlantedLane) -> Iterator[dict[str, tuple[dict[str, Any], list[int]]]]:
    """All of them at once: how each ended, and what was left of it."""
    place, marker = Place(lane.uid), f"assent-unruly-{secrets.token_hex(8)}"
    orders = [
        place.order("sh", "-c", program, marker, env={"MARKER": f"{marker}-{name}"}, limits=limits_of(code))
        for name, (program, code) in UNRULY.items()
    ]
    outcomes = lane.carry(*orders)["outcomes"]
    left = {name: processes_with(f"{marker}-{name}") for name in UNRULY}
    yield {name: (outcome, left[name]) for name, outcome in zip(UNRULY, outcomes, strict=True)}
    shutil.rmtree(place.folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNRULY)
def test_program_ends_in_a_named_way_and_whole_when_it(unruly, name):
    outcome, left = unruly[name]
    code = UNRULY[name][1]
    assert outcome["code"] == code, outcome["message"]
    assert outcome["evidence"]["facts"]["death"]["proved_by"] == "pidfd"
    assert left == []
    if code == "output_limit":
        assert len(outcome["value"]["stdout"]) + len(outcome["value"]["stderr"]) == OUTPUT_BYTES


@pytest.mark.slow
def test_run_is_over_with_its_program_when_a_daemon_keeps_a_pipe_of_it(lane, place, marker):
    """A pipe that the program made itself, and its output, both held open by what it left behind."""
    program = "import os\nreading, writing = os.pipe()\nos.set_inheritable(writing, True)\n" + DAEMON
    outcome = lane.run(place.python(program, marker, limits={"wall_ms": 20_000}))
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "left\n")
    assert outcome["evidence"]["ended_at_ms"] - outcome["evidence"]["started_at_ms"] < 10_000
    assert processes_with(marker) == []


WORDS = [
    "new\nline",
    "tab\tand \\ and '\"$(id)`id`",
    "\u202egnp.exe",
    "größe-名前-🦊",
    " ",
    "",
    "-rf",
    "\x01\x1b[31m",
    "x" * 100_000,
]


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_word_arrives_as_it_was_written_when_it_is_strange(lane, place, word):
    program = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]) + b'|' + os.environb[b'WORD'])"
    outcome = lane.run(place.python(program, word, env={"WORD": word}))
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", f"{word}|{word}"), outcome["value"]


@pytest.mark.parametrize("name", ["new\nline", "größe 名前", "-rf", "a'b\"c"])
def test_program_starts_in_its_folder_when_that_has_a_strange_name(lane, place, name):
    (place.workspace / name).mkdir()
    outcome = lane.run(place.order("pwd", cwd=name))
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", f"{place.workspace}/{name}\n")


@pytest.mark.parametrize("fields", [{"argv": ["true", "x" * 1_048_576]}, {"env": {"X": "x" * 1_048_576}}])
def test_program_is_not_run_when_its_words_are_more_than_the_kernel_takes(lane, place, fields):
    outcome = lane.run({**place.order("true"), **fields})
    assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "program_missing")
    assert "argument list too long" in outcome["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"argv": ["sh", "-c", "touch ran", "nul\0"]},
        {"argv": ["touch", "half \ud800"]},
        {"argv": ["touch", "\udcff"]},
        {"env": {"X": "\udfff"}},
        {"env": {"\ud800": "x"}},
        {"cwd": "\ud800"},
        {"cwd": "a\0b"},
        {"workspace": "/tmp/\ud800"},
        {"workspace": "/tmp/a\0b"},
    ],
)
def test_order_is_refused_in_words_and_nothing_runs_when_a_word_cannot_be_carried(lane, place, fields):
    order = {**place.order("touch", "ran"), **fields}
    with pytest.raises(Malformed):
        check_order(ProcessOrder(argv=tuple(order.pop("argv")), workspace=order.pop("workspace"), **_known(order)))
    outcome = lane.run({**place.order("touch", "ran"), **fields})
    assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "order_malformed")
    assert list(place.workspace.iterdir()) == []


@pytest.mark.parametrize("value", [-1, -2, 2**63, 10**25])
@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_nothing_runs_when_a_limit_would_be_none_to_the_kernel(lane, place, name, value):
    for options in ({}, {"mechanism": "local-weak", "floor": "local-weak"}):
        outcome = lane.run(place.order("touch", "ran", limits={name: value}), **options)
        assert (outcome["ending"], outcome["code"]) == (Ending.FAILED, "order_malformed")
        assert name in outcome["message"]
    assert list(place.workspace.iterdir()) == []


@pytest.mark.parametrize("name", ["memory_bytes_max", "file_bytes_max"])
def test_private_folders_are_bounded_when_a_limit_is_nought(tmp_path, name):
    """To tmpfs, a size of nought means no limit."""
    order = ProcessOrder(argv=("true",), workspace=str(tmp_path), limits=Limits(**{name: 0}))
    image = Image()
    plan = image.specification(order, uid=1, gid=1, sources={}, workspace=image.workspace(order))
    assert [mount[2] for mount in plan["mounts"] if mount[1] == "tmpfs"] == [4096, 4096]


def _known(order):
    return {name: order[name] for name in ("env", "cwd") if name in order}
