"""The project's own files, as the tests of this folder look at them."""

from __future__ import annotations

import ast
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PACKAGE = SRC / "assent"

NOT_OURS = frozenset({".git", ".venv", "build", "dist", "__pycache__"})


@cache
def project() -> dict[str, Any]:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package stands for its `__init__`."""
    return {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse(path.read_text(), filename=str(path))


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or would be, under version control; without git, every file outside caches."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
        found = [ROOT / name for name in names if name]
    else:
        found = [p for p in ROOT.rglob("*") if not NOT_OURS & set(p.parts) and "_cache" not in str(p)]
    return tuple(sorted(path for path in found if path.is_file()))


def dotted(path: Path) -> str:
    """`src/assent/ledger/__init__.py` → `assent.ledger`."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def text(path: Path) -> str:
    """A file's text, or nothing when it is not text."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""
