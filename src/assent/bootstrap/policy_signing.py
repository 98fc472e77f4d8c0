"""Signing policy files: a person's key, kept where they like, and the signatures beside the files."""

from __future__ import annotations

import os
from pathlib import Path

from assent.ledger.checkpoints import Signer
from assent.ledger.policy_signatures import SignedRevision, parse
from assent.primitives.clock import Entropy
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed, Refused, Unavailable

SIGNATURES = "policy.sig"
FILE_BYTES_MAX = 65_536


def read_signatures(folder: Path, revision: str) -> tuple[str, ...]:
    """The signature lines beside the policy files; those of another revision are none.

    Raises:
        Malformed: `signature_malformed`.
    """
    path = folder / SIGNATURES
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX).decode()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(
            "signature_malformed", f"`{path}` cannot be read", hint="make it anew with `assent policy sign`"
        ) from error
    found = parse(text)
    return found.lines if found.revision == revision else ()


def add_signature(folder: Path, revision: Digest, signer: Signer) -> int:
    """Put the signature of `signer` beside the policy files. Returns how many signatures they have now.

    Raises:
        Malformed: `signature_malformed`: what stands there cannot be read.
    """
    there = SignedRevision(revision=revision, lines=read_signatures(folder, revision))
    signed = there.signed(signer)
    draft = folder / f".{SIGNATURES}.new"
    draft.write_text(signed.text(), encoding="ascii")
    draft.replace(folder / SIGNATURES)
    return len(signed.lines)


def read_signer(path: Path) -> Signer:
    """The key in a file that `make_signer` wrote.

    Raises:
        Unavailable: `key_unreadable`: it is no key, or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(FILE_BYTES_MAX)
        if mode & 0o077:
            raise Unavailable("key_unreadable", f"others may read `{path}`", hint=f"run `chmod 600 {path}`")
        name, seed = data.decode("ascii").split()
        return Signer(name=name, seed=bytes.fromhex(seed))
    except (OSError, ValueError, Malformed) as error:
        raise Unavailable(
            "key_unreadable", f"`{path}` is no signing key", hint="make one with `assent policy sign --new NAME`"
        ) from error


def must_lie_apart(path: Path, workspace: Path) -> None:
    """A key that agents can read signs for them.

    Raises:
        Refused: `key_in_workspace`.
    """
    if path.resolve().is_relative_to(workspace):
        raise Refused("key_in_workspace", f"`{path}` lies in the workspace", hint="keep the key where no agent works")


def make_signer(path: Path, name: str, *, entropy: Entropy) -> Signer:
    """Make a key at `path`, which nobody else may read.

    Raises:
        Malformed: `verifier_key_malformed`: the name has a space or a plus.
        Refused: `key_exists`: something is there already.
    """
    seed = entropy(32)
    signer = Signer(name=name, seed=seed)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError as error:
        raise Refused("key_exists", f"`{path}` is there already", hint="leave out --new to sign with it") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{name} {seed.hex()}\n")
        file.flush()
        os.fsync(file.fileno())
    return signer
