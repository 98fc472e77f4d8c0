"""Where secrets are kept until they are needed: `env:NAME` and `file:/absolute/path`."""

from __future__ import annotations

from assent.execution.adapters.secrets.drivers import SecretDrivers

__all__ = ["SecretDrivers"]
