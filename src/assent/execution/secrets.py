"""Secrets: values that go into one header of one request and nowhere else. Pure.

What is written down, shown or put in a message is the handle's name. Whatever comes back is scrubbed of the value, in
the spellings in which servers repeat what they were sent: as it is, in base64, and percent-encoded.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable
from typing import Any, NoReturn
from urllib.parse import quote

from msgspec.structs import replace

from assent.execution.outcomes import Outcome
from assent.primitives.errors import Malformed

SECRET_CHARACTERS_MIN = 8
SECRET_CHARACTERS_MAX = 8_192
REPLACEMENT = b"[secret]"


OWN_MARK = "assent_tok_"
OWN_TOKEN = re.compile(r"assent_tok_[0-9a-f]{28}_[A-Za-z0-9_-]{43}")
"""Tokens that people make here: nobody has to know one to see that it is one."""


class Secret:
    """One value. It has no text, no copy, no encoding: `expose` is the one way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Raises Malformed: `credential_unusable`: it cannot stand in a header, or is too short to be found again."""
        if not SECRET_CHARACTERS_MIN <= len(value) <= SECRET_CHARACTERS_MAX:
            raise Malformed(
                "credential_unusable",
                f"a credential has {SECRET_CHARACTERS_MIN} to {SECRET_CHARACTERS_MAX} characters",
                hint="a shorter one could not be kept out of the record",
            )
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            raise Malformed("credential_unusable", "a credential holds a character that no header carries")
        self._value = value

    def expose(self) -> str:
        """The value itself, for the header it goes into."""
        return self._value

    def __repr__(self) -> str:
        return "Secret([secret])"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> NoReturn:
        raise TypeError("a secret has no hash")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be copied or serialised")


def spellings(secret: Secret) -> set[str]:
    """How a value may be found written: as it is, in base64, percent-encoded."""
    value = secret.expose()
    return {value, base64.b64encode(value.encode()).rstrip(b"=").decode(), quote(value, safe="")}


class Redactor:
    """Takes every secret that was ever revealed here out of what is to be written down or told to a model.

    It keeps a careless word from being kept for ever. It is no boundary: whoever may read a secret and wants it out can
    spell it in a way that nobody looks for.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._spellings: tuple[str, ...] = ()
        for secret in secrets:
            self.know(secret)

    def know(self, secret: Secret) -> None:
        """Look for this one too."""
        forms = spellings(secret)
        if not forms <= set(self._spellings):
            self._spellings = tuple(sorted({*self._spellings, *forms}, key=len, reverse=True))

    def text(self, text: str) -> str:
        """A text without secrets."""
        for one in self._spellings:
            if one in text:
                text = text.replace(one, REPLACEMENT.decode())
        return OWN_TOKEN.sub(REPLACEMENT.decode(), text) if OWN_MARK in text else text

    def value(self, value: Any) -> Any:  # noqa: ANN401 (a JSON value)
        """A JSON value without secrets; the very same one when it holds none."""
        return self._redacted(value) if self.holds(value) else value

    def holds(self, value: object) -> bool:
        """Whether a secret stands anywhere in a JSON value."""
        match value:
            case str():
                known = any(one in value for one in self._spellings)
                return known or (OWN_MARK in value and OWN_TOKEN.search(value) is not None)
            case dict():
                return any(self.holds(key) or self.holds(one) for key, one in value.items())
            case list() | tuple():
                return any(map(self.holds, value))
            case _:
                return False

    def outcome(self, outcome: Outcome) -> Outcome:
        """An outcome without secrets. That something was taken out is one of its facts."""
        if not (self.holds(outcome.value) or self.holds(outcome.message) or self.holds(outcome.evidence.facts)):
            return outcome
        evidence = outcome.evidence
        facts = {**self._redacted(evidence.facts), "redacted": True}
        return replace(
            outcome, message=self.text(outcome.message), value=self._redacted(outcome.value),
            evidence=replace(evidence, facts=facts),
        )  # fmt: skip

    def _redacted(self, value: Any) -> Any:  # noqa: ANN401 (a JSON value)
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(key): self._redacted(one) for key, one in value.items()}
            case list() | tuple():
                return [self._redacted(one) for one in value]
            case _:
                return value


class Scrubber:
    """Takes secrets out of a stream of bytes. What may be the beginning of one is held back until it is known."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._spellings: list[bytes] = []
        self._held = b""
        for secret in secrets:
            self.know(secret)

    def know(self, secret: Secret) -> None:
        """Look for this one too."""
        forms = {one.encode() for one in spellings(secret)}
        self._spellings = sorted({*self._spellings, *forms}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text without secrets."""
        for one in self._spellings:
            text = text.replace(one.decode(), REPLACEMENT.decode())
        return text

    def feed(self, piece: bytes) -> bytes:
        """What of the stream is certain by now, scrubbed."""
        if not self._spellings:
            return piece
        data = self._held + piece
        for one in self._spellings:
            data = data.replace(one, REPLACEMENT)
        keep = max((self._begun(data, one) for one in self._spellings), default=0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        """What was held back and turned out to be no secret."""
        rest, self._held = self._held, b""
        return rest

    @staticmethod
    def _begun(data: bytes, secret: bytes) -> int:
        """How long a beginning of `secret` the end of `data` is."""
        for size in range(min(len(secret) - 1, len(data)), 0, -1):
            if data.endswith(secret[:size]):
                return size
        return 0
