"""Installations to work in. Making one takes a moment, so one is made and then copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from assent.surfaces.cli.main import run
from tests.surfaces.commandline import Cli, Ran


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "home"
    assert run(["init", str(folder)]) == 0
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new installation, and the current folder."""
    folder = tmp_path / "home"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ASSENT_FOLDER", raising=False)
    monkeypatch.delenv("ASSENT_DEBUG", raising=False)
    return folder


@pytest.fixture
def cli(capsysbinary: pytest.CaptureFixture[bytes]) -> Cli:
    """Run a command inside this process."""

    def call(*words: str) -> Ran:
        capsysbinary.readouterr()
        code = run(list(words))
        written = capsysbinary.readouterr()
        ran = Ran(code, written.out.decode(), written.err.decode())
        assert "Traceback" not in ran.err + ran.out
        return ran

    return call


@pytest.fixture
def waiting(home: Path, cli: Cli) -> Callable[[], str]:
    """Ask for something that a person must approve; the review's id."""

    def ask() -> str:
        (home / "workspace" / "old.txt").write_text("old")
        ran = cli("do", "files.delete", "--path", "old.txt", "--json")
        assert ran.code == 4
        return str(ran.document["review"]["id"])

    return ask
