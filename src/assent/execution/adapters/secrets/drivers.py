"""The drivers of handles. A value is read anew each time it is needed, and kept nowhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from assent.execution.secrets import SECRET_CHARACTERS_MAX, Redactor, Secret
from assent.primitives.errors import NotFound, Refused


class SecretDrivers:
    """Reveals what handles name (`execution.ports.Secrets`). `environment` is where `env:` looks; `redactor` comes to
    know whatever is revealed."""

    def __init__(self, *, environment: Mapping[str, str], redactor: Redactor | None = None) -> None:
        self._environment = environment
        self._redactor = redactor or Redactor()

    def reveal(self, handle: str) -> Secret:
        """The secret behind a handle."""
        kind, _, name = handle.partition(":")
        if kind == "env":
            value = self._environment.get(name, "")
        elif kind == "file" and name.startswith("/"):
            value = _read(Path(name))
        else:
            raise _missing(handle, "handles look like `env:NAME` or `file:/absolute/path`")
        if not value:
            raise _missing(handle, "set it, or name another credential in `assent.toml`")
        secret = Secret(value)
        self._redactor.know(secret)
        return secret


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        what = (error.strerror or "no reason given").lower()
        raise _missing(f"file:{path}", f"it cannot be read: {what}") from error
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o077:
            raise Refused(
                "credential_open", f"`{path}` is not a file that only its owner may read", hint="chmod 600 it"
            )
        data = file.read(SECRET_CHARACTERS_MAX + 2)
    return data.decode(errors="replace").removesuffix("\n").removesuffix("\r")


def _missing(handle: str, hint: str) -> NotFound:
    return NotFound("credential_missing", f"there is no credential `{handle[:120]}`", hint=hint)
