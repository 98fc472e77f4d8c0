"""Options that every command takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command takes."""

    json: Annotated[bool, Parameter(negative="", help="Print one JSON document and nothing else on stdout.")] = False
    folder: Annotated[Path | None, Parameter(help="The folder that holds assent.toml (else: here or above).")] = None
