"""The yardsticks' own virtual environment, made when first needed, so that the core's stays light."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
HOME = Path(__file__).resolve().parents[2] / "build" / "yardsticks"


def python() -> str:
    """The interpreter of an environment with exactly what `requirements.txt` says."""
    made = HOME / hashlib.sha256(f"{sys.version}\n{REQUIREMENTS.read_text()}".encode()).hexdigest()[:12]
    interpreter = made / "bin" / "python"
    if not (made / "complete").exists():
        print(f"  making an environment with {REQUIREMENTS.name} (once; about half a minute)", flush=True)
        shutil.rmtree(HOME, ignore_errors=True)
        _quietly([sys.executable, "-m", "venv", "--without-pip", str(made)])
        _quietly(
            [
                sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet", "--no-deps",
                "--disable-pip-version-check", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS),
            ]
        )  # fmt: skip
        (made / "complete").touch()
    return str(interpreter)


def _quietly(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        hint = "has this Python a pip, and does pip reach its registry?"
        sys.exit(f"the yardsticks' environment could not be made ({hint}):\n{done.stderr}")
