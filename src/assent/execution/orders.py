"""Orders: exactly what a lane is to carry, with nothing left to choose. Pure values.

An order is made by a connector from an intent and the obligations of the decision; its digest is bound into the grant,
so the order that runs is the order that was allowed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from assent.primitives.digests import Digest, digest


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ends a lane's work, whatever it wants. The receipt names the limit that did.

    `wall_ms` from start to end; `output_bytes_max` over all streams (or the response body); the rest for processes.
    """

    wall_ms: int = 30_000
    output_bytes_max: int = 1_048_576
    memory_bytes_max: int = 1_073_741_824
    processes_max: int = 64
    cpu_s_max: int = 30
    file_bytes_max: int = 268_435_456
    open_files_max: int = 256


class ProcessOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="process"):
    """Run one program to its end.

    `argv[0]` is a name searched on the sandbox's PATH or an absolute path inside it. `workspace` is an absolute path on
    the host, bound at the same path inside; `cwd` is relative to it. `env` is the whole environment besides the fixed
    base (PATH, HOME, LANG, TMPDIR).
    """

    argv: tuple[str, ...]
    workspace: str
    cwd: str = "."
    workspace_writable: bool = True
    stdin: bytes = b""
    env: dict[str, str] = {}
    limits: Limits = Limits()


class HttpOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="http"):
    """One HTTP exchange, redirects included.

    `hosts` is the whole allow-list as `host:port`; an IP literal or a private address is reachable only when it is
    listed literally. `idempotency_key` is sent as the `Idempotency-Key` header when not empty.
    """

    method: str
    url: str
    hosts: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    redirects_max: int = 3
    idempotency_key: str = ""
    limits: Limits = Limits()


class FileOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="file"):
    """One file operation beneath `workspace` (absolute, on the host). `path` is relative and never leaves it."""

    verb: Literal["read", "write", "append", "delete", "list", "stat", "make_folder"]
    workspace: str
    path: str
    content: bytes = b""
    recursive: bool = False
    limits: Limits = Limits()


Order = ProcessOrder | HttpOrder | FileOrder


def order_digest(order: Order) -> Digest:
    """The digest a grant is bound to: over the order's sorted encoding (RFC 8785 holds: ASCII keys, integers)."""
    return digest(msgspec.json.encode(order, order="sorted"))
