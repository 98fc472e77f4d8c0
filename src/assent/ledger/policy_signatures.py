"""Signatures of policy revisions: Ed25519 over the digest that names one. Pure apart from the keys it is given.

A signature file says which revision is signed, and by whom, a line for each:

    assent-policy/v1
    sha256:9f2c…
    ann+1c2d3e4f+<key in base 64> <signature in base 64>

What is signed are its first two lines. Each line names its whole key, so the record can be verified where nobody knows
the settings; whom to believe is another question, and `Signers` is its answer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Final

import msgspec

from assent.ledger.checkpoints import Signer, VerifierKey
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed, Refused

HEAD: Final = "assent-policy/v1"
SIGNATURES_MAX: Final = 32
LINE_CHARACTERS_MAX: Final = 1_024


class SignedRevision(msgspec.Struct, frozen=True, kw_only=True):
    """A revision and the lines under it, read but not yet believed."""

    revision: Digest
    lines: tuple[str, ...] = ()

    def text(self) -> str:
        """The signature file."""
        return "\n".join((HEAD, self.revision, *self.lines)) + "\n"

    def signed(self, signer: Signer) -> SignedRevision:
        """The same with the line of `signer`, once."""
        line = _line(signer.key, signer.sign(_statement(self.revision)).signature)
        others = tuple(one for one in self.lines if not one.startswith(signer.key.encode() + " "))
        return SignedRevision(revision=self.revision, lines=(*others, line))


class Signers(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signatures count, and how many a revision needs. Without any key none is needed."""

    keys: tuple[VerifierKey, ...] = ()
    needed: int = 1

    def lacking(self, revision: str, lines: Iterable[str]) -> str:
        """What `revision` lacks to be put in force, as a sentence; empty when it lacks nothing."""
        if not self.keys:
            return ""
        try:
            signed = {key.public for key in holders(revision, lines)}
        except (Malformed, Refused) as error:
            return error.message
        count = sum(key.public in signed for key in self.keys)
        if count >= self.needed:
            return ""
        names = ", ".join(f"`{key.name}`" for key in self.keys)
        return f"{count} of {names} signed `{revision[:19]}…`, and it takes {self.needed}"


def parse(text: str) -> SignedRevision:
    """Read a signature file. Nothing is verified.

    Raises:
        Malformed: `signature_malformed`.
    """
    head, revision, *lines = [*text.splitlines(), "", ""]
    lines = [line for line in lines if line]
    if head != HEAD or not revision or len(lines) > SIGNATURES_MAX:
        raise _malformed(
            f"a signature file begins with `{HEAD}` and a revision, and has at most {SIGNATURES_MAX} lines"
        )
    return SignedRevision(revision=Digest(revision), lines=tuple(lines))


def holders(revision: str, lines: Iterable[str]) -> tuple[VerifierKey, ...]:
    """Whose signatures over `revision` the lines are.

    Raises:
        Malformed: `signature_malformed`.
        Refused: `signature_forged`: a line is not by the key that it names.
    """
    found: dict[bytes, VerifierKey] = {}
    for line in lines:
        name, _, encoded = line.partition(" ")
        if len(line) > LINE_CHARACTERS_MAX:
            raise _malformed("a line is too long")
        key = VerifierKey.decode(name)
        try:
            signature = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _malformed(f"`{encoded[:40]!a}` is not base 64") from error
        if line != _line(key, signature):
            raise _malformed("a line has another spelling than its own")
        if not key.signed(_statement(revision), signature):
            raise Refused(
                "signature_forged", f"a signature that claims to be by `{key.name}` is not one of `{revision[:19]}…`",
                hint="sign the files as they are now with `assent policy sign`",
            )  # fmt: skip
        found[key.public] = key
    return tuple(found.values())


def _statement(revision: str) -> bytes:
    return f"{HEAD}\n{revision}\n".encode()


def _line(key: VerifierKey, signature: bytes) -> str:
    return f"{key.encode()} {base64.b64encode(signature).decode('ascii')}"


def _malformed(why: str) -> Malformed:
    return Malformed("signature_malformed", why, hint="make it anew with `assent policy sign`")
