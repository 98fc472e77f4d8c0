"""Which release this is. The lowest layer knows, because lanes tell it to whom they speak with."""

from __future__ import annotations

__version__ = "0.1.0"
