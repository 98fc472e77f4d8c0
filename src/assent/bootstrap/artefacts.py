"""Where an installation keeps large outputs, and how one is found there."""

from __future__ import annotations

import re
from pathlib import Path

from assent.bootstrap.system import SystemEntropy
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.primitives.digests import Digest
from assent.primitives.errors import NotFound

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


def kept_artefact(data: Path, digest: str) -> Path:
    """The file that holds the output with `digest`, with or without its `sha256:`.

    Raises:
        NotFound: `artefact_unknown`.
    """
    found = _DIGEST.fullmatch(digest)
    if found is not None:
        folder = ArtefactFolder(data / "artefacts", entropy=SystemEntropy())
        path = folder.path(Digest(f"sha256:{found[1]}"))
        if path.is_file():
            return path
    raise NotFound("artefact_unknown", f"no output `{digest[:80]}` is kept here", hint="`assent explain` names them")
