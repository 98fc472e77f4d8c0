"""The environment of this process. Nothing else in Assent reads it: what depends on it is given the value."""

from __future__ import annotations

import os
from collections.abc import Mapping


def environment() -> Mapping[str, str]:
    """The environment's variables."""
    return os.environ
