"""Signed tree heads: C2SP `tlog-checkpoint` in C2SP `signed-note`, Ed25519. Pure apart from the keys it is given.

A checkpoint says that the log `origin` had `size` entries under `root`. Its text is three lines; a note is that text,
an empty line, and one line for every signature over the text:

    assent/<log id>/<tenant>
    1204
    <root in base 64>

    — assent/<log id> <key id and signature in base 64>

The log's own key signs first. Witnesses, who keep the heads they saw and check that each continues the last, add lines
of the same kind. A signature line names its key and carries four bytes of the hash of name and key, so a reader finds
the lines it can check and ignores the others; a line that claims to be by a known key and is not spoils the whole note.

A note has one spelling here: anything but the exact three lines, the number without leading zeros and the base 64 with
its padding is refused, also the extension lines the standard leaves open, which this log never writes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final, NoReturn

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from assent.ledger.merkle import HASH_BYTES
from assent.primitives.errors import Malformed, Refused
from assent.primitives.ids import TenantId

ED25519: Final = b"\x01"
NOTE_CHARACTERS_MAX: Final = 64 * 1024
SIGNATURES_MAX: Final = 32
SIZE_MAX: Final = 2**63 - 1

_NAME = re.compile(r"[^\s+\x00-\x1f\x7f\ud800-\udfff]{1,255}\Z")
_ORIGIN = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,512}\Z")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")
_KEY_ID = re.compile(r"[0-9a-f]{8}\Z")


def origin(*, log_id: str, tenant: TenantId) -> str:
    """The origin line of a tenant's checkpoints."""
    return f"{key_name(log_id=log_id)}/{tenant}"


def key_name(*, log_id: str) -> str:
    """The name of the key that signs all checkpoints of a log."""
    return f"assent/{log_id}"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log `origin` had `size` entries, and `root` was the root of their Merkle tree."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not _ORIGIN.match(self.origin):
            raise Malformed("checkpoint_malformed", f"`{self.origin[:80]!a}` is not an origin line")
        if not 0 <= self.size <= SIZE_MAX or len(self.root) != HASH_BYTES:
            raise Malformed("checkpoint_malformed", "a checkpoint needs a size and a root of 32 bytes")

    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signature line: whose it claims to be, and the bytes."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """The line as it stands in a note."""
        return f"\N{EM DASH} {self.name} {_base64(self.key_id + self.signature)}\n"


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A checkpoint and its signatures, read but not yet believed: `verify` says whose it is."""

    checkpoint: Checkpoint
    signatures: tuple[Signature, ...]

    def text(self) -> str:
        """The whole note."""
        return self.checkpoint.text() + "\n" + "".join(signature.line() for signature in self.signatures)


class VerifierKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key and the name it signs under."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or len(self.public) != HASH_BYTES:
            raise Malformed("verifier_key_malformed", f"`{self.name[:80]!a}` and `{len(self.public)}` bytes are no key")

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand for this key in a signature line."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def encode(self) -> str:
        """The text form, `name+key id+key`, that people pass around."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(ED25519 + self.public)}"

    @classmethod
    def decode(cls, text: str) -> VerifierKey:
        """Read the text form.

        Raises:
            Malformed: it is not the text form of an Ed25519 key, or its key id is not the key's.
        """
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = _decoded(encoded)
        if not _KEY_ID.match(key_id) or raw is None or raw[:1] != ED25519:
            raise Malformed(
                "verifier_key_malformed", f"`{text[:80]!a}` is not a verifier key", hint="it reads `name+8 hex+base64`"
            )
        key = cls(name=name, public=raw[1:])
        if key.key_id.hex() != key_id:
            raise Malformed("verifier_key_malformed", f"`{key_id}` is not the id of this key", hint="copy it whole")
        return key

    def signed(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` over `text` was made with the private half of this key."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


class Signer:
    """A private key and the name it signs under. The key cannot be printed, copied or pickled out of it."""

    __slots__ = ("_private", "key")

    def __init__(self, *, name: str, seed: bytes) -> None:
        """Take the 32 secret bytes of an Ed25519 key.

        Raises:
            Malformed: the seed has another length, or the name a space or a plus.
        """
        if len(seed) != HASH_BYTES:
            raise Malformed("signing_key_malformed", f"a signing key has 32 bytes, not `{len(seed)}`")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = VerifierKey(name=name, public=self._private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"<signer {self.key.encode()}>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a signer cannot be serialised or copied")

    def sign(self, text: bytes) -> Signature:
        """The signature line over `text`."""
        return Signature(name=self.key.name, key_id=self.key.key_id, signature=self._private.sign(text))


def sign(checkpoint: Checkpoint, signer: Signer) -> str:
    """The note that says `checkpoint`, signed by `signer` alone."""
    text = checkpoint.text()
    return f"{text}\n{signer.sign(text.encode()).line()}"


def cosign(note: str, signer: Signer) -> str:
    """The note with the line of a further signer, a witness. What it has to check first is the witness's business.

    Raises:
        Malformed: the text is not a note, or holds all the signatures it may.
        Refused: this key has signed it already.
    """
    read = parse(note)
    if len(read.signatures) >= SIGNATURES_MAX:
        raise Malformed("note_malformed", f"the note has `{SIGNATURES_MAX}` signatures already")
    if any(_claims(line, signer.key) for line in read.signatures):
        raise Refused("note_signed_already", f"`{signer.key.name}` has signed this note already")
    return note + signer.sign(read.checkpoint.text().encode()).line()


def parse(note: str) -> Note:
    """Read a note. Nothing is verified.

    Raises:
        Malformed: it is not exactly a checkpoint's three lines, an empty line and signature lines.
    """
    if len(note) > NOTE_CHARACTERS_MAX:
        raise Malformed("note_malformed", f"the note has `{len(note)}` characters, the limit is {NOTE_CHARACTERS_MAX}")
    lines = note.split("\n")
    if len(lines) < 6 or lines[3] or lines[-1]:
        raise Malformed("note_malformed", "a note is three lines, an empty line and signatures, each with a line end")
    if len(lines) - 5 > SIGNATURES_MAX:
        raise Malformed("note_malformed", f"the note has more than `{SIGNATURES_MAX}` signatures")
    signatures = tuple(_signature(line) for line in lines[4:-1])
    return Note(checkpoint=_checkpoint(lines[0], lines[1], lines[2]), signatures=signatures)


def verify(note: str, key: VerifierKey) -> Checkpoint:
    """Return what the note says, if the holder of `key` signed it.

    Raises:
        Malformed: the text is not a note.
        Refused: `key` did not sign it, or a line that claims so is false.
    """
    read = parse(note)
    if not signers(read, [key]):
        raise Refused("checkpoint_unsigned", f"`{key.name}` did not sign this checkpoint", hint="check the key")
    return read.checkpoint


def signers(note: Note, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Which of `keys` signed the note; lines by other keys are ignored.

    Raises:
        Refused: a line claims to be by one of `keys` and is not.
    """
    text = note.checkpoint.text().encode()
    found = []
    for key in keys:
        lines = [line for line in note.signatures if _claims(line, key)]
        if not all(key.signed(text, line.signature) for line in lines):
            raise Refused("checkpoint_forged", f"a signature that claims to be by `{key.name}` is not")
        if lines:
            found.append(key)
    return tuple(found)


def _claims(line: Signature, key: VerifierKey) -> bool:
    return line.name == key.name and line.key_id == key.key_id


def _checkpoint(name: str, size: str, root: str) -> Checkpoint:
    raw = _decoded(root)
    if not _NUMBER.match(size) or raw is None:
        raise Malformed("checkpoint_malformed", "the second line must be a size and the third a root in base 64")
    return Checkpoint(origin=name, size=int(size), root=raw)


def _signature(line: str) -> Signature:
    parts = line.split(" ")
    raw = _decoded(parts[-1])
    if len(parts) != 3 or parts[0] != "\N{EM DASH}" or not _NAME.match(parts[1]) or raw is None or len(raw) < 5:
        raise Malformed("note_malformed", f"`{line[:80]!a}` is not a signature line")
    return Signature(name=parts[1], key_id=raw[:4], signature=raw[4:])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(text: str) -> bytes | None:
    """The bytes of `text` if it is their one base 64 spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _base64(data) == text else None
