"""How many files this process may have open: as many as the operating system lets it."""

from __future__ import annotations

import resource


def raise_open_files_limit() -> int:
    """Raise the soft limit to the hard one; the limit that holds now. Each running program takes a handful."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
