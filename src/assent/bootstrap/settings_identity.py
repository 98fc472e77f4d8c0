"""The settings of who can sign in from elsewhere.

[identity.NAME]    issuer, audience, keys, algorithms, claim, as, for, may_answer: an identity provider whose tokens
                   are taken
[workloads.NAME]   as, for, names: which names in a TLS certificate show which agent or service
"""

from __future__ import annotations

from pathlib import Path

from joserfc.jwk import KeySet

from assent.bootstrap.settings_text import Document, quoted
from assent.operations.identity.certificates import Workload, workload_fault
from assent.operations.identity.providers import (
    ALGORITHMS,
    DEFAULT_ALGORITHMS,
    KEYS_BYTES_MAX,
    KINDS,
    Provider,
    read_keys,
)
from assent.policy.principals import chain_fault
from assent.primitives.errors import Malformed

IDENTITY_KEYS = ("issuer", "audience", "keys", "algorithms", "claim", "as", "for", "may_answer")
_DEFAULTS = {"issuer": "", "audience": "", "keys": "", "claim": "sub", "as": "person", "for": ""}
WORKLOAD_KEYS = ("as", "for", "names")


def read_identity(document: Document, *, home: Path, workspace: Path) -> tuple[Provider, ...]:
    """The identity providers a document declares; what is wrong is added to its faults. `keys` is a file."""
    found = [_provider(document, name, home, workspace) for name in document.tables(("identity",))]
    providers = tuple(one for one in found if one is not None)
    issuers = [one.issuer for one in providers]
    for one in providers:
        if issuers.count(one.issuer) > 1:
            document.fault(("identity", one.name, "issuer"), f"two providers have the issuer `{quoted(one.issuer)}`")
    return providers


def read_workloads(document: Document) -> tuple[Workload, ...]:
    """Whom certificates show."""
    found = []
    for name in document.tables(("workloads",)):
        key = ("workloads", name)
        document.only(key, WORKLOAD_KEYS)
        one = Workload(
            principal=document.text((*key, "as"), default=f"service:{name}"),
            names=document.texts((*key, "names")),
            on_behalf_of=document.text((*key, "for"), default=""),
        )
        if fault := workload_fault(one):
            document.fault(key, fault)
        found.append(one)
    taken = [name for one in found for name in one.names]
    for twice in sorted({name for name in taken if taken.count(name) > 1}):
        document.fault(("workloads",), f"`{quoted(twice)}` would show two workloads")
    return tuple(found)


def _provider(document: Document, name: str, home: Path, workspace: Path) -> Provider | None:
    key = ("identity", name)
    document.only(key, IDENTITY_KEYS)
    before = len(document.faults)
    said = {field: document.text((*key, field), default=default) for field, default in _DEFAULTS.items()}
    algorithms = document.texts((*key, "algorithms")) or DEFAULT_ALGORITHMS
    for field in ("issuer", "audience", "keys"):
        if not said[field]:
            document.fault((*key, field), f"`{field}` is missing")
    if said["as"] not in KINDS:
        document.fault((*key, "as"), f"`{quoted(said['as'])}` is not one of {', '.join(f'`{one}`' for one in KINDS)}")
    if wrong := set(algorithms) - ALGORITHMS:
        document.fault((*key, "algorithms"), f"`{quoted(min(wrong))}` cannot be checked without being able to sign")
    if said["as"] == "service" and (fault := chain_fault("service:any", (said["for"],))):
        document.fault((*key, "for"), f"a service acts on somebody's behalf: {fault}")
    may_answer = document.flag((*key, "may_answer"), default=False)
    if may_answer and said["as"] != "person":
        document.fault((*key, "may_answer"), "only people answer reviews")
    keys = _keys(document, (*key, "keys"), said["keys"], home, workspace)
    if keys is None or len(document.faults) > before:
        return None
    return Provider(
        name=name, issuer=said["issuer"], audience=said["audience"], keys=keys, algorithms=algorithms,
        claim=said["claim"], kind=said["as"], on_behalf_of=said["for"],
        may_answer=may_answer,
    )  # fmt: skip


def _keys(document: Document, key: tuple[str, ...], written: str, home: Path, workspace: Path) -> KeySet | None:
    """Whose signatures count, from a file that an agent must not be able to write."""
    if not written:
        return None
    path = (home / written).resolve()
    if path.is_relative_to(workspace):
        document.fault(key, f"`{quoted(written)}` lies in the workspace, so an agent could change it")
        return None
    try:
        with path.open("rb") as file:
            return read_keys(file.read(KEYS_BYTES_MAX + 1))
    except (OSError, Malformed) as error:
        document.fault(key, f"`{quoted(written)}` cannot be used: {error}")
        return None
