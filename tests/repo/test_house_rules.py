"""The rules of tests/conftest.py hold: a test that leaves the machine fails, and so does a skip where it is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.sources import ROOT

LEAVES = """
import contextlib, socket

def test_connects_elsewhere_and_swallows_the_error():
    with contextlib.suppress(OSError), socket.socket() as s:
        s.connect(("192.0.2.1", 9))
"""

STAYS = """
import socket

def test_talks_to_itself():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
"""

RESOLVES = """
import socket, pytest

def test_finds_no_name():
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.test", 80)
"""

SKIPS = """
import pytest

def test_cannot_run_here():
    pytest.skip("no such device")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "refuse_skips", "code_expected"),
    [(STAYS, "1", 0), (RESOLVES, "1", 0), (LEAVES, "", 1), (SKIPS, "", 0), (SKIPS, "1", 1)],
    ids=["stays", "resolves", "leaves", "skips", "skips_where_refused"],
)
def test_run_ends_as_the_rules_say(code: str, refuse_skips: str, code_expected: int, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "ASSENT_REFUSE_SKIPS": refuse_skips}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code_expected, done.stdout
