"""Large outputs: all of them kept, little of them held."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.sandboxes.keeping import HEAD_BYTES_MAX, Keeper

HUNDRED_MB = 100_000_000
QUICK = {"wall_ms": 60_000}


@pytest.mark.slow
@pytest.mark.parametrize("spoken_to", [False, True])
def test_hundred_megabytes_come_whole_in_constant_memory_when_a_program_writes_them(lane, place, spoken_to):
    before_kb = lane.carry(place.order("true"))["resident_kb"]
    program = "import os\nblock = b'0123456789abcdef' * 6250\nfor _ in range(1000):\n  os.write(1, block)"
    order = place.python(program, limits={"output_bytes_max": 2 * HUNDRED_MB, "cpu_s_max": 60, **QUICK})
    if spoken_to:
        answer = lane.steer(order)
        outcome = answer["outcome"]
    else:
        answer = lane.carry(order)
        outcome = answer["outcomes"][0]
    content = b"0123456789abcdef" * 6_250_000
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    value = outcome["value"]["stdout"]
    assert outcome["code"] == "ok"
    assert (value["artefact"], value["bytes"], len(value["head"])) == (digest, HUNDRED_MB, HEAD_BYTES_MAX)
    assert outcome["evidence"]["digests"]["stdout"] == digest
    kept = lane.state_dir / "artefacts" / digest[7:9] / digest[9:]
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest[7:]
    assert answer["resident_kb"] - before_kb < 20_000
    kept.unlink()


def test_output_is_its_own_value_when_it_fits_the_head(tmp_path):
    keeper = Keeper(ArtefactFolder(tmp_path / "artefacts", entropy=os.urandom), head_bytes_max=4)
    keeper.write(b"ab")
    keeper.write(b"cd")
    assert (keeper.value, keeper.bytes) == ("abcd", 4)
    assert not (tmp_path / "artefacts").exists()


async def _kept(keeper, *pieces):
    for piece in pieces:
        keeper.write(piece)
    await keeper.keep()
    return keeper.value


@pytest.mark.parametrize("content", [b"abcdefgh", "abcééé".encode(), b"\xff\xfe" * 8])
def test_whole_output_is_an_artefact_when_it_is_larger_than_the_head(tmp_path, content):
    folder = ArtefactFolder(tmp_path / "artefacts", entropy=os.urandom)
    value = asyncio.run(_kept(Keeper(folder, head_bytes_max=4), content[:3], content[3:]))
    assert value["bytes"] == len(content)
    assert folder.path(value["artefact"]).read_bytes() == content
    head = value["head"]
    assert content.startswith(head.encode() if isinstance(head, str) else b"\xff\xfe\xff\xfe")


def test_reason_is_told_when_the_artefact_cannot_be_written(tmp_path):
    (tmp_path / "artefacts").write_text("a file where the folder should be")
    keeper = Keeper(ArtefactFolder(tmp_path / "artefacts", entropy=os.urandom), head_bytes_max=4)
    value = asyncio.run(_kept(keeper, b"abcdefgh"))
    assert value == {"unkept": "file exists", "bytes": 8, "head": "abcd"}
    assert keeper.digest == "sha256:" + hashlib.sha256(b"abcdefgh").hexdigest()


def test_reason_is_told_when_there_is_nowhere_for_artefacts():
    value = asyncio.run(_kept(Keeper(head_bytes_max=4), b"abcdefgh"))
    assert value == {"unkept": "no folder for artefacts is set", "bytes": 8, "head": "abcd"}


def test_unfinished_artefact_is_dropped_when_it_is_not_kept(tmp_path):
    keeper = Keeper(ArtefactFolder(tmp_path / "artefacts", entropy=os.urandom), head_bytes_max=4)
    keeper.write(b"abcdefgh")
    assert len(list((tmp_path / "artefacts").iterdir())) == 1
    keeper.close()
    assert not list((tmp_path / "artefacts").iterdir())
