"""The settings of the ways out to hosts: how TLS is judged, who we are, and through which proxy.

[web]  proxy, authorities, certificate, key, tls_version_min: for every lane that speaks to hosts

The environment is never asked for any of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from assent.bootstrap.settings_text import Document, quoted
from assent.execution.hosts import check_proxy
from assent.execution.tls import TlsSettings
from assent.primitives.errors import Malformed

WEB_KEYS = ("proxy", "authorities", "certificate", "key", "tls_version_min")


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The proxy (`host:port`, or empty: none), and how TLS is judged."""

    proxy: str = ""
    tls: TlsSettings = TlsSettings()


def read_web(document: Document, *, home: Path, workspace: Path) -> WebSettings:
    """The ways out a document declares; what is wrong is added to its faults. Paths are relative to `home`."""
    document.only(("web",), WEB_KEYS)
    files = {name: _file(document, name, home, workspace) for name in ("authorities", "certificate", "key")}
    if files["key"] and not files["certificate"]:
        document.fault(("web", "key"), "a `key` without a `certificate` is of no use")
    return WebSettings(
        proxy=_proxy(document),
        tls=TlsSettings(
            authorities_file=files["authorities"],
            certificate_file=files["certificate"],
            key_file=files["key"],
            version_min=_version(document),
        ),
    )


def _proxy(document: Document) -> str:
    key = ("web", "proxy")
    written = document.text(key, default="")
    try:
        return check_proxy(written)
    except Malformed as malformed:
        document.fault(key, f"`{quoted(written)}` is no proxy such as `127.0.0.1:3128`: {malformed.message}")
        return ""


def _version(document: Document) -> Literal["1.2", "1.3"]:
    key = ("web", "tls_version_min")
    written = document.text(key, default="1.2")
    if written not in ("1.2", "1.3"):
        document.fault(key, f'`tls_version_min` must be "1.2" or "1.3", not `{quoted(written)}`')
    return "1.3" if written == "1.3" else "1.2"


def _file(document: Document, name: str, home: Path, workspace: Path) -> str:
    """A file that says whom to trust, or who we are: an agent must not be able to write it, or to read it."""
    key = ("web", name)
    written = document.text(key, default="")
    if not written:
        return ""
    if not written.isprintable():
        document.fault(key, f"`{name}` must be the path of a file")
        return ""
    path = (home / written).resolve()
    if path.is_relative_to(workspace):
        document.fault(key, f"`{path}` lies in the workspace, so an agent could change it")
    elif not path.is_file():
        document.fault(key, f"there is no file `{path}`")
    return str(path)
