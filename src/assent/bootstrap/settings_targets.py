"""The settings of targets beyond this machine, and of the door through which guests come in.

[targets.NAME]  kind = "ssh": a host reached by SSH; kind = "guest": a guest node that was invited under this name
[hub]           where `assent node serve` listens for guests, and for how long one may be silent
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from assent.bootstrap.settings_text import Document, near, quoted
from assent.execution.targets import LOCAL

KINDS = ("ssh", "guest")
TARGET_KEYS: dict[str, tuple[str, ...]] = {
    "ssh": ("kind", "host", "port", "user", "identity", "known_hosts", "workspace"),
    "guest": ("kind", "trusted"),
}
ALL_KEYS = (*TARGET_KEYS["ssh"], "trusted")
HUB_KEYS = ("listen", "lease_s")
PORT_MAX = 65_535
LEASE_S_MIN, LEASE_S_MAX = 2, 300

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,252}\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\Z")


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One declared target. The fields of the other kind stand at their defaults."""

    name: str
    kind: Literal["ssh", "guest"]
    host: str = ""
    port: int = 22
    user: str = ""
    identity: str = ""
    known_hosts: str = ""
    workspace: str = ""
    trusted: bool = False


class HubSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the hub listens (port 0: any), and for how long a guest may be silent before it loses its fences."""

    host: str = "127.0.0.1"
    port: int = 7743
    lease_s: int = 10


def read_targets(document: Document, *, home: Path, workspace: Path) -> tuple[TargetSettings, ...]:
    """The targets a document declares; what is wrong is added to its faults. Paths are relative to `home`."""
    found = []
    for name in document.tables(("targets",)):
        key = ("targets", name)
        if not _NAME.match(name) or name == LOCAL:
            document.fault(key, f"`{quoted(name)}` is no name for a target: lower-case letters, digits and hyphens")
            continue
        kind = document.text((*key, "kind"), default="")
        if kind not in KINDS:
            document.fault((*key, "kind"), f"`kind` must be one of `ssh`, `guest`{near(kind, KINDS) if kind else ''}")
            document.only(key, ALL_KEYS)
            continue
        document.only(key, TARGET_KEYS[kind])
        if kind == "ssh":
            found.append(_ssh(document, name, home, workspace))
        else:
            trusted = document.flag((*key, "trusted"), default=False)
            found.append(TargetSettings(name=name, kind="guest", trusted=trusted))
    return tuple(found)


def read_hub(document: Document) -> HubSettings:
    """Where the hub listens."""
    document.only(("hub",), HUB_KEYS)
    default = HubSettings()
    key = ("hub", "listen")
    written = document.text(key, default=f"{default.host}:{default.port}")
    host, _, port = written.rpartition(":")
    if not _HOST.match(host) or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        document.fault(key, f"`{quoted(written)}` is not an address such as `127.0.0.1:{default.port}`")
        host, port = default.host, str(default.port)
    lease_s = document.number(("hub", "lease_s"), default=default.lease_s, least=LEASE_S_MIN, most=LEASE_S_MAX)
    return HubSettings(host=host, port=int(port), lease_s=lease_s)


def _ssh(document: Document, name: str, home: Path, workspace: Path) -> TargetSettings:
    def text(field: str, shape: re.Pattern[str]) -> str:
        key = ("targets", name, field)
        written = document.text(key, default="")
        if not shape.match(written):
            document.fault(key, f"`{field}` of target `{name}` is missing, or is none: `{quoted(written)}`")
        return written

    folder = document.text(("targets", name, "workspace"), default="")
    if not folder.startswith("/") or not folder.isprintable():
        document.fault(("targets", name, "workspace"), f"`workspace` of target `{name}` must be an absolute path there")
    return TargetSettings(
        name=name,
        kind="ssh",
        host=text("host", _HOST),
        port=document.number(("targets", name, "port"), default=22, least=1, most=PORT_MAX),
        user=text("user", _USER),
        identity=_file(document, name, "identity", home, workspace),
        known_hosts=_file(document, name, "known_hosts", home, workspace),
        workspace=folder,
    )


def _file(document: Document, name: str, field: str, home: Path, workspace: Path) -> str:
    """A file here that says whom to trust: an agent must not be able to write it."""
    key = ("targets", name, field)
    written = document.text(key, default="")
    if not written or '"' in written or not written.isprintable():
        document.fault(key, f"`{field}` of target `{name}` must be the path of a file")
        return ""
    path = (home / written).resolve()
    if path.is_relative_to(workspace):
        document.fault(key, f"`{path}` lies in the workspace, so an agent could change it")
    return str(path)
