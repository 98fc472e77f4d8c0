"""The log's key and the file of kept checkpoints, on disks and in folders that do not do as they are told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assent.bootstrap.anchors import AnchorFile
from assent.bootstrap.keys import log_identity
from assent.bootstrap.system import SystemEntropy
from assent.primitives.errors import Unavailable


def test_log_identity_is_the_same_at_every_start(tmp_path: Path) -> None:
    first = log_identity(tmp_path / "keys", entropy=SystemEntropy())
    again = log_identity(tmp_path / "keys", entropy=SystemEntropy())
    assert first.log_id == again.log_id
    assert first.signer.key == again.signer.key
    assert (tmp_path / "keys" / "log.pub").read_text().strip() == first.signer.key.encode()
    assert sorted(file.name for file in (tmp_path / "keys").iterdir()) == ["log.key", "log.pub"]
    assert (tmp_path / "keys" / "log.key").stat().st_mode & 0o777 == 0o600


def test_log_identity_is_one_when_an_earlier_start_was_killed_halfway(tmp_path: Path) -> None:
    (tmp_path / "log.1234").write_text("half a ke")
    assert log_identity(tmp_path, entropy=SystemEntropy()).log_id


def test_log_identity_refuses_a_key_that_others_may_read(tmp_path: Path) -> None:
    log_identity(tmp_path, entropy=SystemEntropy())
    (tmp_path / "log.key").chmod(0o644)
    with pytest.raises(Unavailable, match="others may read") as refused:
        log_identity(tmp_path, entropy=SystemEntropy())
    assert refused.value.code == "key_unreadable"


@pytest.mark.parametrize("text", ["", "one", "a b c", "0011 zz", "0011 00"])
def test_log_identity_says_so_when_the_key_is_damaged_and_never_shows_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.key").write_text(text)
    (tmp_path / "log.key").chmod(0o600)
    with pytest.raises(Unavailable) as refused:
        log_identity(tmp_path, entropy=SystemEntropy())
    assert refused.value.code == "key_unreadable"


def test_log_identity_says_so_when_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "in_the_way").write_text("")
    with pytest.raises(Unavailable) as refused:
        log_identity(tmp_path / "in_the_way" / "keys", entropy=SystemEntropy())
    assert refused.value.code == "key_unwritable"


def test_anchor_file_keeps_notes_in_order(tmp_path: Path) -> None:
    anchors = AnchorFile(tmp_path / "checkpoints.txt")
    anchors.keep(["one\n", "two\n"])
    anchors.keep(["three\n"])
    assert anchors.path.read_text() == "one\n\ntwo\n\nthree\n\n"
    assert not anchors.fault


def test_anchor_file_keeps_no_half_note_when_the_disk_is_full(tmp_path: Path) -> None:
    """In a process of its own: the limit on file sizes is a process's, and cannot be raised again."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from assent.bootstrap.anchors import AnchorFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "anchors = AnchorFile(Path(sys.argv[1]))\n"
        "anchors.keep(['whole\\n'])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "anchors.keep(['x' * 100])\n"
        "assert anchors.fault\n"
    )
    path = tmp_path / "checkpoints.txt"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert path.read_text() == "whole\n\n"


def test_anchor_file_remembers_the_fault_when_it_cannot_write(tmp_path: Path) -> None:
    anchors = AnchorFile(tmp_path / "missing" / "checkpoints.txt")
    anchors.keep(["one\n"])
    assert "missing" in anchors.fault
    (tmp_path / "missing").mkdir()
    anchors.keep(["two\n"])
    assert not anchors.fault
