"""The log's signing key and the folder it lives in. Neither is ever mounted into a sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from assent.ledger.checkpoints import Signer, key_name
from assent.primitives.clock import Entropy
from assent.primitives.errors import Malformed, Unavailable


class LogIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The log's id and the signer of its checkpoints."""

    log_id: str
    signer: Signer


def log_identity(folder: Path, *, entropy: Entropy) -> LogIdentity:
    """Read the log's key, or make one at the first start. The public half stands beside it as `log.pub`.

    Raises:
        Unavailable: `key_unreadable`: the key is damaged, or others may read it. `key_unwritable`: there is none and
            none can be made.
    """
    path = folder / "log.key"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _create(path, entropy)
    except OSError as error:
        raise Unavailable(
            "key_unwritable", f"`{path}` cannot be made: {error.strerror}", hint="check the folder's permissions"
        ) from error
    if path.stat().st_mode & 0o077:
        raise Unavailable("key_unreadable", f"others may read `{path}`", hint=f"run `chmod 600 {path}`")
    try:
        log_id, seed = path.read_text(encoding="ascii").split()
        signer = Signer(name=key_name(log_id=log_id), seed=bytes.fromhex(seed))
    except (ValueError, Malformed) as error:
        raise Unavailable(
            "key_unreadable", f"`{path}` is not a log key", hint="restore it from a backup of the folder"
        ) from error
    public = folder / "log.pub"
    if not public.exists():
        public.write_text(signer.key.encode() + "\n", encoding="ascii")
    return LogIdentity(log_id=log_id, signer=signer)


def _create(path: Path, entropy: Entropy) -> None:
    """Write the key beside its place and link it in, so that two first starts agree on one key."""
    draft = path.with_suffix(f".{entropy(8).hex()}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{entropy(8).hex()} {entropy(32).hex()}\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
