"""`assent checkpoint`, and what a kept checkpoint is good for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.surfaces.commandline import process

pytestmark = pytest.mark.slow


def test_checkpoint_shows_a_rolled_back_record_when_it_was_kept_elsewhere(tmp_path: Path) -> None:
    assert process("init", cwd=tmp_path).code == 0
    shutil.copytree(tmp_path / ".assent", tmp_path / "earlier")
    assert process("do", "files.write", "--path", "a.txt", "--content", "one", cwd=tmp_path).code == 0
    kept = process("checkpoint", cwd=tmp_path)
    assert kept.code == 0
    elsewhere = tmp_path / "kept.txt"
    elsewhere.write_text(kept.out)
    assert process("verify", "--checkpoint", str(elsewhere), cwd=tmp_path).code == 0

    shutil.rmtree(tmp_path / ".assent")
    shutil.move(tmp_path / "earlier", tmp_path / ".assent")
    assert process("verify", cwd=tmp_path).code == 0  # an older state, whole in itself
    rolled_back = process("verify", "--checkpoint", str(elsewhere), cwd=tmp_path)
    assert rolled_back.code == 1
    assert "missing" in rolled_back.out


def test_checkpoint_answers_with_the_note_when_json_is_asked_for(tmp_path: Path) -> None:
    assert process("init", cwd=tmp_path).code == 0
    note = process("checkpoint", "--json", cwd=tmp_path).document["checkpoint"]
    assert note in (tmp_path / ".assent" / "checkpoints.txt").read_text()
    assert note.startswith("assent/")
