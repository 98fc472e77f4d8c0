"""The three roots of every error that crosses an edge, and their stable codes.

    AssentError
    ├── Refused          the answer is no; asking again unchanged gives the same answer
    │   ├── Malformed    the words could not be read as what they claim to be
    │   ├── NotFound     no such thing in this tenant (a foreign id answers the same)
    │   └── Conflict     another fact already stands where this one wanted to stand
    ├── Unavailable      try later: something needed is locked, full, absent or too slow
    └── InvariantBroken  a bug or tampering: stop, fail closed

Messages are lower case, quote the offending value in backticks and say what to do next. They never hold a secret.
"""

from __future__ import annotations


class AssentError(Exception):
    """Root of every error Assent raises on purpose.

    `code` is stable and documented; `message` is for people; `hint` says what to do next.
    """

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class Refused(AssentError):
    """The answer is no."""


class Malformed(Refused):
    """The input could not be read as what it claims to be; nothing was done."""


class NotFound(Refused):
    """No such thing in this tenant."""


class Conflict(Refused):
    """Another fact already stands where this one wanted to stand."""


class Unavailable(AssentError):
    """Something needed is locked, full, absent or too slow: try later."""


class InvariantBroken(AssentError):
    """A bug or tampering was found: stop and fail closed."""
