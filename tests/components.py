"""Real counterparts that come from the distribution, installed for the tests that need them."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "components.sh"


@cache
def _missing(*names: str) -> str:
    ran = subprocess.run([str(SCRIPT), *names], capture_output=True, text=True, check=False)
    return "" if ran.returncode == 0 else ran.stderr.strip() or f"{names} cannot be installed"


def need(*names: str) -> None:
    """Have these Debian packages, or skip and say why; where skips are refused (CI) that is a failure."""
    why = _missing(*names)
    if why:
        pytest.skip(why)
